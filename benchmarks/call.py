"""What a decorated call costs under one pattern and under five, over the bare call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aioresilience import CircuitBreaker, CircuitBreakerOpenError, Policy, Registry

YAML = """
version: 1
policies:
  none: {}
  circuit-breaker: {circuit_breaker: {window: 30s}}
  consecutive: {circuit_breaker: {failure_threshold: 5}}
  retry: {retry: 3}
  timeout: {timeout: 5s}
  deadline: {deadline: 5s}
  bulkhead: {bulkhead: 100}
  fallback: {fallback: {value: 1}}
  rate-limiter: {rate_limiter: 1000000000/second}
  load-shedder: {load_shedder: {max_requests: 1000}}
  backpressure: {backpressure: {max_pending: 1000}}
  adaptive-concurrency: {adaptive_concurrency: {}}
  five:
    retry: 3
    circuit_breaker: {window: 30s}
    rate_limiter: 1000000000/second
    bulkhead: 100
    timeout: 5s
"""


async def bare() -> int:
    """Return at once."""
    return 1


def subjects() -> dict[str, Callable[[], Awaitable[object]]]:
    """Return the bare call, a pass-through wrapper, and the call under every policy."""

    async def wrapper(*args: object, **kwargs: object) -> object:
        return await bare(*args, **kwargs)

    async def asyncio_timeout() -> object:
        async with asyncio.timeout(5):
            return await bare()

    registry = Registry.from_text(YAML)
    ours = {name: registry.get(name)(bare) for name in registry}
    return {"bare": bare, "wrapper": wrapper, "asyncio.timeout": asyncio_timeout, "open": rejected(registry)} | ours


def rejected(registry: Registry) -> Callable[[], Awaitable[object]]:
    """Return a call that an open breaker refuses."""
    policy = registry.get("circuit-breaker")
    opened = Policy("open", [CircuitBreaker("open", policy.patterns[0].config)])
    opened.patterns[0].force_open("for the benchmark")
    call = opened(bare)

    async def refused() -> None:
        try:  # noqa: SIM105  # contextlib.suppress would cost as much as the rejection
            await call()
        except CircuitBreakerOpenError:
            pass

    return refused
