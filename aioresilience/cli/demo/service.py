"""The shop: three functions under three policies, called steadily, and a tally of how every call ended."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aioresilience.cli.demo.upstream import Upstream, UpstreamError, get
from aioresilience.decorators import resilient
from aioresilience.exceptions import OperationTimeoutError, RejectionError
from aioresilience.registry import Registry

PER_SECOND: Final = {"payments": 25, "quotes": 30, "search": 15}


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a customer gets for a payment."""

    order: int
    paid: bool


async def pay_later(order: int) -> Receipt:
    """Take the order and charge it when the provider is back."""
    return Receipt(order, paid=False)


@dataclass(slots=True)
class Tally:
    """How the calls under one policy ended."""

    calls: int = 0
    answered: int = 0
    stood_in: int = 0
    rejected: int = 0
    cut: int = 0
    failed: int = 0
    unexpected: list[str] = field(default_factory=list)

    @property
    def ended(self) -> int:
        """How many calls have ended in a way that their policy promises."""
        return self.answered + self.stood_in + self.rejected + self.cut + self.failed

    def note(self, outcome: object) -> None:
        """File one call under how it ended."""
        if isinstance(outcome, Receipt) and not outcome.paid:
            self.stood_in += 1
        elif isinstance(outcome, RejectionError):
            self.rejected += 1
        elif isinstance(outcome, OperationTimeoutError):
            self.cut += 1
        elif isinstance(outcome, (UpstreamError, ConnectionError)):
            self.failed += 1
        elif isinstance(outcome, BaseException):
            self.unexpected.append(repr(outcome))
        else:
            self.answered += 1


@dataclass(frozen=True, slots=True)
class Flight:
    """A call that was under way when the file changed; times in monotonic seconds."""

    started: float
    ended: float
    outcome: object


class Shop:
    """A service as one would write it: decorated functions, and no threshold in sight."""

    def __init__(self, file: Path, upstream: Upstream) -> None:
        self.upstream = upstream
        self.registry = registry = Registry.from_file(file, callables={"pay-later": pay_later}, environ={})
        self.tallies = {name: Tally() for name in PER_SECOND}
        self.flights: list[Flight] = []
        self.quotes_started: list[float] = []
        self._running: set[asyncio.Task[None]] = set()

        @resilient("payments", registry=registry)
        async def pay(order: int) -> Receipt:
            await get(upstream.port, f"/payments?order={order}")
            return Receipt(order, paid=True)

        @resilient("quotes", registry=registry)
        async def quote(number: int) -> bytes:
            self.quotes_started.append(time.monotonic())
            return await get(upstream.port, f"/quotes?number={number}")

        @resilient("search", registry=registry)
        async def search(number: int, delay: float | None = None) -> bytes:
            return await get(upstream.port, "/search" if delay is None else f"/search?delay={delay}")

        self._functions: dict[str, Callable[[int], Awaitable[object]]] = {
            "payments": pay, "quotes": quote, "search": search,
        }  # fmt: skip
        self._search = search

    async def open(self, name: str) -> None:
        """Call one function at its pace until cancelled; no call waits for the one before."""
        for number in itertools.count(1):
            self._start(self._call(name, self._functions[name](number)))
            await asyncio.sleep(1 / PER_SECOND[name])

    async def search_long(self, delay: float) -> None:
        """Start searches that take `delay` seconds, ten a second, until cancelled."""
        while True:
            self._start(self._call("search", self._search(0, delay), watched=True))
            await asyncio.sleep(0.1)

    async def close(self) -> None:
        """Let every call under way come to its end."""
        while self._running:
            await asyncio.wait(self._running)

    @property
    def in_flight(self) -> int:
        """How many calls are under way."""
        return len(self._running)

    def _start(self, call: Awaitable[None]) -> None:
        task = asyncio.ensure_future(call)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _call(self, name: str, call: Awaitable[object], *, watched: bool = False) -> None:
        tally, started = self.tallies[name], time.monotonic()
        tally.calls += 1
        outcome: object
        try:
            outcome = await call
        except Exception as error:
            outcome = error
        tally.note(outcome)
        if watched:
            self.flights.append(Flight(started, time.monotonic(), outcome))
