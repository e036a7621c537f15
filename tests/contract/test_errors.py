"""Errors through each pattern: the user's own come out as they went in, ours say who decided and why."""

from __future__ import annotations

import asyncio
import copy
import pickle

import pytest

from aioresilience.bound import Bound
from aioresilience.calls import ANYONE
from aioresilience.exceptions import OperationTimeoutError, ResilienceError
from aioresilience.policy import Policy
from aioresilience.scope import sleep
from aioresilience.testing import VirtualClock
from tests.contract.stacks import BOUNDS, EVERY, GUARDS, fail, fill, finished, key_of, make

PATTERN = pytest.mark.parametrize("cls", EVERY, ids=key_of)


async def slow(clock: VirtualClock) -> None:
    await sleep(100, clock)


@PATTERN
@pytest.mark.parametrize("kind", [TimeoutError, asyncio.TimeoutError, ValueError, LookupError])
async def test_the_users_error_comes_out_as_it_went_in(cls, kind):
    clock = VirtualClock()
    pattern = make(cls, clock, **({"fallback_on_exceptions": (OSError,)} if cls.key == "fallback" else {}))
    cause, context = KeyError("cause"), IndexError("context")
    theirs = [kind("theirs") for _ in range(2)]
    left = list(theirs)

    async def raises() -> None:
        try:
            raise context
        except IndexError:
            raise left.pop(0) from cause

    if kind is TimeoutError and cls.key == "fallback":
        pattern = make(cls, clock, fallback_on_exceptions=(ConnectionError,))
    with pytest.raises(kind) as caught:
        await finished(pattern.execute(raises), clock)
    assert caught.value in theirs
    assert not isinstance(caught.value, ResilienceError)
    assert caught.value.__cause__ is cause
    assert caught.value.__context__ is context


@pytest.mark.parametrize("cls", BOUNDS, ids=key_of)
async def test_the_users_own_timeout_is_never_taken_for_ours(cls):
    clock = VirtualClock()
    pattern = make(cls, clock)

    async def own() -> None:
        async with asyncio.timeout(0):
            await asyncio.sleep(1)

    with pytest.raises(TimeoutError) as caught:
        await pattern.execute(own)
    assert not isinstance(caught.value, OperationTimeoutError)
    assert pattern.status()["timed_out"] == 0


async def error_of(pattern, clock: VirtualClock) -> BaseException:
    """Let the pattern, in a policy, decide against a call."""
    policy = Policy("mine", [pattern], clock=clock)
    tasks = await fill(pattern, clock) if pattern in GUARDS or type(pattern) in GUARDS else []
    try:
        return await outcome(policy, pattern, clock)
    finally:
        await clock.advance(60)
        await asyncio.gather(*tasks)


async def outcome(policy: Policy, pattern, clock: VirtualClock) -> BaseException:
    try:
        await finished(policy.call(slow, clock) if isinstance(pattern, Bound) else policy.call(fail), clock)
    except Exception as error:
        return error
    raise AssertionError("nothing was decided")


DECIDING = [cls for cls in EVERY if cls.key != "retry"]


async def broken(*args: object) -> None:
    raise LookupError("the fallback is broken too")


DECIDES = {"fallback": {"fallback": broken}, "backpressure": {"timeout": 1.0}}


@pytest.mark.parametrize("cls", DECIDING, ids=key_of)
async def test_an_error_of_ours_carries_policy_pattern_and_reason_and_pickles(cls):
    clock = VirtualClock()
    pattern = make(cls, clock, **DECIDES.get(cls.key, {}))
    error = await error_of(pattern, clock)
    assert isinstance(error, ResilienceError)
    for seen in (error, pickle.loads(pickle.dumps(error)), copy.deepcopy(error), copy.copy(error)):
        assert type(seen) is type(error)
        assert (seen.policy, seen.pattern_name, seen.pattern_type) == ("mine", "p", pattern.type_name)
        assert seen.reason in cls.reasons
        assert str(seen) == str(error)
        assert "'p'" in str(seen)
        assert (seen.retry_after, seen.metadata) == (error.retry_after, error.metadata)


@pytest.mark.parametrize("cls", [cls for cls in DECIDING if cls not in GUARDS], ids=key_of)
async def test_the_original_is_the_cause(cls):
    clock = VirtualClock()
    pattern = make(cls, clock, **DECIDES.get(cls.key, {}))
    error = await error_of(pattern, clock)
    assert isinstance(error.__cause__, asyncio.CancelledError if cls in BOUNDS else LookupError)


@pytest.mark.parametrize(("key", "seconds"), [("circuit_breaker", 10), ("rate_limiter", 30)])
async def test_retry_after_is_the_time_from_which_on_a_call_may_start(key, seconds):
    clock = VirtualClock()
    cls = next(cls for cls in GUARDS if cls.key == key)
    pattern = make(cls, clock)
    await fill(pattern, clock)
    clock.move(3)
    error = pattern.refusal(ANYONE)
    assert error.retry_after == pytest.approx(seconds - 3)
    clock.move(error.retry_after - 0.001)
    assert pattern.admit(ANYONE) is None
    clock.move(0.001)
    assert pattern.admit(ANYONE) is not None
