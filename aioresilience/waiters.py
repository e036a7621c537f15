"""The one queue for all waiting: first in, first out, over several loops and threads.

A permit that is granted belongs to its waiter from that moment: a waiter that is cancelled, timed out or destroyed
afterwards hands it back through `on_return`, and a waiter whose loop is closed is passed over.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from aioresilience.clock import Clock

_WAITING, _GRANTED, _GONE = range(3)


class Waiter:
    """One place in the queue, bound to the loop of the task that waits."""

    __slots__ = ("future", "loop", "note", "state")

    def __init__(self, note: object = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[bool] = self.loop.create_future()
        self.state = _WAITING
        self.note = note

    def wake(self, granted: bool) -> bool:
        """Tell the waiting task on its own loop; False when that loop is closed."""
        if asyncio._get_running_loop() is self.loop:
            self._tell(granted)
            return True
        try:
            self.loop.call_soon_threadsafe(self._tell, granted)
        except RuntimeError:
            return False
        return True

    def _tell(self, granted: bool) -> None:
        if not self.future.done():
            self.future.set_result(granted)


NOBODY: Final[deque[Waiter]] = deque()
"""The line where nobody ever waited: an empty deque of its own takes 0.6 KB."""


class WaitQueue:
    """Waiters in order of arrival.

    `lock` guards the line; it is re-entrant because a waiter's clean-up may run inside it (garbage collection).
    `waiting` is the length of the line, a plain number that lock-free code may read.
    """

    __slots__ = ("_line", "lock", "waiting")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.waiting = 0
        self._line = NOBODY

    def join(self, note: object = None) -> Waiter:
        """Take a place at the end and count it into `waiting`; the caller holds the lock."""
        waiter = Waiter(note)
        self.waiting += 1
        if self._line is NOBODY:
            self._line = deque()
        self._line.append(waiter)
        return waiter

    def first(self) -> Waiter | None:
        """Return who is next; the caller holds the lock."""
        return self._line[0] if self._line else None

    def grant(self) -> bool:
        """Hand one permit to the first waiter whose loop lives, under the lock; False when nobody is left."""
        while self._line:
            waiter = self._line.popleft()
            self.waiting -= 1
            waiter.state = _GRANTED
            if waiter.wake(granted=True):
                return True
            waiter.state = _GONE
        return False

    def leave(self, waiter: Waiter) -> bool:
        """Give up the place; True when a permit had been granted, which the caller must then hand back."""
        with self.lock:
            state, waiter.state = waiter.state, _GONE
            if state == _WAITING:
                self._line.remove(waiter)
                self.waiting -= 1
            return state == _GRANTED

    def expire(self, waiter: Waiter) -> None:
        """Send a waiter away whose time is up; a permit granted meanwhile stays with it."""
        with self.lock:
            if waiter.state != _WAITING:
                return
            self._line.remove(waiter)
            self.waiting -= 1
            waiter.state = _GONE
        waiter.wake(granted=False)

    async def wait(self, waiter: Waiter, until: float | None, clock: Clock, on_return: Callable[[], object]) -> bool:
        """Wait for the permit; False when `until` (monotonic) comes first. `on_return` takes an unused permit back."""
        timer = None if until is None else clock.call_at(waiter.loop, until, lambda: self.expire(waiter))
        try:
            return await waiter.future
        except BaseException:
            if self.leave(waiter):
                on_return()
            raise
        finally:
            if timer is not None:
                timer.cancel()
