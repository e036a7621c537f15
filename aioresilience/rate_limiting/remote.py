"""One limit as it stands on a server: where each key is counted, how a permit is asked for and given back."""

from __future__ import annotations

from typing import Final

from aioresilience.backends import Answer, Backend, Charge, Place
from aioresilience.backends.scripts import ALGORITHMS
from aioresilience.backends.thread import renew_in_children
from aioresilience.clock import Clock
from aioresilience.rate_limiting.config import RateLimiterConfig
from aioresilience.rate_limiting.leases import LIFE, Lease, Leases

LETTERS: Final = {"gcra": "g", "sliding_window": "w"}
FEWEST_PARTS: Final = 2
"""A lease is at most half of what remains, however small the fleet."""


class RemoteLimit:
    """Belongs to one limiter; `name` tells it from the others of the fleet."""

    __slots__ = ("__weakref__", "asked", "backend", "clock", "config", "leases", "name")

    def __init__(self, backend: Backend, name: str, config: RateLimiterConfig, clock: Clock) -> None:
        self.backend = backend
        self.name = name
        self.clock = clock
        self.leases: Leases | None = None
        self.asked = 0
        self.retune(config)
        backend.tenants.add(self)
        renew_in_children(self)

    def retune(self, config: RateLimiterConfig) -> None:
        """Ask under another rate from now on; the script keeps the spent share."""
        self.give_back_leases(every_one=True)
        self.config = config
        self.leases = None if config.lease is None else Leases(config.lease)

    def place(self, key: str, *, by_key: bool, shadow: bool = False) -> Place:
        """Return where the key is counted: all keys of a limit in one slot, and no two limits or keys in one place."""
        config = self.config
        kind = LETTERS[config.algorithm] + ("k" if by_key else "p") + ("s" if shadow else "")
        tag = f"{{{len(self.name)}:{self.name}}}"
        name = f"{self.backend.config.prefix}:{tag}:{kind}:{key}".encode("utf-8", "surrogatepass")
        return Place(ALGORITHMS[config.algorithm], name, *config.rate, config.capacity)

    async def ask(self, place: Place, key: str) -> Answer | None:
        """Ask for a permit, and for a lease where there are any; None where the server gives no answer.

        Whatever cuts the wait, a permit that nobody is left to use goes back.
        """
        self.asked += 1
        leases, ahead = self.leases, 0
        now = self.clock.monotonic()
        if leases is not None:
            ahead = leases.wanted(key, now)
        if leases is None or not ahead:
            future = self.backend.ask(place)
        else:
            until, held_by = now + LIFE, leases

            def hold(where: Place, count: int, charge: Charge) -> None:
                self._hold(held_by, key, Lease(where, count, charge, until))

            parts = max(FEWEST_PARTS, self.backend.fleet_size)
            future = self.backend.ask(place, ahead=ahead, parts=parts, leased=hold)
        try:
            return await future
        except BaseException:
            if not future.cancel() and not future.cancelled():
                self.give_back(place, future.result())
            raise

    def _hold(self, leases: Leases, key: str, lease: Lease) -> None:
        left = leases.hold(key, lease)
        if left is not None:
            self.backend.give_back(*left)
        if leases is not self.leases:  # retuned or closed meanwhile
            for left in leases.over(0.0, every_one=True):
                self.backend.give_back(*left)
        self.backend.watch_leases()

    def leased(self, key: str) -> Lease | None:
        """Spend a permit of a lease, None where there is none."""
        return None if self.leases is None else self.leases.take(key, self.clock.monotonic())

    def give_back(self, place: Place, answer: Answer | None) -> None:
        """Give back the permit of an answer that is not used."""
        if answer is not None and answer.granted:
            self.backend.give_back(place, 1, answer.charge)

    def put_back(self, lease: Lease) -> None:
        """Give back a permit that a lease was charged for."""
        leases = self.leases
        if (leases is None or not leases.put_back(lease, self.clock.monotonic())) and lease.place is not None:
            self.backend.give_back(lease.place, 1, lease.charge)

    def give_back_leases(self, *, every_one: bool) -> bool:
        """Give back what is left of leases whose time is up, or of all; tell whether any are held still."""
        leases = self.leases
        if leases is None:
            return False
        for left in leases.over(self.clock.monotonic(), every_one=every_one):
            self.backend.give_back(*left)
        return leases.held

    def forked(self) -> None:
        """Hold no lease that the parent holds."""
        if self.leases is not None:
            self.leases.forget()

    def status(self) -> dict[str, object]:
        """Return what was taken ahead, fit for JSON."""
        leases = self.leases
        if leases is None:
            return {"lease": None, "asked": self.asked}
        return {
            "asked": self.asked,
            "lease": leases.how,
            "lease_issued": leases.issued,
            "lease_returned": leases.returned,
            "lease_left": leases.left,
        }
