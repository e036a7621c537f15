"""What tells that the process is too busy: how late its event loops run, and how near each signal is to its limit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Final, NamedTuple

from aioresilience.clock import SYSTEM_CLOCK, Clock, Timer
from aioresilience.load_shedding.levels import Bounds, LoadLevel, rate

PROBE_SECONDS: Final = 0.05
"""How often a loop with calls in flight is asked how late it is."""


class Pressure(NamedTuple):
    """One signal beside its limit; `rated` is what the `bounds` of the levels are for."""

    name: str
    value: float
    limit: float
    unit: str
    rated: float
    bounds: Bounds

    @property
    def load(self) -> float:
        """The value as a share of the limit."""
        return self.value / self.limit

    def __str__(self) -> str:
        return f"{self.name} {self.value:.3g}{self.unit} (limit {self.limit:.3g}{self.unit})"


def highest_level(pressures: Iterable[Pressure]) -> LoadLevel:
    """Return the highest level that any signal gives."""
    return max((rate(pressure.rated, pressure.bounds) for pressure in pressures), default=LoadLevel.NORMAL)


def worst(pressures: Iterable[Pressure]) -> Pressure | None:
    """Return the signal nearest to its limit, or furthest past it."""
    return max(pressures, key=lambda pressure: pressure.load, default=None)


class LagProbe:
    """How late one loop runs, measured by a timer while calls are in flight on it.

    Each lateness is averaged with what was known before, so that one pause must be twice as long as the limit to be
    taken for overload. With no call in flight nothing is known: the next one is admitted, and measures anew. Left
    alone, the timer ends itself at its next tick; a call that did not succeed takes it along.
    """

    __slots__ = ("_clock", "_due", "_rested", "_timer", "calls", "lag", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self.loop = loop
        self.calls = 0
        self.lag = 0.0
        self._clock = clock
        self._due = 0.0
        self._rested = False
        self._timer: Timer | None = None

    def enter(self) -> None:
        """Count a call in, on the loop's own thread."""
        calls = self.calls + 1
        self.calls = calls
        if calls == 1:
            self.lag = 0.0
            self._rested = self._timer is not None  # what this tick is late by includes the rest
            if not self._rested:
                self._arm(self._clock.monotonic())

    def leave(self) -> None:
        """Count a call out, from any thread."""
        self.calls -= 1

    def rest(self) -> None:
        """Stop the timer if no call is in flight, from any thread."""
        if asyncio._get_running_loop() is self.loop:
            self._stop()
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed, and the timer went with it
            self.loop.call_soon_threadsafe(self._stop)

    def reading(self) -> float:
        """Return the seconds by which the loop is late, a tick that is overdue right now included."""
        if self._rested or not self.calls:
            return self.lag if self.calls else 0.0
        overdue = self._clock.monotonic() - self._due
        return (self.lag + overdue) / 2 if overdue > self.lag else self.lag

    def _arm(self, now: float) -> None:
        self._due = now + PROBE_SECONDS
        self._timer = self._clock.call_at(self.loop, self._due, self._tick)

    def _tick(self) -> None:
        if not self.calls:
            self._timer = None
            return
        now = self._clock.monotonic()
        if not self._rested:
            self.lag = (self.lag + max(0.0, now - self._due)) / 2
        self._rested = False
        self._arm(now)

    def _stop(self) -> None:
        if not self.calls and self._timer is not None:
            self._timer.cancel()
            self._timer = None


class LagMeter:
    """A probe for every loop that calls; those of closed loops go when a new loop comes."""

    __slots__ = ("_clock", "_probes")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._probes: dict[asyncio.AbstractEventLoop, LagProbe] = {}

    def here(self) -> LagProbe | None:
        """Return the running loop's probe, None outside of a loop."""
        loop = asyncio._get_running_loop()
        if loop is None:
            return None
        return self._probes.get(loop) or self._new(loop)

    def _new(self, loop: asyncio.AbstractEventLoop) -> LagProbe:
        for known in list(self._probes):
            if known.is_closed():
                self._probes.pop(known, None)
        return self._probes.setdefault(loop, LagProbe(loop, self._clock))


_SHARED: Final = LagMeter(SYSTEM_CLOCK)


def lag_meter(clock: Clock) -> LagMeter:
    """Return the process's own meter for the system's clock, a separate one for any other."""
    return _SHARED if clock is SYSTEM_CLOCK else LagMeter(clock)
