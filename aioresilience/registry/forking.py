"""A fork in the middle of a swap would leave a child with half of it, and with locks that nobody gives back."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aioresilience.registry.registry import Registry

_registries: weakref.WeakSet[Registry] = weakref.WeakSet()
_held: list[Registry] = []
_lock = threading.Lock()


def follow(registry: Registry) -> None:
    """Look after a registry when the process forks."""
    with _lock:
        _registries.add(registry)


def _before() -> None:
    _lock.acquire()
    for registry in list(_registries):
        registry.swapping.acquire()
        registry.lock.acquire()
        _held.append(registry)


def _in_parent() -> None:
    while _held:
        registry = _held.pop()
        registry.lock.release()
        registry.swapping.release()
    _lock.release()


def _in_child() -> None:
    _held.clear()
    _lock.release()
    for registry in list(_registries):
        registry.restart_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
