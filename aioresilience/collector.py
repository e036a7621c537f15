"""The cyclic collector, kept from looking at trees that grow and are gone again soon."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aioresilience.forks import held_at_forks


class _Pauses:
    """How many readers hold the collector, and whether it ran before the first of them."""

    lock = threading.Lock()
    holders = 0
    was_enabled = False


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep the cyclic collector from running over a growing tree; nests, also across threads."""
    _pause()
    try:
        yield
    finally:
        _resume()


@contextmanager
def collector_resumed() -> Iterator[None]:
    """Let the collector run within `collector_paused` while something is waited for, which may hang."""
    _resume()
    try:
        yield
    finally:
        _pause()


def _pause() -> None:
    with _Pauses.lock:
        if _Pauses.holders == 0:
            _Pauses.was_enabled = gc.isenabled()
            gc.disable()
        _Pauses.holders += 1


def _resume() -> None:
    with _Pauses.lock:
        _Pauses.holders -= 1
        if _Pauses.holders == 0 and _Pauses.was_enabled:
            gc.enable()


def _forget_pauses() -> None:
    """Let the collector run in a forked child, where the readers of other threads are gone."""
    if _Pauses.holders and _Pauses.was_enabled:
        gc.enable()
    _Pauses.holders = 0


held_at_forks(_Pauses.lock)  # or else the child could find it stopped, and nobody counted who stopped it
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pauses)
