"""Setting the wall clock changes nothing: not who is admitted, not how long anybody waits, not when a call is cut."""

from __future__ import annotations

import asyncio
import json
import random

import pytest

from aioresilience.exceptions import ResilienceError
from aioresilience.policy import BUILTIN, Policy
from aioresilience.scope import sleep
from aioresilience.testing import VirtualClock
from aioresilience.timeout import DeadlineManager
from tests.contract.stacks import EVERY, at_rest, fail, key_of, make, ok

JUMPS = [3600.0, -86400.0, 1.0e9, -2.0e9, 0.001, 31_536_000.0]
WAITING = {"rate_limiter": {"wait": 30.0}, "bulkhead": {"max_waiting": 3, "timeout": 5.0}}


async def history(patterns, clock: VirtualClock, *, jumping: bool, seed: int = 3) -> list[str]:
    """Send calls of all kinds; return what came of each, when, and what the patterns then said of themselves."""
    dice, jumps = random.Random(seed), random.Random(seed + 1)
    policy, seen, tasks = Policy("mine", patterns, clock=clock), [], []

    async def call(number: int, *work: object) -> None:
        try:
            result = await policy.call(*work)
        except ResilienceError as error:
            result = f"{error!r} {error.reason!r} {error.retry_after}"
        except ConnectionError as error:
            result = repr(error)
        seen.append(f"{number} at {clock.monotonic()}: {result}")

    for number in range(50):
        if jumping:
            clock.jump_wall(jumps.choice(JUMPS))
        work = dice.choice([(ok,), (fail,), (sleep, 1.0, clock), (sleep, 6.0, clock), (sleep, 100.0, clock)])
        tasks.append(asyncio.ensure_future(call(number, *work)))
        await clock.advance(dice.choice([0, 0.25, 1.0, 4.0]))
        if jumping:
            clock.jump_wall(jumps.choice(JUMPS))
        seen.extend(json.dumps(pattern.status()) for pattern in patterns)
    for _ in range(40):
        if jumping:
            clock.jump_wall(jumps.choice(JUMPS))
        await clock.advance(10.0)
    await asyncio.gather(*tasks)
    for pattern in patterns:
        at_rest(pattern)
    return seen


@pytest.mark.parametrize("cls", EVERY, ids=key_of)
async def test_a_pattern_does_not_notice_the_wall_clock(cls):
    histories = []
    for jumping in (False, True):
        clock = VirtualClock()
        histories.append(await history([make(cls, clock, **WAITING.get(cls.key, {}))], clock, jumping=jumping))
    assert histories[0] == histories[1]


@pytest.mark.parametrize("seed", range(3))
async def test_the_whole_stack_does_not_notice_the_wall_clock(seed):
    histories = []
    for jumping in (False, True):
        clock = VirtualClock()
        stack = [make(cls, clock, **WAITING.get(cls.key, {})) for cls in BUILTIN]
        histories.append(await history(stack, clock, jumping=jumping, seed=seed))
    assert histories[0] == histories[1]


async def test_a_deadline_of_the_wall_clock_is_turned_into_a_monotonic_one_once():
    clock = VirtualClock()
    manager = DeadlineManager(clock.wall() + 10.0, clock=clock)
    for jump in JUMPS:
        clock.jump_wall(jump)
        assert manager.time_remaining() == pytest.approx(10.0)
    task = asyncio.ensure_future(manager.execute(sleep, 100.0, clock))
    await clock.advance(9.99)
    clock.jump_wall(1e6)
    assert not task.done()
    await clock.advance(0.02)
    with pytest.raises(TimeoutError):
        await task
    assert manager.is_expired()
