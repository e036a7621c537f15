"""The leaky bucket as aiolimiter keeps it: a level that rises by one a call and drains steadily.

Source: aiolimiter's `AsyncLimiter` (https://aiolimiter.readthedocs.io): `has_capacity` and `_leak`. Its own object is
bound to one event loop and that loop's clock, and takes nothing back; here the same accounting runs on the limiter's
clock, for several loops and threads, with refunds. `LocalRateLimiter.get_limiter` hands out the real object.
"""

from __future__ import annotations

from aioresilience.rate_limiting.buckets import Buckets, Census
from aioresilience.rate_limiting.gcra import slack
from aioresilience.units import Rate

Level = tuple[float, float]
"""The level in permits, and the instant at which it was that."""


class LeakyBucket(Buckets[Level]):
    """Admits a call where the level after it does not exceed the burst."""

    __slots__ = ("brim",)

    algorithm = "leaky_bucket"

    def __init__(self, rate: Rate, burst: int, census: Census) -> None:
        super().__init__(rate, burst, census)
        self.brim = burst + slack(self.per_second)

    def level(self, entry: Level | None, now: float) -> float:
        """Return what has not leaked out by now."""
        return 0.0 if entry is None else max(0.0, entry[0] - (now - entry[1]) * self.per_second)

    def spend(self, entry: Level | None, now: float) -> tuple[Level, float] | None:
        """Raise the level by one; the charge is the instant at which this call has leaked out."""
        level = self.level(entry, now) + 1.0
        return None if level > self.brim else ((level, now), now + level / self.per_second)

    def unspend(self, entry: Level, charge: float, now: float) -> Level:
        """Lower the level by what has not leaked out."""
        left = min(1.0, max(0.0, (charge - now) * self.per_second))
        return max(0.0, self.level(entry, now) - left), now

    def due(self, entry: Level | None, now: float, ahead: int) -> float:
        """Return when the level is low enough."""
        missing = self.level(entry, now) + 1.0 + ahead - self.burst
        return now + missing / self.per_second if missing > self.brim - self.burst else now

    def share(self, entry: Level, now: float) -> float:
        """Return the level as a share of the burst."""
        return min(1.0, self.level(entry, now) / self.burst)

    def drained_at(self, entry: Level) -> float:
        """Return when all has leaked out."""
        return entry[1] + entry[0] / self.per_second

    def charged(self, share: float, now: float) -> Level:
        """Fill that share of the burst."""
        return share * self.burst, now
