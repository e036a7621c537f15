"""A herd at a half-open circuit: exactly as many probes as configured, whatever the handlers and the policy."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from aioresilience.circuit_breaker import CircuitBreaker, CircuitConfig, CircuitState
from aioresilience.exceptions import CircuitBreakerOpenError, CircuitBreakerReason
from aioresilience.policy import BUILTIN, Policy
from aioresilience.scope import sleep
from aioresilience.testing import VirtualClock
from tests.contract.stacks import at_rest, fail, make, turns

HERD = 1000
PLACES = [1, 3, 10]


async def slow_handler(event: object) -> None:
    for _ in range(50):
        await asyncio.sleep(0)


OPENED: list[CircuitBreaker] = []


@pytest.fixture(autouse=True)
async def handlers_end() -> AsyncIterator[None]:
    """Let the slow handlers come to an end, with most of their events untold."""
    yield
    while OPENED:
        OPENED.pop().events.clear()
    await turns(60)


async def opened(places: int, **fields: object) -> tuple[CircuitBreaker, VirtualClock]:
    """Return a breaker whose time to probe has come, with a slow handler attached."""
    clock = VirtualClock()
    fields = {"failure_threshold": 1, "recovery_timeout": 10.0, "success_threshold": places, **fields}
    breaker = CircuitBreaker("p", CircuitConfig(half_open_max_calls=places, **fields), clock=clock)
    breaker.events.add_handler("*", slow_handler)
    OPENED.append(breaker)
    with pytest.raises(ConnectionError):
        await breaker.call(fail)
    assert breaker.state is CircuitState.OPEN
    await clock.advance(10.0)
    return breaker, clock


class Upstream:
    """Counts who reaches it, and keeps everybody until told."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock, self.reached, self.inside, self.peak = clock, 0, 0, 0
        self.gate = asyncio.Event()
        self.well = True

    async def __call__(self) -> str:
        self.reached += 1
        self.inside += 1
        self.peak = max(self.peak, self.inside)
        try:
            await self.gate.wait()
            if not self.well:
                raise ConnectionError
            return "up again"
        finally:
            self.inside -= 1


async def herd(call: Callable[[Upstream], Awaitable[object]], upstream: Upstream) -> list[asyncio.Task[object]]:
    tasks = [asyncio.ensure_future(call(upstream)) for _ in range(HERD)]
    for task in tasks:
        task.add_done_callback(lambda task: task.cancelled() or task.exception())  # seen
    await turns(20)
    return tasks


def refused(tasks: list[asyncio.Task[object]]) -> list[BaseException]:
    return [task.exception() for task in tasks if task.done() and not task.cancelled() and task.exception()]


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("well", [True, False])
async def test_a_thousand_callers_are_exactly_so_many_probes(places, well):
    breaker, clock = await opened(places)
    upstream = Upstream(clock)
    upstream.well = well
    tasks = await herd(breaker.call, upstream)
    assert upstream.reached == breaker.half_open_calls == places
    told = refused(tasks)
    assert len(told) == HERD - places
    assert {(type(error), error.reason) for error in told} == {
        (CircuitBreakerOpenError, CircuitBreakerReason.HALF_OPEN_REJECTION)
    }
    upstream.gate.set()
    await asyncio.wait(tasks)
    await turns(100)
    assert upstream.reached == places, "the end of a probe lets nobody in who was refused"
    assert breaker.state is (CircuitState.CLOSED if well else CircuitState.OPEN)
    at_rest(breaker)


@pytest.mark.parametrize("places", PLACES)
async def test_within_a_full_policy_too(places):
    breaker, clock = await opened(places)
    roomy = {
        "load_shedder": {"max_requests": 5000},
        "backpressure": {"max_pending": 5000, "high_water_mark": 4000, "low_water_mark": 10},
        "rate_limiter": {"rate": "100000/second"},
        "adaptive_concurrency": {"initial_limit": 5000, "max_limit": 5000},
        "bulkhead": {"max_concurrent": 5000},
        "fallback": {"fallback": None, "value": "stale"},
    }
    stack = [breaker if cls.key == "circuit_breaker" else make(cls, clock, **roomy.get(cls.key, {})) for cls in BUILTIN]
    policy, upstream = Policy("mine", stack, clock=clock), Upstream(clock)
    tasks = await herd(policy.call, upstream)
    assert upstream.reached == places
    assert sum(task.done() and task.result() == "stale" for task in tasks) == HERD - places
    upstream.gate.set()
    await asyncio.wait(tasks)
    await turns(100)
    await clock.advance(100)
    for pattern in stack:
        at_rest(pattern)


@pytest.mark.parametrize("places", PLACES)
async def test_a_cancelled_probe_gives_its_place_to_exactly_one(places):
    breaker, clock = await opened(places)
    upstream = Upstream(clock)
    first = await herd(breaker.call, upstream)
    probes = [task for task in first if not task.done()]
    assert len(probes) == places
    for round_ in range(1, 4):
        probes[0].cancel()
        await asyncio.wait([probes[0]])
        assert breaker.half_open_calls == places - 1
        tasks = await herd(breaker.call, upstream)
        assert upstream.reached == places + round_
        assert upstream.peak == places
        probes = [task for task in [*probes, *tasks] if not task.done()]
    upstream.gate.set()
    await asyncio.wait(probes)
    at_rest(breaker)


@pytest.mark.parametrize("places", PLACES)
async def test_hung_probes_are_given_up_and_replaced_by_as_many(places):
    breaker, clock = await opened(places, half_open_timeout=30.0)
    upstream = Upstream(clock)
    first = await herd(breaker.call, upstream)
    hung = [task for task in first if not task.done()]
    await clock.advance(31.0)  # nobody brought a result: it opened again, as of 30 s
    again = await herd(breaker.call, upstream)
    assert upstream.reached == places
    assert all(isinstance(error, CircuitBreakerOpenError) for error in refused(again))
    await clock.advance(10.0)
    await herd(breaker.call, upstream)
    assert upstream.reached == 2 * places
    upstream.gate.set()  # the late results of the first probes belong to an earlier era
    await asyncio.wait(hung)
    await turns(100)
    assert breaker.state is CircuitState.CLOSED
    at_rest(breaker)


async def test_wave_after_wave_never_more_than_the_places_at_once():
    breaker, clock = await opened(4, success_threshold=40)
    upstream = Upstream(clock)
    upstream.gate.set()

    async def work() -> str:
        answer = await upstream()
        await sleep(1.0, clock)
        return answer

    for wave in range(1, 11):
        tasks = [asyncio.ensure_future(breaker.call(work)) for _ in range(100)]
        await clock.advance(1.0)
        await asyncio.wait(tasks)
        assert upstream.reached == 4 * wave
    assert breaker.state is CircuitState.CLOSED
    at_rest(breaker)


async def test_a_probe_that_is_destroyed_gives_its_place_back():
    breaker, clock = await opened(1)
    upstream = Upstream(clock)
    call = breaker.call(upstream)
    call.send(None)
    assert breaker.half_open_calls == 1
    call.close()
    del call
    gc.collect()
    assert breaker.half_open_calls == 0
    tasks = await herd(breaker.call, upstream)
    assert upstream.reached == 2
    upstream.gate.set()
    await asyncio.wait(tasks)
    await turns(100)
