"""Who is admitted and who is shed, without awaiting."""

from __future__ import annotations

import itertools
import sys
import threading
from typing import Final

from aioresilience.modes import draw
from aioresilience.straight import straight

GIL: Final = getattr(sys, "_is_gil_enabled", lambda: True)()

LOW_RAMP: Final = (0.6, 0.9)
NORMAL_RAMP: Final = (0.9, 1.0)
"""Between which shares of a limit the share of calls that are shed grows from none to all."""


class LoadMachine:
    """Counts the calls in flight, and sheds by priority as the load nears its limits."""

    __slots__ = ("_low_turns", "_normal_turns", "active", "lock", "max_queue_depth", "max_requests", "queue_depth")

    def __init__(self, max_requests: int, max_queue_depth: int) -> None:
        self.max_requests = max_requests
        self.max_queue_depth = max_queue_depth
        self.active = 0
        self.queue_depth = 0
        self.lock = threading.Lock()
        self._low_turns = itertools.count(1)
        self._normal_turns = itertools.count(1)

    @straight
    def take(self) -> bool:
        """Count a call in, unless `max_requests` are in flight."""
        return self.try_take() if GIL else self._take()

    @straight
    def give(self) -> None:
        """Count a call out."""
        return self.try_give() if GIL else self._give()

    @straight
    def try_take(self) -> bool:
        """Count a call in where no thread runs at the same time."""
        active = self.active
        if active >= self.max_requests:
            return False
        self.active = active + 1
        return True

    @straight
    def try_give(self) -> None:
        """Count a call out where no thread runs at the same time."""
        active = self.active
        if active > 0:
            self.active = active - 1

    def _take(self) -> bool:
        with self.lock:
            return self.try_take()

    def _give(self) -> None:
        with self.lock:
            self.try_give()

    @property
    def full(self) -> bool:
        """Whether `max_requests` are in flight."""
        return self.active >= self.max_requests

    @property
    def utilization(self) -> float:
        """Calls in flight as a share of `max_requests`."""
        return self.active / self.max_requests

    def sheds(self, priority: str, load: float, critical: bool) -> bool:
        """Tell whether a call is shed at a `load` that is a share of the worst soft limit.

        Priority "low" feels the calls in flight too. A priority that is neither "low" nor "high" counts as "normal".
        """
        if priority == "high":
            return critical and load >= 1.0
        if priority == "low":
            return _drawn(max(load, self.utilization), LOW_RAMP, self._low_turns)
        return _drawn(load, NORMAL_RAMP, self._normal_turns)

    def resize(self, max_requests: int, max_queue_depth: int) -> None:
        """Change the limits; what is in flight stays."""
        self.max_requests = max_requests
        self.max_queue_depth = max_queue_depth


def _drawn(load: float, ramp: tuple[float, float], turns: itertools.count[int]) -> bool:
    """Pick calls evenly, in a share that grows along the ramp."""
    begin, full = ramp
    if load <= begin:
        return False
    return load >= full or draw(None, turns) < (load - begin) / (full - begin)
