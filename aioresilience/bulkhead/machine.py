"""The places of a bulkhead, counted without awaiting."""

from __future__ import annotations

import sys
from typing import Final

from aioresilience.straight import straight
from aioresilience.waiters import Waiter, WaitQueue

_GIL: Final = getattr(sys, "_is_gil_enabled", lambda: True)()


class BulkheadMachine:
    """Counts free places; below zero it is in debt after a shrink, which releases pay.

    Whoever finds a queue on release, or runs without a GIL, takes the lock of the queue.
    """

    __slots__ = ("free", "limit", "max_waiting", "peak", "queue")

    def __init__(self, limit: int, max_waiting: int) -> None:
        self.limit = self.free = limit
        self.max_waiting = max_waiting
        self.peak = 0
        self.queue = WaitQueue()

    @property
    def active(self) -> int:
        """How many places are in use."""
        return self.limit - self.free

    @straight
    def try_take(self) -> bool:
        """Take a place if one is free and nobody waits for it."""
        free = self.free - 1
        if free < 0 or self.queue.waiting:
            return False
        self.free = free
        used = self.limit - free
        if used > self.peak:
            self.peak = used
        return True

    def join(self) -> Waiter | bool:
        """Take a place (True), queue up (a waiter), or find the queue full (False)."""
        queue = self.queue
        with queue.lock:
            if self.try_take():
                return True
            if queue.waiting >= self.max_waiting:
                return False
            waiter = queue.join()
            self.pump()  # a place may have come free without the lock before the line was seen
            return waiter

    @straight
    def release(self) -> None:
        """Give a place back, to the first waiter if there is one."""
        if not _GIL or self.queue.waiting:
            return self._release()
        self.free += 1
        return None

    def _release(self) -> None:
        with self.queue.lock:
            self.free += 1
            self.pump()

    def pump(self) -> None:
        """Hand free places to waiters, first come first served; the caller holds the lock."""
        queue = self.queue
        while queue.waiting and self.free > 0:
            self.free -= 1
            if not queue.grant():
                self.free += 1
                return
            self.peak = max(self.peak, self.limit - self.free)

    def resize(self, limit: int, max_waiting: int) -> None:
        """Change the number of places: what is in use stays, growth wakes waiters at once."""
        with self.queue.lock:
            self.free += limit - self.limit
            self.limit = limit
            self.max_waiting = max_waiting
            self.pump()
