"""What a closed circuit remembers of its calls: as little as will do.

A success only raises `calls`. That is one straight line of bytecode, which CPython with a GIL does not interrupt, so
that the success path needs no lock: at once where the window is `plain`, else before `until` if the call took less than
`slow_after` seconds. What is stored is the number of each failure, from which follow the failures in a row and what the
window holds.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from typing import Final

from aioresilience.circuit_breaker.config import CircuitConfig, LastSeconds

GIL: Final[bool] = getattr(sys, "_is_gil_enabled", lambda: True)()
SLICES: Final = 10
"""Marks per time window: its far end is exact to a tenth of its length."""

Totals = tuple[int, int, int]
"""Calls, failures and slow calls within the window."""


class CallWindow:
    """Remembers the outcomes of the last `size` calls; with size 0 only the failures in a row.

    `calls` numbers the outcomes from 1.
    """

    __slots__ = ("_failures", "_floor", "_last", "_run", "_slow", "calls", "plain", "size", "slow_after", "until")

    def __init__(self, size: int, slow_after: float = math.inf, streak: int = 0) -> None:
        self.calls = 0
        self.size = size
        self.until = math.inf if GIL else -math.inf
        self.tune(slow_after)
        self._run = streak
        self._last = 0
        self._floor = 0
        self._failures: deque[int] = deque()
        self._slow: deque[int] = deque()

    @property
    def streak(self) -> int:
        """The failures since the last success."""
        return self._run if self._last == self.calls else 0

    def tune(self, slow_after: float) -> None:
        """Say from how many seconds on a call is slow."""
        self.slow_after = slow_after
        self.plain = GIL and slow_after == math.inf

    def note(self, now: float, *, failed: bool, slow: bool) -> None:
        """Take an outcome in; under the machine's lock."""
        number = self.calls + 1
        self.calls = number
        if failed:
            self._run = self._run + 1 if self._last == number - 1 else 1
            self._last = number
        if self.size:
            self._store(number, failed, slow)

    def _store(self, number: int, failed: bool, slow: bool) -> None:
        if failed:
            self._failures.append(number)
        if slow:
            self._slow.append(number)
        self._forget()

    def _forget(self) -> int:
        """Drop what left the window; return the number of the last outcome outside of it."""
        edge = max(self._floor, self.calls - self.size)
        for stored in (self._failures, self._slow):
            while stored and stored[0] <= edge:
                stored.popleft()
        return edge

    def totals(self, now: float) -> Totals:
        """Count what is within the window."""
        edge = self._forget()
        return self.calls - edge, len(self._failures), len(self._slow)

    def resize(self, size: int) -> None:
        """Keep the newest outcomes, as many as fit both the old and the new size."""
        self._floor = max(self._floor, self.calls - min(size, self.size))
        self.size = size
        self._forget()


class TimeWindow:
    """Remembers the outcomes of the last `seconds`, give or take a tenth at the far end.

    Counts only ever grow; a mark every tenth of the window keeps what they were then, and what is within the window is
    what has been added since its oldest mark.
    """

    __slots__ = (
        "_failures", "_last", "_marks", "_next", "_run", "_slow", "calls", "plain", "seconds", "slow_after", "until",
    )  # fmt: skip

    def __init__(self, seconds: float, slow_after: float = math.inf, streak: int = 0) -> None:
        self.calls = self._failures = self._slow = 0
        self.seconds = seconds
        self.plain = False
        self._next = self.until = -math.inf
        self.tune(slow_after)
        self._run = streak
        self._last = 0
        self._marks: list[tuple[float, int, int, int]] = []

    @property
    def streak(self) -> int:
        """The failures since the last success."""
        return self._run if self._last == self.calls else 0

    def tune(self, slow_after: float) -> None:
        """Say from how many seconds on a call is slow."""
        self.slow_after = slow_after

    def note(self, now: float, *, failed: bool, slow: bool) -> None:
        """Take an outcome in; under the machine's lock."""
        if now >= self._next:
            self._mark(now)
        number = self.calls + 1
        self.calls = number
        self._slow += slow
        if failed:
            self._failures += 1
            self._run = self._run + 1 if self._last == number - 1 else 1
            self._last = number

    def _mark(self, now: float) -> None:
        self._marks.append((now, self.calls, self._failures, self._slow))
        self._next = now + self.seconds / SLICES
        self.until = self._next if GIL else -math.inf
        self._forget(now)

    def _forget(self, now: float) -> None:
        oldest = now - self.seconds
        while self._marks and self._marks[0][0] <= oldest:
            del self._marks[0]

    def totals(self, now: float) -> Totals:
        """Count what is within the window."""
        self._forget(now)
        if not self._marks:
            return 0, 0, 0
        _, calls, failures, slow = self._marks[0]
        return self.calls - calls, self._failures - failures, self._slow - slow

    def resize(self, seconds: float, now: float) -> None:
        """Keep the outcomes that are within both the old and the new length, as far as the marks tell them apart."""
        self._forget(now)
        newest = self._marks[-1] if self._marks else None
        self.seconds = seconds
        self._forget(now)
        if newest is not None and not self._marks:
            self._marks.append((now, *newest[1:]))
        self._next = self.until = -math.inf


Outcomes = CallWindow | TimeWindow


def new_window(config: CircuitConfig, streak: int = 0) -> Outcomes:
    """Return an empty window of the kind that the config asks for."""
    spec, slow_after = config.window, _slow_after(config)
    if isinstance(spec, LastSeconds):
        return TimeWindow(spec.seconds, slow_after, streak)
    return CallWindow(0 if spec is None else spec.count, slow_after, streak)


def resized(window: Outcomes, config: CircuitConfig, now: float) -> Outcomes:
    """Return the same window resized, or a new one with the same failures in a row where the kind changes."""
    spec = config.window
    if isinstance(window, TimeWindow) and isinstance(spec, LastSeconds):
        window.resize(spec.seconds, now)
    elif isinstance(window, CallWindow) and not isinstance(spec, LastSeconds):
        window.resize(0 if spec is None else spec.count)
    else:
        return new_window(config, window.streak)
    window.tune(_slow_after(config))
    return window


def _slow_after(config: CircuitConfig) -> float:
    return math.inf if config.slow_call_duration is None else config.slow_call_duration
