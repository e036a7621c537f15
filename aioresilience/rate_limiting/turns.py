"""Whose turn it is to ask a server: for each key those who wait ask one after another, in order of arrival."""

from __future__ import annotations

import threading
from functools import partial

from aioresilience.clock import Clock
from aioresilience.waiters import WaitQueue


class Turns:
    """The lines of one limiter; who has the turn asks, sleeps and asks again, then passes it on."""

    __slots__ = ("_clock", "_lock", "lines")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self.lines: dict[str, WaitQueue] = {}

    async def take(self, key: str, until: float, longest: int) -> bool:
        """Wait for the turn; False when `until` (monotonic) comes first, or `longest` wait already."""
        with self._lock:
            line = self.lines.get(key)
            if line is None:
                self.lines[key] = WaitQueue()
                return True
            if line.waiting >= longest:
                return False
            with line.lock:
                waiter = line.join()
        return await line.wait(waiter, until, self._clock, partial(self.pass_on, key))

    def pass_on(self, key: str) -> None:
        """Give the turn to the next one."""
        with self._lock:
            line = self.lines[key]
            with line.lock:
                if not line.grant():
                    del self.lines[key]

    @property
    def waiting(self) -> int:
        """How many wait, those included whose turn it is."""
        return sum(line.waiting + 1 for line in list(self.lines.values()))
