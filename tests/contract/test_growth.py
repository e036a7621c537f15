"""Calls of every kind, by the ten thousand, through each pattern and through all of them leave nothing behind.

`tests/engine/test_growth.py` makes a million calls through a stack of a file; here they also fail, wait, and are cut,
refused and cancelled.
"""

from __future__ import annotations

import asyncio
import gc
import random
import tracemalloc

import pytest

from aioresilience.policy import BUILTIN, Policy
from aioresilience.scope import sleep
from aioresilience.testing import VirtualClock
from tests.contract.stacks import EVERY, at_rest, fail, make, ok

CALLS = 10_000
PATTERN = pytest.mark.parametrize("cls", [*EVERY, None], ids=lambda cls: "all of them" if cls is None else cls.key)


def stack_of(cls, clock: VirtualClock) -> list:
    if cls is not None:
        waits = {"rate_limiter": {"rate": "1000/second", "scope": "key", "wait": 2.0, "max_limiters": 50}}
        return [make(cls, clock, **waits.get(cls.key, {}))]
    roomy = {
        "load_shedder": {"max_requests": 15},
        "backpressure": {"max_pending": 50, "high_water_mark": 14, "low_water_mark": 10},
        "circuit_breaker": {"failure_threshold": None, "failure_rate": 0.95},
        "rate_limiter": {"rate": "1000/second", "scope": "key"},
        "adaptive_concurrency": {"initial_limit": 13, "max_limit": 14},
        "bulkhead": {"max_concurrent": 8, "max_waiting": 3, "timeout": 1.0},
    }
    return [make(one, clock, **roomy.get(one.key, {})) for one in BUILTIN]


async def calls(policy: Policy, clock: VirtualClock, count: int, seed: int) -> None:
    """Make calls in crowds of twenty: most succeed, some fail, take long, are cancelled."""
    dice = random.Random(seed)
    for _ in range(count // 20):
        tasks = []
        for _ in range(20):
            work = dice.choice([(ok,), (ok,), (fail,), (sleep, 0.5, clock), (sleep, 100.0, clock)])
            tasks.append(asyncio.ensure_future(policy.bind(key=f"key-{dice.randrange(80)}").call(*work)))
        for _ in range(dice.randrange(5)):
            await asyncio.sleep(0)
        tasks[dice.randrange(20)].cancel()
        for seconds in (0.6, 1.5, 20.0, 40.0):
            clock.move(seconds)
            for _ in range(10):
                await asyncio.sleep(0)
        async with asyncio.timeout(60):
            while any(not task.done() for task in tasks):
                clock.move(10.0)
                await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)
    clock.move(1000.0)
    await asyncio.sleep(0)


@PATTERN
@pytest.mark.parametrize("listening", [False, True])
async def test_mixed_calls_leave_nothing_behind(cls, listening):
    clock, heard = VirtualClock(), 0
    policy = Policy("mine", stack_of(cls, clock), clock=clock)

    async def counts(event: object) -> None:
        nonlocal heard
        heard += 1

    if listening:
        for pattern in policy.patterns:
            pattern.events.add_handler("*", counts)
    count = CALLS if cls is None else CALLS // 5
    await calls(policy, clock, count // 5, 1)
    gc.collect()
    objects = len(gc.get_objects())
    tracemalloc.start()
    await calls(policy, clock, 400, 2)
    gc.collect()
    memory = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    await calls(policy, clock, count, 3)
    tracemalloc.start()
    await calls(policy, clock, 400, 2)
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - memory
    tracemalloc.stop()
    assert len(gc.get_objects()) - objects < 150  # fewer, where something of other tests has ended meanwhile
    assert grown < 30_000
    assert clock.pending == 0
    assert len(asyncio.all_tasks()) == 1
    assert bool(heard) is listening
    for pattern in policy.patterns:
        at_rest(pattern)
