"""Calls per second, from the counters at two looks; nothing is measured while nobody looks."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from aioresilience.clock import Clock

APART: Final = 1.0
"""Seconds that two looks must lie apart to give a rate."""
LONGEST: Final = 60.0
"""Seconds after which an earlier look says nothing about now."""

Totals = Mapping[str, tuple[int, int]]
"""Calls and rejections so far, by policy."""


@dataclass(frozen=True, slots=True)
class _Look:
    at: float
    totals: Totals = field(default_factory=dict)


class Rates:
    """The rates between the latest look and one at least a second before; safe from any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._looks: list[_Look] = []

    def note(self, totals: Totals) -> None:
        """Keep what the counters say now."""
        now = self._clock.monotonic()
        with self._lock:
            recent = [look for look in self._looks if now - look.at <= LONGEST]
            far = [look for look in recent if now - look.at >= APART]
            near = [look for look in recent if now - look.at < APART]
            self._looks = [*far[-1:], *near[:1], _Look(now, totals)]

    def of(self, policy: str) -> tuple[float | None, float | None]:
        """Return calls and rejections per second at the latest look, None where there is nothing to compare with."""
        with self._lock:
            if not self._looks:
                return None, None
            first, last = self._looks[0], self._looks[-1]
        before, after = first.totals.get(policy), last.totals.get(policy)
        elapsed = last.at - first.at
        if before is None or after is None or elapsed < APART:
            return None, None
        return max(0, after[0] - before[0]) / elapsed, max(0, after[1] - before[1]) / elapsed
