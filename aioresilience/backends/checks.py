"""What goes to a server and comes back: the checks of one tick of one loop, a bundle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from aioresilience.backends.scripts import ANSWERS, Script

MICRO: Final = 1e6


class Place(NamedTuple):
    """One limit of one key: which script counts it, where, and under which rate (seconds)."""

    script: Script
    key: bytes
    permits: int
    period: float
    burst: int


class Charge(NamedTuple):
    """What permits are given back by: when they were granted (the server's microseconds), and the level they filled."""

    at: int
    level: float


class Answer(NamedTuple):
    """What the server said to one check."""

    granted: bool
    retry_after: float
    remaining: int
    charge: Charge


NOTHING: Final = Charge(0, 0.0)

WRONG_TYPE: Final = "wrong_type"
"""Why there is no answer where something of somebody else's stands under the key."""
FOREIGN: Final = Answer(False, 0.0, 0, NOTHING)
"""The answer where nothing can be counted for that reason."""

Row = Sequence[bytes]
"""Granted, leased, the instant, the level, microseconds until the next permit, permits left.

-1 granted: something of somebody else's stands under the key.
"""
Leased = Callable[[Place, int, Charge], None]
"""Takes so many permits, the last of which has that charge."""


class Check:
    """All that one tick asks of one place, or gives back to it."""

    __slots__ = ("ahead", "asked", "back", "bundle", "charge", "futures", "leased", "parts", "place", "slot")

    def __init__(self, place: Place, *, asked: int = 0, back: int = 0, charge: Charge = NOTHING) -> None:
        self.place = place
        self.asked = asked
        """Permits to take for nobody who waits for them."""
        self.futures: list[asyncio.Future[Answer | None]] = []
        self.ahead = 0
        self.parts = 1
        self.leased: Leased | None = None
        self.back = back
        self.charge = charge
        self.slot = 0
        self.bundle: Bundle | None = None

    def numbers(self) -> str:
        """Return what the script takes for this key."""
        _, _, permits, period, burst = self.place
        asked, (at, level) = self.asked + len(self.futures), self.charge
        return f"{permits} {period * MICRO!r} {burst} {asked} {self.ahead} {self.parts} {self.back} {at} {level!r}"

    def answer(self, row: Row) -> tuple[int, Charge]:
        """Tell those who asked, on their own loop; return what nobody is left to use, and its charge."""
        granted, leased, delay, remaining = int(row[0]), int(row[1]), int(row[4]), int(row[5])
        if granted < 0:
            self._all(FOREIGN)
            return 0, NOTHING
        at, last = int(row[2]), float(row[3])
        first, taken = last - granted - leased + 1, 0
        for future in self.futures:
            if future.done():  # cancelled meanwhile
                continue
            if taken < granted:
                future.set_result(Answer(True, 0.0, remaining, Charge(at, first + taken)))
                taken += 1
            else:
                future.set_result(Answer(False, delay / MICRO, remaining, NOTHING))
        spare = max(0, granted - taken - self.asked) + leased
        if spare and self.leased is not None:
            self.leased(self.place, spare, Charge(at, last))
            spare = 0
        return spare, Charge(at, last)

    def unanswered(self) -> None:
        """Tell those who asked that no answer will come, on their own loop."""
        self._all(None)

    def _all(self, answer: Answer | None) -> None:
        for future in self.futures:
            if not future.done():
                future.set_result(answer)


class Bundle:
    """The checks of one tick of one loop; `loop` is None where nobody waits for an answer."""

    __slots__ = ("checks", "left", "loop", "timer")

    def __init__(self, loop: asyncio.AbstractEventLoop | None, checks: Sequence[Check]) -> None:
        self.loop = loop
        self.checks = checks
        self.left = len(checks)
        self.timer: asyncio.TimerHandle | None = None
        for check in checks:
            check.bundle = self


def rows(text: bytes) -> Iterator[Row]:
    """Cut a script's answer, one text because the client library reads that fastest, into what belongs to each key."""
    answer = text.split()
    return (answer[start : start + ANSWERS] for start in range(0, len(answer), ANSWERS))


def whole(row: Row) -> tuple[int, Charge]:
    """Return all that was granted and leased, and the charge of the last of it."""
    return max(0, int(row[0])) + int(row[1]), Charge(int(row[2]), float(row[3]))
