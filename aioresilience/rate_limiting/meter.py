"""GCRA for a limit that knows no keys: one float in a slot, where a table of keys has a dict of them."""

from __future__ import annotations

import math
from collections.abc import Iterator

from aioresilience.rate_limiting.buckets import LOCKED, SHARED, Census
from aioresilience.rate_limiting.gcra import Gcra
from aioresilience.straight import straight
from aioresilience.units import Rate


class Meter(Gcra):
    """The one bucket that all calls share, whatever key they come with."""

    __slots__ = ("arrival",)

    arrival: float

    def __init__(self, rate: Rate, burst: int, census: Census) -> None:
        super().__init__(rate, burst, census)
        self.arrival = -math.inf

    @straight
    def take(self, key: str, now: float) -> float | None:
        """Take a permit; return the charge, None (and nothing changed) when there is none."""
        if now >= self.fast_until:
            return self._take(key, now)
        position = now * self.per_second
        arrival = self.arrival
        if arrival < position:
            arrival = position
        arrival += 1.0
        if arrival - position > self.tolerance:
            return None
        self.arrival = arrival
        return arrival

    def find(self, key: str) -> float:
        """Return the bucket, which may have drained."""
        return self.arrival

    def put(self, key: str, entry: float) -> None:
        """Keep the bucket as it is now."""
        self.arrival = entry

    def give_back(self, key: str, charge: float, now: float) -> None:
        """Give a permit back; a charge of before a retirement is past."""
        with self.census.lock:
            before, self.fast_until = self.fast_until, LOCKED
            self.arrival, self.fast_until = self.unspend(self.arrival, charge, now), before

    def live(self, now: float) -> Iterator[tuple[str, float]]:
        """Return the bucket unless it has drained."""
        if self.drained_at(self.arrival) > now:
            yield SHARED, self.arrival

    def rests(self, now: float) -> bool:
        """Tell whether the bucket has drained."""
        return self.drained_at(self.arrival) <= now
