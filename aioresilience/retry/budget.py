"""The retry budget: what keeps an outage from being multiplied by the attempts."""

from __future__ import annotations

import sys
import threading
from typing import Final

from aioresilience.straight import straight

_GIL: Final = getattr(sys, "_is_gil_enabled", lambda: True)()

SLICES: Final = 10
"""The window moves in steps of a tenth: it is the present slice of time and the nine before it."""

_ROUNDING: Final = 1e-9
_NEVER_USED: Final = [(0, 0)] * SLICES


class Budget:
    """Counts first attempts and retries of a sliding window, and allows a retry only while

    retries in the window ≤ ratio × first attempts in the window + min_per_second × window.

    A first attempt counts when it starts, a retry when it is decided. All but `deposit`, and everything where there is
    no GIL, takes the lock.
    """

    __slots__ = ("_edge", "_floor", "_lock", "_marks", "_ratio", "_step", "firsts", "retries")

    def __init__(self, ratio: float, min_per_second: float, window: float, now: float) -> None:
        self._lock = threading.Lock()
        self.firsts = self.retries = 0
        """Totals that only grow; the window is what came on top of the oldest mark."""
        self._marks = _NEVER_USED  # replaced, never changed
        self.retune(ratio, min_per_second, window, now)

    def retune(self, ratio: float, min_per_second: float, window: float, now: float) -> None:
        """Change the limits; what was counted stays counted and leaves with the new window's slices."""
        with self._lock:
            self._ratio = ratio
            self._floor = min_per_second * window
            self._step = window / SLICES
            self._edge = now + self._step

    @straight
    def deposit(self, now: float) -> None:
        """Count a first attempt."""
        if not _GIL or now >= self._edge:
            return self._deposit(now)
        self.firsts += 1
        return None

    def _deposit(self, now: float) -> None:
        with self._lock:
            self._roll(now)
            self.firsts += 1

    def take(self, now: float) -> bool:
        """Spend one retry if there is one left."""
        with self._lock:
            self._roll(now)
            if self._left() < 1:
                return False
            self.retries += 1
            return True

    def allows(self, now: float) -> bool:
        """Tell whether `take` would succeed."""
        with self._lock:
            self._roll(now)
            return self._left() >= 1

    def status(self, now: float) -> dict[str, object]:
        """Return what the window holds, fit for JSON; `left` in retries."""
        with self._lock:
            self._roll(now)
            firsts, retries = self._marks[0]
            left = max(0, int(self._left()))
            return {"first_attempts": self.firsts - firsts, "retries": self.retries - retries, "left": left}

    def _left(self) -> float:
        firsts, retries = self._marks[0]
        return self._ratio * (self.firsts - firsts) + self._floor - (self.retries - retries) + _ROUNDING

    def _roll(self, now: float) -> None:
        """Begin the slices that `now` has reached; the caller holds the lock."""
        if now < self._edge:
            return
        passed = int((now - self._edge) / self._step) + 1
        self._marks = (self._marks + [(self.firsts, self.retries)] * min(passed, SLICES))[-SLICES:]
        self._edge += passed * self._step
