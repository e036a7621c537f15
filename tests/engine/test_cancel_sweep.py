"""Cancel a call at every step of the loop, in every stack: nothing is left, nothing is swallowed, nothing hangs."""

import asyncio
import itertools
import random

import pytest

from aioresilience import Policy
from aioresilience.adaptive_concurrency import AdaptiveConcurrencyConfig, AdaptiveConcurrencyLimiter
from aioresilience.backpressure import BackpressureConfig, BackpressureManager
from aioresilience.bulkhead import Bulkhead, BulkheadConfig
from aioresilience.circuit_breaker import CircuitBreaker, CircuitConfig, CircuitState
from aioresilience.fallback import FallbackConfig, FallbackHandler
from aioresilience.load_shedding import BasicLoadShedder, LoadSheddingConfig
from aioresilience.rate_limiting import RateLimit, RateLimiterConfig
from aioresilience.retry import RetryConfig, RetryPolicy
from aioresilience.scope import sleep
from aioresilience.testing import VirtualClock
from aioresilience.timeout import Deadline, DeadlineConfig, TimeoutConfig, TimeoutManager


def half_open(clock):
    breaker = CircuitBreaker("p", CircuitConfig(failure_threshold=1, recovery_timeout=1), clock=clock)
    breaker.machine.fail(breaker.machine.ticket, clock.monotonic(), None)
    clock.move(1.5)
    return breaker


async def instead(*args):
    await asyncio.sleep(0)
    return "instead"


PATTERNS = {
    "fallback": lambda clock: FallbackHandler(FallbackConfig(fallback=instead), name="p", clock=clock),
    "deadline": lambda clock: Deadline(DeadlineConfig(timeout=50), name="p", clock=clock),
    "retry": lambda clock: RetryPolicy(RetryConfig(max_attempts=2, initial_delay=1, jitter=0), name="p", clock=clock),
    "circuit_breaker": lambda clock: CircuitBreaker("p", CircuitConfig(), clock=clock),
    "half_open": half_open,
    "rate_limiter": lambda clock: RateLimit("p", RateLimiterConfig(rate="2/second", wait=30), clock=clock),
    "load_shedder": lambda clock: BasicLoadShedder(LoadSheddingConfig(max_requests=2), name="p", clock=clock),
    "backpressure": lambda clock: BackpressureManager(
        BackpressureConfig(max_pending=9, high_water_mark=2, low_water_mark=1), name="p", clock=clock
    ),
    "adaptive_concurrency": lambda clock: AdaptiveConcurrencyLimiter(
        "p", AdaptiveConcurrencyConfig(initial_limit=2, min_limit=1, max_limit=4), clock=clock
    ),
    "bulkhead": lambda clock: Bulkhead("p", BulkheadConfig(max_concurrent=1, max_waiting=5), clock=clock),
    "timeout": lambda clock: TimeoutManager(TimeoutConfig(timeout=20), name="p", clock=clock),
}
NAMES = sorted(PATTERNS)
PAIRS = list(itertools.permutations(NAMES, 2))
TRIPLES = [tuple(random.Random(number).sample(NAMES, 3)) for number in range(40)]


async def run_once(names, step, times, crowd, fails):
    """Cancel one call at one step among a crowd; return whether the call had ended before."""
    clock = VirtualClock()
    patterns = [PATTERNS[name](clock) for name in names]
    policy = Policy("p", patterns, clock=clock)

    async def slow_handler(event):
        await asyncio.sleep(0)

    for pattern in patterns:
        pattern.events.add_handler("*", slow_handler)

    async def work():
        await asyncio.sleep(0)
        await sleep(1, clock)
        if fails:
            raise ConnectionError
        return "done"

    others = [asyncio.ensure_future(policy.call(work)) for _ in range(crowd)]
    victim = asyncio.ensure_future(policy.call(work))
    for number in range(step):
        await asyncio.sleep(0)
        if number % 3 == 2:
            clock.move(0.4)
    ended = victim.done()
    for _ in range(times):
        victim.cancel()
        await asyncio.sleep(0)
    await clock.advance(300)
    done, hanging = await asyncio.wait([victim, *others], timeout=0)
    assert not hanging, f"hangs when cancelled at step {step}"
    if not ended:
        assert victim.cancelled() or victim.exception() is not None or step > 0, f"cancel swallowed at step {step}"
    for task in done:
        if not task.cancelled():
            task.exception()
    await asyncio.sleep(0)
    check(patterns, clock, step)
    return ended, victim.cancelled()


def check(patterns, clock, step):
    """Nothing is held: no place, no probe, no waiter, no timer."""
    for pattern in patterns:
        counts = pattern.counts
        assert counts.started == counts.succeeded + counts.failed + counts.neutral, (pattern.key, step)
        status = pattern.status()
        for name in ("active", "active_requests", "active_count", "pending_count", "queue_depth", "waiting"):
            assert not status.get(name), (pattern.key, name, status[name], step)
        assert not status.get("half_open_calls"), (pattern.key, step)
        assert not getattr(pattern, "_holders", None), (pattern.key, step)
    assert clock.pending == 0, f"a timer is left at step {step}"


async def sweep(names, *, twice=(1, 2), crowds=(0, 3), outcomes=(False, True), stride=1):
    """Cancel at every step until the call ends before it is cancelled."""
    for times, crowd, fails in itertools.product(twice, crowds, outcomes):
        cancelled = 0
        for step in range(0, 60, stride):
            ended, was_cancelled = await run_once(names, step, times, crowd, fails)
            cancelled += was_cancelled
            if ended:
                break
        assert cancelled, "nothing was ever cancelled, so nothing was proven"


@pytest.mark.parametrize("name", NAMES)
async def test_one_pattern(name):
    await sweep([name])


@pytest.mark.parametrize("first", NAMES)
async def test_every_ordered_pair(first):
    for names in (pair for pair in PAIRS if pair[0] == first):
        await sweep(names, twice=(1,), crowds=(3,), outcomes=(False,), stride=2)
        await sweep(names, twice=(2,), crowds=(3,), outcomes=(True,), stride=2)


@pytest.mark.parametrize("group", range(4))
async def test_random_triples(group):
    for names in TRIPLES[group::4]:
        await sweep(names, twice=(1,), crowds=(3,), outcomes=(bool(group % 2),), stride=2)


async def test_a_thousand_callers_on_a_half_open_breaker_are_exactly_so_many_probes():
    clock = VirtualClock()
    breaker = CircuitBreaker(
        "p", CircuitConfig(failure_threshold=1, recovery_timeout=1, half_open_max_calls=7), clock=clock
    )
    breaker.machine.fail(breaker.machine.ticket, clock.monotonic(), None)
    clock.move(1.5)
    assert breaker.state is CircuitState.OPEN
    reached, gate = 0, asyncio.Event()

    async def slow(event):
        await asyncio.sleep(0.01)

    breaker.events.add_handler("*", slow)

    async def probe():
        nonlocal reached
        reached += 1
        await gate.wait()

    tasks = [asyncio.ensure_future(breaker.call(probe)) for _ in range(1000)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert reached == 7
    gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(result, Exception) for result in results) == 993
    breaker.events.clear()
    await asyncio.sleep(0.02)
