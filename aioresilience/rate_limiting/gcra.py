"""The generic cell rate algorithm: a leaky bucket as a meter, in one float a key.

Source: ITU-T Recommendation I.371 and the ATM Forum's Traffic Management Specification 4.0, as the "virtual scheduling"
form; made known for APIs by Brandur Leach, "Rate Limiting, Cells, and GCRA" (https://brandur.org/rate-limiting, 2015).
The float is the theoretical arrival time, here in permits rather than in seconds: adding one is then exact at any rate.
"""

from __future__ import annotations

from aioresilience.rate_limiting.buckets import Buckets, Census
from aioresilience.straight import straight
from aioresilience.units import Rate


def slack(per_second: float) -> float:
    """Return the permits by which rounding may be off: ten nanoseconds' worth, and a millionth of one."""
    return min(0.5, 1e-6 + per_second * 1e-8)


class Gcra(Buckets[float]):
    """Admits up to the burst at once, and one more each time a permit refills.

    In any time D never more than burst + D × rate.
    """

    __slots__ = ("tolerance",)

    algorithm = "gcra"

    def __init__(self, rate: Rate, burst: int, census: Census) -> None:
        super().__init__(rate, burst, census)
        self.tolerance = burst + slack(self.per_second)

    @straight
    def take(self, key: str, now: float) -> float | None:
        """Take a permit; return the charge, None (and nothing changed) when there is none."""
        young = self.young
        if now >= self.fast_until or key not in young:
            return self._take(key, now)
        if now < self.last:
            now = self.last
        else:
            self.last = now
        position = now * self.per_second
        arrival = young[key]
        if arrival < position:
            arrival = position
        arrival += 1.0
        if arrival - position > self.tolerance:
            return None
        young[key] = arrival
        return arrival

    def spend(self, entry: float | None, now: float) -> tuple[float, float] | None:
        """Move the arrival time on by one permit."""
        position = now * self.per_second
        arrival = (position if entry is None or entry < position else entry) + 1.0
        return None if arrival - position > self.tolerance else (arrival, arrival)

    def unspend(self, entry: float, charge: float, now: float) -> float:
        """Move the arrival time back by what has not drained."""
        return entry - min(1.0, max(0.0, charge - now * self.per_second))

    def due(self, entry: float | None, now: float, ahead: int) -> float:
        """Return when the arrival time is near enough."""
        position = now * self.per_second
        arrival = position if entry is None or entry < position else entry
        missing = arrival + 1.0 + ahead - self.burst - position
        return now + missing / self.per_second if missing > self.tolerance - self.burst else now

    def share(self, entry: float, now: float) -> float:
        """Return how far ahead of now the arrival time is, as a share of the burst."""
        return min(1.0, max(0.0, (entry - now * self.per_second) / self.burst))

    def drained_at(self, entry: float) -> float:
        """Return the arrival time in seconds."""
        return entry / self.per_second

    def charged(self, share: float, now: float) -> float:
        """Put the arrival time ahead of now by that share of the burst."""
        return now * self.per_second + share * self.burst
