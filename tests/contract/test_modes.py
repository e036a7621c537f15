"""Modes: what only watches never blocks, waits or consumes; what is off is not there; a share is a share."""

from __future__ import annotations

import asyncio
import random

import pytest

from aioresilience.exceptions import OperationTimeoutError, RejectionError
from aioresilience.policy import Policy
from aioresilience.scope import sleep
from aioresilience.testing import VirtualClock
from aioresilience.timeout import TimeoutConfig
from tests.contract.stacks import (
    BOUNDS,
    EVERY,
    GUARDS,
    at_rest,
    fail,
    fill,
    finished,
    key_of,
    live,
    make,
    ok,
    runs_at_once,
    turns,
)

GUARD = pytest.mark.parametrize("cls", GUARDS, ids=key_of)
WAYS = pytest.mark.parametrize("way", ["the pattern's own", "the policy's"])


def mode_of(mode: object) -> object:
    """Read a mode as a config does."""
    return TimeoutConfig(mode=mode).mode


def policy_of(pattern, clock: VirtualClock, mode: object, way: str) -> Policy:
    """Put the mode where the test wants it."""
    if way == "the policy's":
        return Policy("mine", [pattern], mode=mode_of(mode), clock=clock)
    pattern.retune(pattern.config.model_copy(update={"mode": mode_of(mode)}))
    return Policy("mine", [pattern], clock=clock)


@GUARD
@WAYS
async def test_observe_lets_a_call_through_at_once_where_it_would_refuse_or_wait(cls, way):
    clock = VirtualClock()
    pattern = make(cls, clock)
    tasks = await fill(pattern, clock)
    policy = policy_of(pattern, clock, "observe", way)
    before, timers = live(pattern), clock.pending
    for number in range(1, 6):
        assert runs_at_once(policy.call(ok)) == "ok"
        assert pattern.counts.observed == number
    assert live(pattern) == before, "an observed refusal consumes nothing"
    assert clock.pending == timers
    assert not any(pattern.counts.rejected.values())
    await clock.advance(60)
    await asyncio.gather(*tasks)
    at_rest(pattern)


@GUARD
@WAYS
async def test_observe_lets_errors_through_and_learns_nothing_from_them(cls, way):
    clock = VirtualClock()
    pattern = make(cls, clock)
    tasks = await fill(pattern, clock)
    policy = policy_of(pattern, clock, "observe", way)
    before = live(pattern)
    with pytest.raises(ConnectionError):
        runs_at_once(policy.call(fail))
    assert live(pattern) == before
    await clock.advance(60)
    await asyncio.gather(*tasks)


async def crowd(policy: Policy, clock: VirtualClock, seed: int) -> list[tuple[int, object]]:
    """Send calls of random lengths and outcomes; return what the pattern held after each."""
    dice, seen, tasks = random.Random(seed), [], []
    pattern = policy.patterns[0]
    for number in range(40):
        seconds = dice.choice([0, 0, 1, 5])
        work = (sleep, seconds, clock) if dice.random() < 0.8 else (fail,)
        tasks.append(asyncio.ensure_future(policy.call(*work)))
        await turns(3)
        if dice.random() < 0.5:
            await clock.advance(dice.choice([0.5, 2, 11]))
        seen.append((number, live(pattern)))
    await clock.advance(200)
    await asyncio.gather(*tasks, return_exceptions=True)
    seen.append((len(seen), live(pattern)))
    return seen


@GUARD
@pytest.mark.parametrize("seed", range(4))
async def test_observe_charges_exactly_what_enforcing_would(cls, seed):
    at_once = {"timeout": 0.0} if cls.key == "backpressure" else {}  # without waits the two histories are the same
    histories = []
    for mode in ("enforce", "observe"):
        clock = VirtualClock()
        pattern = make(cls, clock, mode=mode, **at_once)
        histories.append(await crowd(Policy("mine", [pattern], clock=clock), clock, seed))
        at_rest(pattern)
    assert histories[0] == histories[1]


@GUARD
async def test_from_observe_to_enforce_is_exact(cls):
    clock = VirtualClock()
    pattern = make(cls, clock, mode="observe", **({"timeout": 0.0} if cls.key == "backpressure" else {}))
    tasks = await fill(pattern, clock)
    pattern.retune(pattern.config.model_copy(update={"mode": "enforce"}))
    with pytest.raises(RejectionError):
        await pattern.execute(ok)
    await clock.advance(60)
    await asyncio.gather(*tasks)


@GUARD
@WAYS
async def test_off_is_not_there(cls, way):
    clock = VirtualClock()
    pattern = make(cls, clock)
    tasks = await fill(pattern, clock)
    policy = policy_of(pattern, clock, "off", way)
    before = pattern.status()
    for _ in range(5):
        assert runs_at_once(policy.call(ok)) == "ok"
        with pytest.raises(ConnectionError):
            runs_at_once(policy.call(fail))
    assert pattern.status() == before, "not even counted"
    await clock.advance(60)
    await asyncio.gather(*tasks)


@GUARD
@WAYS
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
async def test_a_gradual_start_enforces_its_share_of_the_calls(cls, way, share):
    clock = VirtualClock()
    pattern = make(cls, clock, **({"timeout": 0.0} if cls.key == "backpressure" else {}))
    tasks = await fill(pattern, clock)
    policy = policy_of(pattern, clock, {"enforce": share}, way)
    before, refused = live(pattern), 0
    for _ in range(200):
        try:
            assert await policy.call(ok) == "ok"
        except RejectionError:
            refused += 1
    assert abs(refused - 200 * share) <= 1
    assert pattern.counts.observed == 200 - refused
    assert live(pattern) == before
    await clock.advance(60)
    await asyncio.gather(*tasks)


@GUARD
async def test_a_gradual_start_treats_a_key_always_alike(cls):
    clock = VirtualClock()
    pattern = make(cls, clock, **({"timeout": 0.0} if cls.key == "backpressure" else {}))
    tasks = await fill(pattern, clock)
    policy = Policy("mine", [pattern], mode=mode_of({"enforce": 0.3}), clock=clock)
    refused = set()
    for turn in range(3):
        for number in range(200):
            try:
                await policy.bind(key=f"user-{number}").call(ok)
                assert turn == 0 or number not in refused
            except RejectionError:
                assert turn == 0 or number in refused
                refused.add(number)
    assert 30 <= len(refused) <= 90
    await clock.advance(60)
    await asyncio.gather(*tasks)


@GUARD
@pytest.mark.parametrize("inner", GUARDS, ids=lambda cls: f"over-{cls.key}")
async def test_a_shadow_decision_stops_nothing_further_in(cls, inner):
    clock = VirtualClock()
    shadow, real = make(cls, clock, mode="observe"), make(inner, clock)
    tasks = await fill(shadow, clock)
    policy = Policy("mine", [shadow, real], clock=clock)
    assert await policy.call(ok) == "ok"
    assert (shadow.counts.observed, real.counts.started) == (1, 1)
    await clock.advance(60)
    await asyncio.gather(*tasks)


# The patterns that act on a call which was let in


@pytest.mark.parametrize("cls", [cls for cls in EVERY if cls not in GUARDS], ids=key_of)
@pytest.mark.parametrize("mode", ["observe", "off", {"enforce": 0.0}])
async def test_the_policys_mode_is_for_guards(cls, mode):
    clock = VirtualClock()
    pattern = make(cls, clock)
    policy = Policy("mine", [pattern], mode=mode_of(mode), clock=clock)
    assert await acts(policy, pattern, clock)


async def acts(policy: Policy, pattern, clock: VirtualClock) -> bool:
    """Tell whether the pattern does what it is there for."""
    if type(pattern) in BOUNDS:
        try:
            await finished(policy.call(sleep, 100, clock), clock)
        except OperationTimeoutError:
            return True
        return False
    calls = 0

    async def fails() -> None:
        nonlocal calls
        calls += 1
        raise ConnectionError

    try:
        return await finished(policy.call(fails), clock) == "instead"
    except ConnectionError:
        return calls > 1


@pytest.mark.parametrize("cls", [cls for cls in EVERY if cls not in GUARDS], ids=key_of)
@pytest.mark.parametrize("mode", ["observe", {"enforce": 0.0}])
async def test_observe_set_itself_reports_and_does_nothing(cls, mode):
    clock = VirtualClock()
    pattern = make(cls, clock, mode=mode)
    policy = Policy("mine", [pattern], clock=clock)
    assert not await acts(policy, pattern, clock)
    assert pattern.counts.observed == 1
    at_rest(pattern)
    assert clock.pending == 0


@pytest.mark.parametrize("cls", [cls for cls in EVERY if cls not in GUARDS], ids=key_of)
async def test_off_set_itself_is_not_there(cls):
    clock = VirtualClock()
    pattern = make(cls, clock, mode="off")
    before = pattern.status()
    assert not await acts(Policy("mine", [pattern], clock=clock), pattern, clock)
    assert pattern.status() == before
    assert clock.pending == 0


@pytest.mark.parametrize("cls", [cls for cls in EVERY if cls not in GUARDS], ids=key_of)
async def test_a_gradual_start_acts_on_its_share_of_the_calls(cls):
    clock = VirtualClock()
    pattern = make(cls, clock, mode={"enforce": 0.25})
    policy = Policy("mine", [pattern], clock=clock)
    acted = [await acts(policy, pattern, clock) for _ in range(40)]
    assert abs(sum(acted) - 10) <= 1
    at_rest(pattern)


@GUARD
async def test_admit_follows_the_mode_too(cls):
    clock = VirtualClock()
    pattern = make(cls, clock, **({"timeout": 0.0} if cls.key == "backpressure" else {}))
    tasks = await fill(pattern, clock)
    before = live(pattern)
    for mode in ("observe", "off"):
        policy = Policy("mine", [pattern], mode=mode, clock=clock)
        async with policy.admit():
            assert live(pattern) == before
    with pytest.raises(RejectionError):
        async with Policy("mine", [pattern], clock=clock).admit():
            raise AssertionError("it must not enter")
    assert live(pattern) == before
    await clock.advance(60)
    await asyncio.gather(*tasks)
    at_rest(pattern)
