"""What the tests of the circuit breaker share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from aioresilience.circuit_breaker import CircuitBreaker, CircuitConfig
from aioresilience.events import ResilienceEvent
from aioresilience.testing import VirtualClock


async def ok() -> str:
    return "ok"


async def bad() -> None:
    raise ConnectionError("refused")


async def forever() -> None:
    await asyncio.Event().wait()


def breaker(clock: VirtualClock, exceptions: object = None, **fields: object) -> CircuitBreaker:
    """Build a breaker that opens at one failure and closes at one success, unless told otherwise."""
    fields = {"failure_threshold": 1, "success_threshold": 1, "recovery_timeout": 10.0} | fields
    return CircuitBreaker("payments", CircuitConfig(**fields), exceptions, clock=clock, rng=lambda: 0.5)


async def fail(circuit: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(ConnectionError):
            await circuit.call(bad)


async def half_open(clock: VirtualClock, exceptions: object = None, **fields: object) -> CircuitBreaker:
    """Return a breaker whose next call is a probe."""
    circuit = breaker(clock, exceptions, **fields)
    await fail(circuit, circuit.config.failure_threshold or 1)
    await clock.advance(circuit.config.recovery_timeout)
    return circuit


async def start(circuit: CircuitBreaker, func: Callable[..., object], count: int = 1) -> list[asyncio.Task[object]]:
    tasks = [asyncio.create_task(circuit.call(func)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def stop(tasks: list[asyncio.Task[object]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def listen(circuit: CircuitBreaker, *names: str) -> list[ResilienceEvent]:
    heard: list[ResilienceEvent] = []
    for name in names or ("*",):
        circuit.events.add_handler(name, heard.append)
    return heard
