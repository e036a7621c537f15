"""A server that limits are shared through, as the limiters of one process see it.

One I/O thread with one loop serves callers on any number of loops and threads: a loop for each request is not a
connection for each request. Callers await a future of their own loop; a caller that goes away merely stops waiting, so
that no connection is ever left half-way through an answer.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import threading
import uuid
import weakref
from typing import Final, Protocol

from aioresilience.backends.checks import Answer, Bundle, Charge, Check, Leased, Place
from aioresilience.backends.client import require_library
from aioresilience.backends.collector import Collector
from aioresilience.backends.config import BackendConfig
from aioresilience.backends.courier import Courier
from aioresilience.backends.scripts import GCRA
from aioresilience.backends.thread import IoThread, renew_in_children
from aioresilience.events import EventEmitter, EventType, ResilienceEvent
from aioresilience.logging import log_event

LOGGER: Final = "aioresilience.backends"
SWEEP: Final = 0.25
"""Seconds between two looks for leases whose time is up."""
LAST_WORDS: Final = 1.0
"""Seconds that closing may take beyond the time budget."""


class Tenant(Protocol):
    """A limiter that may hold leases."""

    def give_back_leases(self, *, every_one: bool) -> bool:
        """Give back what is left of leases whose time is up, or of all; tell whether any are held still."""


class Running:
    """The I/O thread and what runs on it, from the first check until the backend is closed or forked."""

    __slots__ = ("courier", "io")

    def __init__(self, backend: Backend) -> None:
        self.io = IoThread(backend.name)

        def changed(reason: str | None) -> None:
            if backend._running is self:  # not closed meanwhile
                backend._changed(reason)

        self.courier = Courier(backend.config, backend.member, self.io.loop, changed)


class Backend:
    """Asks one server, or cluster, for permits; starts its thread at the first check, and again after `close`.

    `available` is False while the server counts as away: whoever asks then is answered with None at once.
    Raises MissingExtraError where the client library is not installed.
    """

    def __init__(self, name: str, config: BackendConfig) -> None:
        require_library()
        self.name = name
        self.config = config
        self.available = True
        self.reason: str | None = None
        """Why the server counts as away: timeout, connection, slow, read_only, forbidden, refused, settings, secret."""
        self.outages = 0
        self.events = EventEmitter(f"backend:{name}")
        self.tenants: weakref.WeakSet[Tenant] = weakref.WeakSet()
        self._fleet_seen = 1
        self._started_anew()
        renew_in_children(self)
        _open_backends.add(self)

    def _started_anew(self) -> None:
        self.member = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._running: Running | None = None
        self._collectors: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Collector] = weakref.WeakKeyDictionary()
        self._sweeping = False

    @property
    def fleet_size(self) -> int:
        """How many processes share the limits: as configured, else as last seen."""
        return self.config.fleet_size or self._seen()

    def _seen(self) -> int:
        running = self._running
        if running is not None and running.courier.presence.seen is not None:
            self._fleet_seen = running.courier.presence.seen
        return self._fleet_seen

    def ask(
        self, place: Place, *, ahead: int = 0, parts: int = 1, leased: Leased | None = None
    ) -> asyncio.Future[Answer | None]:
        """Ask for a permit; None is the answer where the server gives none within the budget.

        `leased` takes up to `ahead` permits more, at most one of `parts` equal parts of what remains.
        """
        return self._collector().ask(place, ahead, parts, leased)

    def _collector(self) -> Collector:
        loop = asyncio.get_running_loop()
        collector = self._collectors.get(loop)
        if collector is None:
            with self._lock:
                collector = self._collectors[loop] = Collector(self._send)
        return collector

    async def answers(self) -> bool:
        """Ask the server for what means nothing, and tell whether it answered within the budget."""
        place = Place(GCRA, f"{self.config.prefix}:{{hello}}".encode(), 10**9, 1.0, 10**9)
        return await self.ask(place) is not None

    def give_back(self, place: Place, count: int, charge: Charge) -> None:
        """Give back permits, the last of which has that charge; from any thread, and nothing is heard of it."""
        self._send(Bundle(None, [Check(place, back=count, charge=charge)]))

    def charge(self, place: Place, count: int) -> None:
        """Take permits that were spent elsewhere, as many as there are, before what this tick asks for after it."""
        self._collector().charge(place, count)

    def _send(self, bundle: Bundle) -> None:
        with self._lock:
            if self._running is None:
                self._running = Running(self)
            self._running.io.call(self._running.courier.receive, bundle)

    def watch_leases(self) -> None:
        """Look after the leases of the tenants from time to time, as long as there are any."""
        with self._lock:
            if self._running is not None and not self._sweeping:
                self._sweeping = True
                loop = self._running.io.loop
                self._running.io.call(loop.call_later, SWEEP, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        held = [tenant.give_back_leases(every_one=False) for tenant in list(self.tenants)]
        with self._lock:
            if self._running is not None and self._running.io.loop is loop:  # not closed meanwhile
                self._sweeping = any(held)
                if self._sweeping:
                    loop.call_later(SWEEP, self._sweep, loop)

    def _changed(self, reason: str | None) -> None:
        """Note that the server is away, or well again: None."""
        self.outages += reason is not None
        self.reason, self.available = reason, reason is None
        kind = EventType.BACKEND_RECOVERED if reason is None else EventType.BACKEND_DEGRADED
        level, what = (logging.INFO, "answers again") if reason is None else (logging.WARNING, f"is away: {reason}")
        log_event(LOGGER, level, f"backend {self.name!r} {what}")
        self.events.publish(ResilienceEvent("backend", kind, self.name, metadata={"reason": reason}))

    def retune(self, config: BackendConfig) -> None:
        """Go on at another address, or under other bounds, from the next check on."""
        if config != self.config:
            self.config = config  # before the thread ends: who asks meanwhile starts the new one
            self._leave()

    def rest(self) -> None:
        """Give back every lease and let connections and thread end, until the next check."""
        self._leave()

    def close(self) -> None:
        """Give back every lease, close the connections and end the thread; blocks for the budget at most."""
        running = self._leave()
        if running is not None:
            running.io.join(self.config.timeout + LAST_WORDS)

    async def aclose(self) -> None:
        """Close in a worker thread, for coroutines."""
        await asyncio.to_thread(self.close)

    def _leave(self) -> Running | None:
        for tenant in list(self.tenants):
            tenant.give_back_leases(every_one=True)
        with self._lock:
            running, self._running = self._running, None
            self._sweeping = False
            self.available, self.reason = True, None
        if running is not None:
            running.io.stop_after(running.courier.drain)
        return running

    def forked(self) -> None:
        """Start anew in a child: thread, connections and what waits for answers belong to the parent."""
        _of_parents.append(self._running)  # never destroyed: that would close what the parent goes on using
        self.available, self.reason = True, None
        self._started_anew()

    def status(self) -> dict[str, object]:
        """Return how the server is and what was asked of it, fit for JSON; no address and no credentials."""
        running = self._running
        courier = None if running is None else running.courier
        return {
            "name": self.name,
            "available": self.available,
            "reason": self.reason,
            "fleet_size": self.fleet_size,
            "trips": courier.trips if courier else 0,
            "checks": courier.checks if courier else 0,
            "round_trips": courier.batches if courier else 0,
            "median_ms": round(courier.health.median() * 1000, 3) if courier else 0.0,
        }

    def __repr__(self) -> str:
        return f"<Backend {self.name!r}: {self.reason or 'available'}>"


_open_backends: weakref.WeakSet[Backend] = weakref.WeakSet()
_of_parents: list[Running | None] = []


def _close_all() -> None:
    """Give leases back at the end of the process."""
    for backend in list(_open_backends):
        with contextlib.suppress(RuntimeError):
            backend.close()


atexit.register(_close_all)
