"""The sliding window as a log: the instants of the last calls, as many as there are permits.

Exact, so its memory grows with the limit: one instant for each permit spent in the last period.
"""

from __future__ import annotations

import math
from collections import deque

from aioresilience.rate_limiting.buckets import Buckets, OldT

Instants = deque[float]


class SlidingWindow(Buckets[Instants]):
    """Never admits more than the permits within any period, which is half open: what is a period old is out of it."""

    __slots__ = ()

    algorithm = "sliding_window"

    @property
    def drain_time(self) -> float:
        """Seconds after which the last call is out of the window."""
        return self.rate.period

    def newcomer(self) -> Instants | None:
        """Return a log of its own for a new key."""
        return None if self.floor is None else deque(self.floor)

    def spend(self, entry: Instants | None, now: float) -> tuple[Instants, float] | None:
        """Note the instant, in the place of the oldest where that is out of the window."""
        if entry is None:
            return deque((now,)), now
        if len(entry) >= self.rate.permits:
            if entry[0] + self.rate.period > now:
                return None
            entry.popleft()
        entry.append(now)
        return entry, now

    def unspend(self, entry: Instants, charge: float, now: float) -> Instants:
        """Forget the instant."""
        if charge in entry:
            entry.remove(charge)
        return entry

    def due(self, entry: Instants | None, now: float, ahead: int) -> float:
        """Return when as many instants are out of the window as it takes."""
        missing = len(entry or ()) + 1 + ahead - self.rate.permits
        if not entry or missing <= 0:
            return now
        periods, index = divmod(missing - 1, len(entry))
        return entry[index] + (periods + 1) * self.rate.period

    def in_window(self, entry: Instants, now: float) -> list[float]:
        """Return the instants that count now."""
        return [instant for instant in entry if instant + self.rate.period > now]

    def share(self, entry: Instants, now: float) -> float:
        """Return how many instants are in the window, as a share of the permits."""
        return len(self.in_window(entry, now)) / self.rate.permits

    def drained_at(self, entry: Instants) -> float:
        """Return when the last instant is out of the window."""
        return entry[-1] + self.rate.period if entry else -math.inf

    def charged(self, share: float, now: float) -> Instants:
        """Note that share of the permits as spent now: when they really were, nobody knows."""
        return deque([now] * self._permits(share))

    def _permits(self, share: float) -> int:
        return min(self.rate.permits, math.ceil(share * self.rate.permits - 1e-9))

    def converted(self, old: Buckets[OldT], entry: OldT, now: float) -> Instants:
        """Keep the instants of another window, their ages and their number rescaled."""
        if not isinstance(old, SlidingWindow) or not isinstance(entry, deque):
            return super().converted(old, entry, now)
        spent, scale = old.in_window(entry, now), self.rate.period / old.rate.period
        count = self._permits(len(spent) / old.rate.permits)
        kept = spent[-count:] if count <= len(spent) else [spent[i * len(spent) // count] for i in range(count)]
        return deque(now - (now - instant) * scale for instant in kept) if count else deque()
