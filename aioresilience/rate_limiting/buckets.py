"""One bucket per key, bounded in number and memory: what the algorithms share.

A bucket that has drained equals an absent one, and every bucket drains within a known time, the horizon. So two
generations replace an LRU: writes go to the young one; once a horizon has passed, the young one becomes the old one
and the old one, in which nothing can be alive, is dropped whole. A live bucket is never evicted.
"""

from __future__ import annotations

import math
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Final, Generic, TypeAlias, TypeVar

from aioresilience.units import Rate

E = TypeVar("E")
OldT = TypeVar("OldT")

SHARED: Final = ""
"""The bucket of a limit that knows no keys."""
KEYLESS: Final = "\0keyless"
"""The bucket that calls without a key share where keys came in by a reload."""
OVERFLOW: Final = "\0overflow"
"""The bucket that new keys share while the table is full."""
_UNCOUNTED: Final = frozenset({SHARED, KEYLESS, OVERFLOW})

LOCKED: Final = -math.inf
"""The `fast_until` that sends everybody to the lock."""
GIL: Final[bool] = getattr(sys, "_is_gil_enabled", lambda: True)()
MIN_HORIZON: Final = 1.0
_EMPTY: Final[dict[str, Any]] = {}
"""An old generation with nothing in it, which nothing is ever put into."""
SWEEP_PAUSE: Final = 5e-6
"""Seconds from one sweep to the next, for each key: sweeping takes at most some percent of the time."""


class Census:
    """How many keys the tables of one limiter may hold together, and their common lock."""

    __slots__ = ("limit", "lock", "next_sweep", "tables")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.lock = threading.RLock()
        self.next_sweep = LOCKED
        self.tables: list[AnyBuckets] = []

    def stored(self) -> int:
        """Return how many keys have a bucket, drained ones included."""
        return sum(table.stored() for table in self.tables)

    def live(self, now: float) -> int:
        """Return how many keys have a bucket that has not drained."""
        with self.lock:
            return sum(key not in _UNCOUNTED for table in self.tables for key, _ in table.live(now))

    def spent(self, now: float) -> bool:
        """Tell whether any bucket has not drained, the shared ones included."""
        with self.lock:
            return any(True for table in self.tables for _ in table.live(now))

    def room(self, now: float) -> bool:
        """Tell whether one more key fits, after a sweep where that is due; the caller holds the lock."""
        if self.stored() < self.limit:
            return True
        if now < self.next_sweep:
            return False
        first = min(table.sweep(now) for table in self.tables)
        stored = self.stored()
        pause = now + stored * SWEEP_PAUSE
        self.next_sweep = max(first, pause) if stored >= self.limit else pause
        return stored < self.limit


class Buckets(ABC, Generic[E]):
    """The buckets of one rate under one algorithm.

    `now` is monotonic seconds. A thread may have read its clock before another one that came first: `last`, the latest
    instant seen, then counts as now.
    """

    __slots__ = (
        "burst", "census", "fast_until", "floor", "half_of_old", "horizon", "last", "old", "per_second", "rate",
        "retired", "turn_at", "young",
    )  # fmt: skip

    algorithm: ClassVar[str]

    def __init__(self, rate: Rate, burst: int, census: Census) -> None:
        self.rate = rate
        self.burst = burst
        self.per_second = rate.permits / rate.period
        self.census = census
        self.young: dict[str, E] = {}
        self.old: dict[str, E] = _EMPTY
        self.half_of_old = 0
        self.floor: E | None = None
        """What a key that has no bucket starts with, after a limit was split by keys."""
        self.horizon = max(MIN_HORIZON, self.drain_time * (1 + 1e-9) + 1e-6)
        self.turn_at = LOCKED
        self.last = LOCKED
        self.fast_until = LOCKED
        self.retired = False

    @property
    def drain_time(self) -> float:
        """Seconds in which a full bucket drains."""
        return self.burst / self.per_second

    @abstractmethod
    def spend(self, entry: E | None, now: float) -> tuple[E, float] | None:
        """Return the bucket with one permit taken, and the charge; None when it has none, and nothing changed."""

    @abstractmethod
    def unspend(self, entry: E, charge: float, now: float) -> E:
        """Return the bucket with what is left of a charge given back: what has drained meanwhile is not."""

    @abstractmethod
    def due(self, entry: E | None, now: float, ahead: int) -> float:
        """Return the instant at which the bucket has a permit after `ahead` others."""

    @abstractmethod
    def share(self, entry: E, now: float) -> float:
        """Return how much of the bucket is spent, from 0 to 1."""

    @abstractmethod
    def drained_at(self, entry: E) -> float:
        """Return the instant from which the bucket equals an absent one."""

    @abstractmethod
    def charged(self, share: float, now: float) -> E:
        """Return a bucket of which that share is spent."""

    def take(self, key: str, now: float) -> float | None:
        """Take a permit; return the charge, None (and nothing changed) when there is none."""
        return self._take(key, now)

    def _take(self, key: str, now: float) -> float | None:
        with self.census.lock:
            self.fast_until = LOCKED
            try:
                return None if self.retired else self._spend(key, self._turn(now))
            finally:
                self._open()

    def _spend(self, key: str, now: float) -> float | None:
        entry = self.find(key)
        if entry is None and key not in _UNCOUNTED and not self.census.room(now):
            return None
        spent = self.spend(self.newcomer() if entry is None else entry, now)
        if spent is None:
            return None
        entry, charge = spent
        self.put(key, entry)
        if key in self.old:
            self._forget_old(key)
        return charge

    def put(self, key: str, entry: E) -> None:
        """Keep a key's bucket as it is now; the caller holds the lock."""
        self.young[key] = entry

    def _forget_old(self, key: str) -> None:
        """Drop the old copy of a key; give memory back each time half of the old generation is gone."""
        del self.old[key]
        if len(self.old) <= self.half_of_old:
            self.old = dict(self.old)
            self.half_of_old = len(self.old) // 2

    def give_back(self, key: str, charge: float, now: float) -> None:
        """Give a permit back; a charge of before a retirement is past."""
        with self.census.lock:
            before, self.fast_until = self.fast_until, LOCKED
            try:
                now = now if now > self.last else self.last
                for table in (self.young, self.old):
                    if key in table:
                        table[key] = self.unspend(table[key], charge, now)
                        return
            finally:
                self.fast_until = before

    def delay(self, key: str, now: float, ahead: int = 0) -> float:
        """Return the seconds until the key has a permit after `ahead` others, 0 when it has one now."""
        with self.census.lock:
            entry = self.find(key)
            due = self.due(self.newcomer() if entry is None else entry, now, ahead)
        delay = max(0.0, due - now)
        while now + delay < due:  # rounding: after the delay it must be due
            delay = math.nextafter(delay, math.inf)
        return delay

    def remaining(self, key: str, now: float) -> int:
        """Return how many permits the key has now."""
        with self.census.lock:
            entry = self.find(key)
            share = 0.0 if entry is None else self.share(entry, now)
        return int((1.0 - share) * self.burst + 1e-6)

    def crowded_out(self, key: str, now: float) -> bool:
        """Tell whether the key has no bucket and there is no room for one."""
        with self.census.lock:
            return key not in _UNCOUNTED and self.find(key) is None and not self.census.room(now)

    def find(self, key: str) -> E | None:
        """Return the key's bucket, which may have drained."""
        entry = self.young.get(key)
        return self.old.get(key) if entry is None else entry

    def newcomer(self) -> E | None:
        """Return what a new key starts with."""
        return self.floor

    def stored(self) -> int:
        """Return how many keys have a bucket, drained ones included."""
        young, old = self.young, self.old
        return len(young) + len(old) - sum(key in young or key in old for key in _UNCOUNTED)

    def live(self, now: float) -> Iterator[tuple[str, E]]:
        """Return the buckets that have not drained; the caller holds the lock."""
        for table in (self.old, self.young):
            for key, entry in table.items():
                if self.drained_at(entry) > now:
                    yield key, entry

    def rests(self, now: float) -> bool:
        """Tell whether nobody has asked since long enough for every bucket to have drained."""
        return now >= self.last + self.horizon

    def sweep(self, now: float) -> float:
        """Drop what has drained; return when the first of the rest will have. The caller holds the lock."""
        before, self.fast_until = self.fast_until, LOCKED
        self.young, self.old = dict(self.live(now)), _EMPTY
        self.turn_at = now + self.horizon
        first = min((self.drained_at(e) for k, e in self.young.items() if k not in _UNCOUNTED), default=math.inf)
        if before != LOCKED:
            self._open()
        return first

    def _turn(self, now: float) -> float:
        """Return what counts as now; drop the old generation when its time has come."""
        if now < self.last:
            return self.last
        self.last = now
        if now >= self.turn_at:
            self.old = self.young if now < self.turn_at + self.horizon else _EMPTY
            self.young = {}
            self.half_of_old = len(self.old) // 2
            self.floor = None
            self.turn_at = now + self.horizon
        return now

    def _open(self) -> None:
        self.fast_until = self.turn_at if GIL and not self.retired else LOCKED

    def retire(self) -> None:
        """Admit nobody any more; what is in flight gives nothing back."""
        with self.census.lock:
            self.retired = True
            self.fast_until = LOCKED

    def inherit(self, old: AnyBuckets, now: float) -> None:
        """Charge every key with the share that it has spent in the old table, which is retired."""
        with self.census.lock:
            now = self._begin(old, now)
            for key, entry in old.live(now):
                self.put(key, self.converted(old, entry, now))
            self.floor = None if old.floor is None else self.converted(old, old.floor, now)

    def converted(self, old: Buckets[OldT], entry: OldT, now: float) -> E:
        """Return the old table's bucket as one of this table."""
        return self.charged(old.share(entry, now), now)

    def split(self, old: AnyBuckets, now: float) -> None:
        """Charge every key with what the one shared bucket of the old table has spent."""
        with self.census.lock:
            now = self._begin(old, now)
            entry = old.find(SHARED)
            if entry is not None and (share := old.share(entry, now)) > 0:
                self.floor = self.charged(share, now)

    def join(self, old: AnyBuckets, now: float) -> None:
        """Charge the one shared bucket with what all keys of the old table have spent together.

        What they all started with, because one bucket was split, was spent only once.
        """
        with self.census.lock:
            now = self._begin(old, now)
            common = 0.0 if old.floor is None else old.share(old.floor, now)
            shares = [old.share(entry, now) for _, entry in old.live(now)]
            share = min(1.0, common + sum(max(0.0, own - common) for own in shares))
            if share > 0:
                self.put(SHARED, self.charged(share, now))

    def _begin(self, old: AnyBuckets, now: float) -> float:
        self.last = now = max(now, old.last)
        self.turn_at = now + self.horizon
        self._open()
        return now


AnyBuckets: TypeAlias = Buckets[Any]  # of whatever kind of bucket
