"""Who listens only for what goes wrong makes no call build events that nobody hears."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest

from aioresilience import Registry, ResilienceError
from aioresilience.events import EventType, ResilienceEvent, audience, global_bus
from aioresilience.events.types import OCCASIONAL
from aioresilience.guard import Guard
from aioresilience.testing import VirtualClock

YAML = """
version: 1
policies:
  p:
    fallback: {value: 0}
    deadline: 9s
    load_shedder: {max_requests: 50}
    backpressure: {max_pending: 50}
    retry: {max_attempts: 2, initial_delay: 0s, max_delay: 0s}
    circuit_breaker: {failure_threshold: 3, recovery_timeout: 1s, recovery_jitter: 0%}
    rate_limiter: 1000/second
    adaptive_concurrency: {}
    bulkhead: 2
    timeout: 2s
"""


@contextlib.contextmanager
def hearing(*types: EventType | str) -> Iterator[list[ResilienceEvent]]:
    heard: list[ResilienceEvent] = []
    for event_type in types:
        global_bus.add_handler(event_type, heard.append)
    try:
        yield heard
    finally:
        for event_type in types:
            global_bus.remove_handler(event_type, heard.append)


async def ok() -> int:
    return 1


async def broken() -> int:
    raise ConnectionError("down")


async def story() -> None:
    """Success, failures, an open circuit, a full bulkhead, recovery."""
    clock = VirtualClock()
    policy = Registry.from_text(YAML, clock=clock, environ={}).get("p")
    decorated = policy(ok)
    for func in (decorated, broken, broken, broken, ok):
        with contextlib.suppress(ResilienceError, ConnectionError):
            await policy.call(func)
    await clock.advance(1.5)
    gate = asyncio.Event()
    held = [asyncio.ensure_future(policy.call(gate.wait)) for _ in range(3)]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*held)
    for _ in range(3):
        await decorated()
    for _ in range(20):  # until what was told has been heard
        await asyncio.sleep(0)


def kinds(events: list[ResilienceEvent]) -> list[tuple[object, str]]:
    return [(event.event_type, event.pattern_name) for event in events if event.event_type in OCCASIONAL]


async def test_nothing_is_lost_to_those_who_hear_only_what_goes_wrong() -> None:
    with hearing("*") as everything:
        await story()
    with hearing(*OCCASIONAL) as occasional:
        await story()
    assert kinds(occasional) == kinds(everything)
    assert {EventType.DECISION, EventType.STATE_CHANGE, EventType.RETRY_ATTEMPT, EventType.FALLBACK_EXECUTED} <= {
        event.event_type for event in occasional
    }


async def test_a_call_that_succeeds_builds_no_event_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(Guard, "tell", lambda self, moment, error=None: told.append(moment))
    policy = Registry.from_text(YAML, environ={}).get("p")
    with hearing(EventType.DECISION):
        await policy(ok)()
        await policy.call(ok)
        assert told == []
    with hearing("*"):
        await policy(ok)()
    assert "admitted" in told


def test_the_audience_is_counted_back() -> None:
    before = audience.size, audience.steady
    with hearing(EventType.DECISION):
        assert (audience.size, audience.steady) == (before[0] + 1, before[1])
        with hearing("*"):
            assert (audience.size, audience.steady) == (before[0] + 1, before[1] + 1)
    assert (audience.size, audience.steady) == before
