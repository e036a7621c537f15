"""The policy names that code mentions, so that a typo fails the start and not the first payment."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

from aioresilience.forks import held_at_forks

if TYPE_CHECKING:
    from aioresilience.registry.registry import Registry

_lock = threading.Lock()
held_at_forks(_lock)
_default: set[str] = set()
_own: weakref.WeakKeyDictionary[Registry, set[str]] = weakref.WeakKeyDictionary()


def declare(name: str, registry: Registry | None = None) -> None:
    """Note that code uses the name, of that registry or of the default one."""
    with _lock:
        (_default if registry is None else _own.setdefault(registry, set())).add(name)


def declared_names(registry: Registry, *, default: bool = False) -> set[str]:
    """Return the names that code uses of the registry; with `default` those of the default registry too."""
    with _lock:
        return set(_own.get(registry, ())) | (set(_default) if default else set())
