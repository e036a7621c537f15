"""What lasts longer than most: one timer per loop for all requests."""

from __future__ import annotations

import asyncio
import weakref
from typing import Final, Protocol

WATCH_AFTER: Final = 0.05
"""Seconds: a request that takes longer, by up to as much again, is watched for a client that leaves."""


class Watched(Protocol):
    """What may last long."""

    def fire(self) -> None:
        """Hear that it does."""


class Watch:
    """The requests of one loop: those of this interval, and those of the one before, which are fired at its end."""

    __slots__ = ("_old", "loop", "ticks", "young")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = weakref.ref(loop)
        self.young: dict[Watched, None] = {}
        """To be added to, and `start` to be called where it does not tick."""
        self._old: dict[Watched, None] = {}
        self.ticks = False

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the time of what was added pass."""
        self.ticks = True
        loop.call_later(WATCH_AFTER, self._tick)

    def remove(self, one: Watched) -> None:
        """Forget one that has ended."""
        if self.young.pop(one, self) is self:
            self._old.pop(one, None)

    def _tick(self) -> None:
        lasting, self._old, self.young = self._old, self.young, {}
        loop = self.loop()
        self.ticks = False
        if loop is not None and self._old:
            self.start(loop)
        for one in lasting:
            one.fire()


_watches: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Watch] = weakref.WeakKeyDictionary()
_latest: Watch | None = None


def watch_of(loop: asyncio.AbstractEventLoop) -> Watch:
    """Return the watch of a loop; the last one asked for is remembered."""
    global _latest
    watch = _latest
    if watch is None or watch.loop() is not loop:
        watch = _watches.get(loop)
        if watch is None:
            watch = _watches[loop] = Watch(loop)
        _latest = watch
    return watch
