"""The marks, what is pending between them, and who waits."""

from __future__ import annotations

import sys
from typing import Final

from aioresilience.straight import straight
from aioresilience.waiters import Waiter, WaitQueue

_GIL: Final = getattr(sys, "_is_gil_enabled", lambda: True)()
_PACE: Final = 2


class BackpressureMachine:
    """Counts running calls; from the high mark on it is `active`, until they have fallen to the low mark.

    Then every call that ends lets two waiters in, until the line is empty or the high mark is reached again: the load
    doubles with each round of calls, as in TCP's slow start. Whoever finds a mark or a
    waiter that depends on the call holds the lock of the queue.
    """

    __slots__ = ("active", "high", "low", "max_pending", "pending", "queue")

    def __init__(self, max_pending: int, high: int, low: int) -> None:
        self.max_pending = max_pending
        self.high = high
        self.low = low
        self.pending = 0
        self.active = False
        self.queue = WaitQueue()

    @property
    def full(self) -> bool:
        """Whether not even a place in the line is left."""
        return self.pending + self.queue.waiting >= self.max_pending

    @straight
    def try_enter(self) -> bool:
        """Let a call in unless others wait or it would pass the high mark; reaching the mark applies backpressure."""
        pending = self.pending + 1
        if self.active or self.queue.waiting or pending > self.high:
            return False
        self.pending = pending
        if pending >= self.high:
            self.active = True
        return True

    @straight
    def enter(self) -> bool:
        """Let a call in, with the lock where threads run at the same time."""
        return self.try_enter() if _GIL else self._enter()

    def _enter(self) -> bool:
        with self.queue.lock:
            return self.try_enter()

    def join(self) -> Waiter | bool:
        """Let a call in (True), queue it up (a waiter), or refuse it (False)."""
        queue = self.queue
        with queue.lock:
            if self.try_enter():
                return True
            return False if self.full else queue.join()

    @straight
    def leave(self) -> None:
        """Let a call out; at the low mark backpressure ends, and after that every end lets two waiters in."""
        if not _GIL or self.active or self.queue.waiting:
            return self._leave()
        self.pending -= 1
        return None

    def _leave(self) -> None:
        with self.queue.lock:
            self.pending -= 1
            if self.pending <= self.low:
                self.active = False
            self._relieve()

    def _relieve(self) -> None:
        queue = self.queue
        for _ in range(_PACE):
            if self.active or not queue.waiting:
                return
            self.pending += 1  # before the grant: whoever comes in between must not take this place
            if not queue.grant():
                self.pending -= 1
                return
            self.active = self.pending >= self.high

    def retune(self, max_pending: int, high: int, low: int) -> None:
        """Move the marks: what runs goes on, whoever waits keeps the place in the line."""
        with self.queue.lock:
            self.max_pending, self.high, self.low = max_pending, high, low
            if self.pending <= low:
                self.active = False
            elif self.pending >= high:
                self.active = True
            self._relieve()
