"""The policy names that code mentions: a typo fails the start and not the first payment, and is told what was meant."""

from __future__ import annotations

import difflib
import threading
import weakref
from collections.abc import Collection
from typing import TYPE_CHECKING

from aioresilience.exceptions import UnknownPolicyError
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


def unknown(name: str, known: Collection[str]) -> UnknownPolicyError:
    """Say that there is no such policy, and which names are near."""
    near = difflib.get_close_matches(str(name), known, 3, 0.5)
    all_ = f"known: {', '.join(sorted(known)) or 'none'}"
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else all_
    return UnknownPolicyError(f"no policy is named {name!r}; {hint}", policy=str(name), near=near)
