"""A fork in the middle of a swap would leave a child with half of it, and with locks that nobody gives back."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aioresilience.registry.registry import Registry

_registries: weakref.WeakSet[Registry] = weakref.WeakSet()
_held: list[Registry] = []


def follow(registry: Registry) -> None:
    """Look after a registry when the process forks."""
    _registries.add(registry)


def _before() -> None:
    for registry in list(_registries):
        registry.swapping.acquire()
        registry.lock.acquire()
        _held.append(registry)


def _in_parent() -> None:
    while _held:
        registry = _held.pop()
        registry.lock.release()
        registry.swapping.release()


def _in_child() -> None:
    _held.clear()
    for registry in list(_registries):
        registry.restart_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
