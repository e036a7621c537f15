"""A new config in place: what runs, waits or was learnt stays, and no call notices half of it."""

from __future__ import annotations

import asyncio

import pytest

from aioresilience.exceptions import RejectionError
from aioresilience.policy import Policy
from aioresilience.scope import sleep
from aioresilience.testing import VirtualClock
from tests.contract.stacks import EVERY, GUARDS, at_rest, fail, fill, finished, key_of, live, make, ok, turns

PATTERN = pytest.mark.parametrize("cls", EVERY, ids=key_of)
GUARD = pytest.mark.parametrize("cls", GUARDS, ids=key_of)

ROOMIER = {
    "load_shedder": {"max_requests": 4},
    "backpressure": {"high_water_mark": 4, "low_water_mark": 2},
    "circuit_breaker": {"recovery_timeout": 1.0},
    "rate_limiter": {"rate": "4/minute"},
    "adaptive_concurrency": {"max_limit": 4},
    "bulkhead": {"max_concurrent": 4},
}
TIGHTER = {
    "load_shedder": {"max_requests": 1},
    "backpressure": {"high_water_mark": 1, "low_water_mark": 0},
    "circuit_breaker": {"recovery_timeout": 60.0},
    "rate_limiter": {"rate": "1/minute"},
    "adaptive_concurrency": {"max_limit": 1, "initial_limit": 1},
    "bulkhead": {"max_concurrent": 1},
}
OCCUPIED = {
    "load_shedder": {"active"},
    "backpressure": {"pending", "waiting"},
    "circuit_breaker": {"state", "failures_in_row", "half_open_calls"},
    "rate_limiter": {"remaining", "waiting"},
    "adaptive_concurrency": {"active", "window"},
    "bulkhead": {"active", "waiting"},
}


def retuned(pattern, **changes: object):
    return type(pattern.config)(
        **{name: getattr(pattern.config, name) for name in pattern.config.model_fields_set} | changes
    )


@PATTERN
async def test_the_same_config_again_changes_nothing(cls):
    clock = VirtualClock()
    pattern = make(cls, clock)
    tasks = await fill(pattern, clock) if cls in GUARDS else []
    if cls not in GUARDS:
        await finished(pattern.execute(ok), clock)
    before, timers = pattern.status(), clock.pending
    for _ in range(3):
        pattern.retune(retuned(pattern))
    assert pattern.status() == before
    assert clock.pending == timers
    await clock.advance(60)
    await asyncio.gather(*tasks)
    at_rest(pattern)


@GUARD
@pytest.mark.parametrize("changes", [ROOMIER, TIGHTER], ids=["roomier", "tighter"])
async def test_what_runs_is_still_counted_and_given_back(cls, changes):
    clock = VirtualClock()
    pattern = make(cls, clock)
    tasks = await fill(pattern, clock)
    before = {name: value for name, value in live(pattern).items() if name in OCCUPIED[cls.key]}
    pattern.retune(retuned(pattern, **changes[cls.key]))
    assert {name: value for name, value in live(pattern).items() if name in before} == before
    await clock.advance(60)
    await asyncio.gather(*tasks)
    at_rest(pattern)


@GUARD
async def test_tightening_frees_nobody_and_blocks_nobody(cls):
    clock = VirtualClock()
    pattern = make(cls, clock, **({"timeout": 1.0} if cls.key == "backpressure" else {}))
    tasks = await fill(pattern, clock)
    pattern.retune(retuned(pattern, **TIGHTER[cls.key]))
    with pytest.raises(RejectionError):
        await finished(Policy("mine", [pattern], clock=clock).call(ok), clock, 4)
    await clock.advance(300)
    await asyncio.gather(*tasks)
    assert await finished(pattern.execute(ok), clock) == "ok"
    at_rest(pattern)


@GUARD
async def test_a_limit_is_never_refilled_by_changing_it_there_and_back(cls):
    clock = VirtualClock()
    pattern = make(cls, clock, **({"timeout": 0.0} if cls.key == "backpressure" else {}))
    tasks = await fill(pattern, clock)
    first = pattern.config
    for _ in range(5):
        pattern.retune(retuned(pattern, **TIGHTER[cls.key]))
        pattern.retune(first)
    with pytest.raises(RejectionError):
        await pattern.execute(ok)
    await clock.advance(60)
    await asyncio.gather(*tasks)
    at_rest(pattern)


@PATTERN
async def test_a_call_ends_under_the_config_it_started_with(cls):
    clock = VirtualClock()
    pattern = make(cls, clock)
    policy = Policy("mine", [pattern], clock=clock)
    calls = []

    async def work() -> str:
        calls.append(pattern.config)
        await sleep(2.0, clock)
        if cls.key == "retry" and len(calls) == 1:
            raise ConnectionError
        return "done"

    task = asyncio.ensure_future(policy.call(work))
    await clock.advance(1.0)
    pattern.retune(retuned(pattern, mode="off"))
    policy.set(policy.patterns, policy.snapshot.context, 2)
    assert await finished(asyncio.wait_for(task, None), clock) == "done"
    assert len(calls) == (2 if cls.key == "retry" else 1), "retry goes on with what it began"
    at_rest(pattern)
    await clock.advance(60)
    assert clock.pending == 0


@PATTERN
async def test_the_next_call_sees_the_new_config(cls):
    clock = VirtualClock()
    pattern = make(cls, clock)
    tasks = await fill(pattern, clock) if cls in GUARDS else []
    pattern.retune(retuned(pattern, mode="off"))
    before = pattern.status()
    assert await pattern.execute(ok) == "ok"
    assert pattern.status() == before
    await clock.advance(60)
    await asyncio.gather(*tasks)


@PATTERN
async def test_retuning_at_every_step_of_a_crowd_leaks_nothing(cls):
    for step in range(16):
        clock = VirtualClock()
        pattern = make(cls, clock, **({"wait": 30.0} if cls.key == "rate_limiter" else {}))
        tasks = [asyncio.ensure_future(pattern.execute(work, *args)) for work, *args in crowd(clock)]
        for number in range(step):
            await asyncio.sleep(0)
            if number % 4 == 3:
                clock.move(0.5)
        pattern.retune(retuned(pattern, **TIGHTER.get(cls.key, {"mode": "observe"})))
        await turns(2)
        pattern.retune(retuned(pattern, **ROOMIER.get(cls.key, {"mode": "enforce"})))
        await clock.advance(400)
        assert all(task.done() for task in tasks), step
        await asyncio.gather(*tasks, return_exceptions=True)
        at_rest(pattern)


def crowd(clock: VirtualClock) -> list[tuple]:
    return [(ok,), (sleep, 1.0, clock), (fail,), (sleep, 100.0, clock), (ok,), (sleep, 1.0, clock)]
