"""The limit that finds itself, by additive increase and multiplicative decrease.

The rule is AIMD: Chiu and Jain, "Analysis of the increase and decrease algorithms for congestion avoidance in computer
networks", Computer Networks and ISDN Systems 17 (1989).
"""

from __future__ import annotations

import sys
import threading
from typing import Final

from aioresilience.adaptive_concurrency.config import AdaptiveConcurrencyConfig
from aioresilience.straight import straight

_GIL: Final = getattr(sys, "_is_gil_enabled", lambda: True)()


class AimdMachine:
    """The limit, what is in use of it, and the window that will move it.

    A ticket is the era in which its call started; a shrink begins a new one, and results of earlier eras are not held
    against the new limit.
    """

    __slots__ = ("active", "bad", "config", "era", "estimate", "good", "limit", "lock", "peak", "window")

    def __init__(self, config: AdaptiveConcurrencyConfig) -> None:
        self.config = config
        self.window = config.measurement_window
        self.lock = threading.RLock()
        self.estimate = float(config.initial_limit)
        self.limit = config.initial_limit
        self.active = self.peak = 0
        self.good = self.bad = 0
        self.era = 1

    @straight
    def take(self) -> int | None:
        """Take a place and return the era, None when the limit is reached."""
        return self.try_take() if _GIL else self._take()

    @straight
    def end(self, era: int, good: bool | None) -> bool:
        """Give a place back and count a judged result into the window; True when that moved the limit."""
        return self.try_end(era, good) if _GIL else self._end(era, good)

    @straight
    def try_take(self) -> int | None:
        """Take a place where no thread runs at the same time."""
        active = self.active + 1
        if active > self.limit:
            return None
        self.active = active
        if active > self.peak:
            self.peak = active
        return self.era

    @straight
    def try_end(self, era: int, good: bool | None) -> bool:
        """Give a place back where no thread runs at the same time."""
        self.active -= 1
        if good is None or era != self.era:
            return False
        if good:
            self.good += 1
        else:
            self.bad += 1
        if self.good + self.bad < self.window:
            return False
        return self._close()

    def _take(self) -> int | None:
        with self.lock:
            return self.try_take()

    def _end(self, era: int, good: bool | None) -> bool:
        with self.lock:
            return self.try_end(era, good)

    def _close(self) -> bool:
        with self.lock:
            return self._evaluate()

    def _evaluate(self) -> bool:
        """Grow after a good window that used at least half the limit, shrink after a bad one."""
        good, bad = self.good, self.bad
        if good + bad < self.window:
            return False  # another thread was faster
        self.good = self.bad = 0  # no call since the reading: no result is lost
        config, before, rate = self.config, self.limit, good / (good + bad)
        if rate >= config.success_threshold:
            if self.peak * 2 >= before:
                self._move(self.estimate + config.increase_rate)
        elif rate < config.failure_threshold:
            self._move(self.estimate * config.decrease_factor)
            self.era += 1
        self.peak = self.active
        return self.limit != before

    def _move(self, estimate: float) -> None:
        self.estimate = min(max(estimate, float(self.config.min_limit)), float(self.config.max_limit))
        self.limit = int(self.estimate)

    def retune(self, config: AdaptiveConcurrencyConfig) -> bool:
        """Take new bounds and keep the estimate within them; True when that moved the limit."""
        with self.lock:
            before, self.config = self.limit, config
            self.window = config.measurement_window
            self._move(self.estimate)
            return self.limit != before
