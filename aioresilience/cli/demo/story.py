"""What happens to the shop, in order, and what is noted for the promises."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aioresilience.circuit_breaker import CircuitBreaker, CircuitState
from aioresilience.cli.demo.service import PER_SECOND, Shop
from aioresilience.cli.demo.upstream import DOWN, FINE, SLOW, Upstream
from aioresilience.events import CircuitBreakerEvent, RegistryEvent, ResilienceEvent

Say = Callable[[str, str], None]
"""Takes a kind (act, ok, trouble, detail) and a text."""

LONG_SEARCH: Final = 0.8
"""Seconds: within the first file's timeout of a search, beyond the second's."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Replacements in the text of the file."""

    changes: tuple[tuple[str, str], ...]

    def of(self, text: str) -> str:
        """Return the edited text; every replaced piece must stand there exactly once."""
        for old, new in self.changes:
            if text.count(old) != 1:
                raise ValueError(f"expected {old!r} once in the demo's file")
            text = text.replace(old, new)
        return text


BROKEN: Final = Edit((("failure_rate: 50%", "failure_rat: 50%"), ("timeout: 800ms", "timeout: 800 ms")))
GOOD: Final = Edit(
    (
        ("failure_rate: 50%", "failure_rate: 40%"),
        ("timeout: 400ms", "timeout: 600ms"),
        ("rate: 20/second", "rate: 40/second"),
        ("mode: observe", "mode: enforce"),
        ("timeout: 2s\n", "timeout: 500ms\n"),
    )
)


@dataclass(frozen=True, slots=True)
class Script:
    """The two edits, and the longest waits for what should happen, in seconds."""

    broken: Edit = BROKEN
    good: Edit = GOOD
    patience: float = 4.0


@dataclass(slots=True)
class Snapshot:
    """What was the case at one moment; `retry_after` are the seconds until the circuit's next probe."""

    at: float
    generation: int
    state: CircuitState
    retry_after: float | None
    circuit: CircuitBreaker
    started: dict[str, int]
    in_flight: int


@dataclass(slots=True)
class Record:
    """What was seen; times in monotonic seconds."""

    opened: list[float] = field(default_factory=list)
    probed: list[float] = field(default_factory=list)
    closed: list[float] = field(default_factory=list)
    refusals: list[RegistryEvent] = field(default_factory=list)
    applied: list[RegistryEvent] = field(default_factory=list)
    before: Snapshot | None = None
    after: Snapshot | None = None
    broken_at: tuple[float, float] = (0.0, 0.0)
    observed_before: int = 0
    rejected_before: int = 0


class Story:
    """One run: the shop, the faults, the edits."""

    def __init__(self, file: Path, script: Script, upstream: Upstream, shop: Shop, say: Say) -> None:
        self.record = Record()
        self.act = ""
        self._file = file
        self._script = script
        self._upstream = upstream
        self._shop = shop
        self._say = say
        self._original = file.read_text(encoding="utf-8")

    async def run(self) -> None:
        """Play every act under load, then let the last calls end."""
        shop, registry = self._shop, self._shop.registry
        circuit = self._circuit()
        circuit.events.add_handler("state_change", self._circuit_changed)
        registry.events.add_handler("reload_rejected", self.record.refusals.append)
        registry.events.add_handler("reload_applied", self._applied)
        load = [asyncio.ensure_future(shop.open(name)) for name in PER_SECOND]
        try:
            async with registry.watching():
                await self._acts()
        finally:
            for task in load:
                task.cancel()
            await asyncio.gather(*load, return_exceptions=True)
            await shop.close()

    async def _acts(self) -> None:
        self._begin("all is well")
        await asyncio.sleep(2.2)
        self._begin("the payment provider becomes slow: 30 % of its answers come too late")
        self._upstream.health["payments"] = SLOW
        await asyncio.sleep(1.8)
        self._begin("the payment provider is down")
        self._upstream.health["payments"] = DOWN
        await self._until(lambda: bool(self.record.opened))
        await asyncio.sleep(0.5)
        await self._edit_badly()
        await self._edit_well()
        await asyncio.sleep(0.7)
        self._begin("the payment provider is back")
        self._upstream.health["payments"] = FINE
        await self._until(lambda: bool(self.record.closed), 6.0)
        await asyncio.sleep(1.2)

    async def _edit_badly(self) -> None:
        self._begin("somebody saves resilience.yaml with two mistakes")
        begun = time.monotonic()
        self._save(self._script.broken)
        await self._until(lambda: bool(self.record.refusals))
        for refusal in self.record.refusals[:1]:
            self._say("trouble", f"refused, generation {self._shop.registry.generation} goes on:")
            for text in _texts(refusal, "diagnostics"):
                self._say("detail", text)
        await asyncio.sleep(1.2)  # a watcher that reports it at every look would have done so again
        self.record.broken_at = begun, time.monotonic()

    async def _edit_well(self) -> None:
        self._begin("the file is saved again, and right, while calls are in flight and the circuit is open")
        searching = asyncio.ensure_future(self._shop.search_long(LONG_SEARCH))
        await asyncio.sleep(0.4)
        self.record.observed_before, self.record.rejected_before = self._search_counts()
        self.record.before = self._look()
        self._save(self._script.good)
        await self._until(lambda: self.record.after is not None)
        searching.cancel()
        await asyncio.gather(searching, return_exceptions=True)

    def _begin(self, act: str) -> None:
        self.act = act
        self._say("act", act)

    def _save(self, edit: Edit) -> None:
        """Replace the file in one step, as editors and Kubernetes do."""
        beside = self._file.with_name(".resilience.yaml.new")
        beside.write_text(edit.of(self._original), encoding="utf-8")
        os.replace(beside, self._file)

    async def _until(self, happened: Callable[[], bool], patience: float | None = None) -> None:
        """Wait for what should happen; if it does not, the promises will say so."""
        end = time.monotonic() + (self._script.patience if patience is None else patience)
        while not happened() and time.monotonic() < end:  # noqa: ASYNC110  # any of several things, seen from outside
            await asyncio.sleep(0.02)

    def _circuit(self) -> CircuitBreaker:
        circuit = self._shop.registry.get("payments").circuit_breaker
        assert circuit is not None, "the demo's file gives payments a circuit breaker"
        return circuit

    def _look(self) -> Snapshot:
        shop, circuit = self._shop, self._circuit()
        policies = [shop.registry.get(name) for name in PER_SECOND]
        started = {f"{policy.name}.{p.key}": p.counts.started for policy in policies for p in policy.patterns}
        wait = circuit.status()["retry_after"]
        return Snapshot(
            time.monotonic(), shop.registry.generation, circuit.state, wait if isinstance(wait, float) else None,
            circuit, started, shop.in_flight,
        )  # fmt: skip

    def _search_counts(self) -> tuple[int, int]:
        bulkhead = self._shop.registry.get("search").bulkhead
        return (0, 0) if bulkhead is None else (bulkhead.counts.observed, sum(bulkhead.counts.rejected.values()))

    def _circuit_changed(self, event: ResilienceEvent) -> None:
        if not isinstance(event, CircuitBreakerEvent):
            return
        at = time.monotonic() - max(0.0, time.time() - event.timestamp)
        lists = {
            CircuitState.OPEN: self.record.opened,
            CircuitState.HALF_OPEN: self.record.probed,
            CircuitState.CLOSED: self.record.closed,
        }
        for state, times in lists.items():
            if event.new_state is state:
                times.append(at)
                kind = "ok" if state is CircuitState.CLOSED else "trouble"
                self._say(kind, f"payments: the circuit is now {state.name.lower().replace('_', '-')}")

    def _applied(self, event: ResilienceEvent) -> None:
        if isinstance(event, RegistryEvent):
            self.record.applied.append(event)
            self.record.after = self._look()
            self._say("ok", f"applied: generation {event.generation}, {self.record.after.in_flight} calls in flight")
            for text in _texts(event, "changes"):
                self._say("detail", text)


def _texts(event: RegistryEvent, name: str) -> list[str]:
    listed = event.details.get(name)
    return [str(one) for one in listed] if isinstance(listed, (list, tuple)) else []
