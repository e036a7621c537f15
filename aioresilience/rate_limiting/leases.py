"""Permits taken ahead from a server and spent in this process, by key.

What is spent never exceeds what was issued: a lease is a number that only goes down, it dies within a second of its
request, and a forked child starts without any.
"""

from __future__ import annotations

import threading
from typing import Final, Literal

from aioresilience.backends import NOTHING, Charge, Place
from aioresilience.rate_limiting.buckets import GIL

LIFE: Final = 1.0
"""Seconds from the request for a lease to its end."""
FIRST: Final = 8
LARGEST: Final = 10_000
"""Permits of the first and of the largest lease that `auto` asks for."""

Left = tuple[Place, int, Charge]
"""Permits to give back, and the charge of the last of them."""


class Lease:
    """What is left for one key; also the ticket of a call that spent of it."""

    __slots__ = ("charge", "left", "place", "size", "until", "wanted")

    waited = False

    def __init__(self, place: Place | None, size: int, charge: Charge, until: float) -> None:
        self.place = place
        self.left = self.size = size
        self.charge = charge
        self.until = until
        self.wanted = -1
        """How many permits the next lease is to have, once that is decided."""


class Leases:
    """The leases of one limiter; `now` is monotonic seconds."""

    __slots__ = ("_by_key", "_lock", "how", "issued", "returned")

    def __init__(self, how: int | Literal["auto"]) -> None:
        self.how = how
        self.issued = self.returned = 0
        self.forget()

    def forget(self) -> None:
        """Drop every lease: in a forked child they belong to the parent."""
        self._by_key: dict[str, Lease] = {}
        self._lock = threading.RLock()

    def take(self, key: str, now: float) -> Lease | None:
        """Spend a permit; straight-line from the look at it, so that it needs no lock where there is a GIL."""
        lease = self._by_key.get(key)
        if lease is None or now >= lease.until:
            return None
        if not GIL:
            return self._take_locked(lease)
        left = lease.left
        if left <= 0:
            return None
        lease.left = left - 1
        return lease

    def _take_locked(self, lease: Lease) -> Lease | None:
        with self._lock:
            if lease.left <= 0:
                return None
            lease.left -= 1
            return lease

    def put_back(self, lease: Lease, now: float) -> bool:
        """Take a permit back that was not used; False where its lease is over."""
        with self._lock:
            if now >= lease.until:
                return False
            lease.left += 1
            return True

    def wanted(self, key: str, now: float) -> int:
        """Return how many permits to ask ahead for; `auto` doubles what was used up in time, and halves the rest."""
        if self.how != "auto":
            return self.how
        with self._lock:
            lease = self._by_key.get(key)
            if lease is None:
                self._by_key[key] = Lease(None, 0, NOTHING, now + LIFE)
                return 0
            if lease.wanted < 0:
                lease.wanted = min(LARGEST, max(FIRST, 2 * lease.size)) if now < lease.until else lease.size // 2
            return lease.wanted

    def hold(self, key: str, lease: Lease) -> Left | None:
        """Keep a lease that was issued; return what is left of the one before it."""
        with self._lock:
            self.issued += lease.size
            before = self._by_key.get(key)
            self._by_key[key] = lease
            return None if before is None else self._emptied(before)

    def over(self, now: float, *, every_one: bool) -> list[Left]:
        """Take out the leases whose time is up, or all; return what is left of them."""
        with self._lock:
            ended = {key: lease for key, lease in self._by_key.items() if every_one or now >= lease.until}
            for key in ended:
                del self._by_key[key]
            return [left for lease in ended.values() if (left := self._emptied(lease)) is not None]

    def _emptied(self, lease: Lease) -> Left | None:
        left, lease.left, lease.until = lease.left, 0, float("-inf")
        if lease.place is None or left <= 0:
            return None
        self.returned += left
        return lease.place, left, lease.charge

    @property
    def held(self) -> bool:
        """Whether there are any leases."""
        return bool(self._by_key)

    @property
    def left(self) -> int:
        """How many permits may still be spent."""
        with self._lock:
            return sum(lease.left for lease in self._by_key.values())
