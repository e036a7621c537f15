"""What code written for 0.2 relies on in retry, timeout, deadline and fallback."""

from __future__ import annotations

import asyncio
import random

import pytest

from aioresilience import (
    ChainedFallback,
    DeadlineManager,
    FallbackConfig,
    FallbackHandler,
    RetryConfig,
    RetryPolicy,
    RetryStrategy,
    TimeoutConfig,
    TimeoutManager,
    with_deadline,
    with_fallback,
    with_timeout,
)
from aioresilience.exceptions import (
    ExceptionContext,
    FallbackFailedError,
    OperationTimeoutError,
    TimeoutReason,
)
from aioresilience.testing import VirtualClock


async def ok(value: object = "ok") -> object:
    return value


async def fail(*args: object) -> None:
    raise ConnectionError("down")


# Retry


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (RetryStrategy.CONSTANT, [0.5, 0.5, 0.5, 0.5]),
        (RetryStrategy.LINEAR, [0.5, 2.5, 4.5, 5.0]),
        (RetryStrategy.EXPONENTIAL, [0.5, 1.0, 2.0, 4.0]),
    ],
)
async def test_delays_follow_their_formula_and_never_exceed_the_longest(strategy, expected):
    clock, waits = VirtualClock(), []

    def note(context: ExceptionContext) -> None:
        waits.append(context.metadata["delay"])

    config = RetryConfig(
        max_attempts=5, initial_delay=0.5, max_delay=5.0, backoff_multiplier=2.0, strategy=strategy, jitter=0.0,
        on_retry=note,
    )  # fmt: skip
    task = asyncio.ensure_future(RetryPolicy(config, clock=clock).execute(fail))
    await clock.advance(60)
    assert isinstance(task.exception(), ConnectionError)
    assert waits == expected


@pytest.mark.parametrize("seed", range(5))
async def test_jitter_is_a_fraction_either_way_within_the_longest_delay(seed):
    clock, waits = VirtualClock(), []
    config = RetryConfig(
        max_attempts=9, initial_delay=1.0, max_delay=20.0, jitter=0.3,
        on_retry=lambda context: waits.append(context.metadata["delay"]),
    )  # fmt: skip
    task = asyncio.ensure_future(RetryPolicy(config, clock=clock, rng=random.Random(seed)).execute(fail))
    await clock.advance(200)
    assert isinstance(task.exception(), ConnectionError)
    for attempt, wait in enumerate(waits):
        plain = min(20.0, 2.0**attempt)
        assert 0.7 * plain <= wait <= min(20.0, 1.3 * plain)


async def test_every_callback_gets_one_context_and_may_be_async():
    clock, told = VirtualClock(), []

    async def note(context: ExceptionContext) -> None:
        assert isinstance(context, ExceptionContext)
        told.append((context.pattern_type, type(context.original_exception).__name__))

    left = [ConnectionError(), ConnectionError()]

    async def flaky() -> str:
        if left:
            raise left.pop()
        return "done"

    fields = {"max_attempts": 3, "initial_delay": 0.1, "on_retry": note}
    policy = RetryPolicy(RetryConfig(**fields, on_success_after_retry=note), clock=clock)
    task = asyncio.ensure_future(policy.execute(flaky))
    await clock.advance(5)
    assert task.result() == "done"
    assert told == [("retry", "ConnectionError")] * 2 + [("retry", "NoneType")]
    told.clear()
    task = asyncio.ensure_future(RetryPolicy(RetryConfig(**fields, on_exhausted=note), clock=clock).execute(fail))
    await clock.advance(5)
    assert isinstance(task.exception(), ConnectionError)
    assert told == [("retry", "ConnectionError")] * 3


async def test_exceptions_have_strategies_of_their_own():
    clock, calls = VirtualClock(), []

    async def raises(kind: type[Exception]) -> None:
        calls.append(kind)
        raise kind

    config = RetryConfig(
        max_attempts=2, initial_delay=0.1, jitter=0.0,
        exception_strategies={ConnectionError: {"max_attempts": 4, "initial_delay": 1.0, "strategy": 0}},
    )  # fmt: skip
    policy = RetryPolicy(config, clock=clock)
    for kind in (ConnectionError, LookupError):
        task = asyncio.ensure_future(policy.execute(raises, kind))
        await clock.advance(10)
        assert isinstance(task.exception(), kind)
    assert (calls.count(ConnectionError), calls.count(LookupError)) == (4, 2)


async def test_an_exhausted_result_predicate_returns_the_last_result():
    policy = RetryPolicy(RetryConfig(max_attempts=3, initial_delay=0.0, retry_on_result=lambda result: result is None))
    assert await policy.execute(ok, None) is None
    metrics = policy.get_metrics()
    assert (metrics["total_attempts"], metrics["retries_exhausted"]) == (3, 1)


async def test_only_listed_exceptions_are_retried():
    policy = RetryPolicy(RetryConfig(max_attempts=3, initial_delay=0.0, retry_on_exceptions=(OSError,)))
    with pytest.raises(LookupError):
        await policy.execute(raise_lookup)
    assert policy.get_metrics()["total_attempts"] == 1


async def raise_lookup() -> None:
    raise LookupError


# Timeout, deadline, fallback


async def test_timeouts_raise_or_give_none():
    with pytest.raises(OperationTimeoutError) as caught:
        await with_timeout(asyncio.sleep, 0.01, 5)
    assert caught.value.reason is TimeoutReason.TIMEOUT_EXCEEDED
    assert isinstance(caught.value, TimeoutError)
    quiet = TimeoutManager(TimeoutConfig(timeout=0.01, raise_on_timeout=False))
    assert await quiet.execute(asyncio.sleep, 5) is None
    assert quiet.get_metrics()["timed_out_executions"] == 1
    assert await with_timeout(ok("coroutine"), 1.0) == "coroutine"


async def test_deadlines_are_instants_of_the_wall_clock():
    import time

    told = []
    with pytest.raises(OperationTimeoutError) as caught:
        await with_deadline(asyncio.sleep, time.time() + 0.01, 5)
    assert caught.value.reason is TimeoutReason.DEADLINE_EXCEEDED
    assert caught.value.pattern_type == "deadline"
    assert await with_deadline(ok("coroutine"), time.time() + 5) == "coroutine"
    manager = DeadlineManager(time.time() - 1, raise_on_deadline=False, on_deadline_exceeded=told.append)
    assert manager.is_expired()
    assert manager.time_remaining() == 0
    assert await manager.execute(ok) is None
    assert [context.reason for context in told] == [TimeoutReason.DEADLINE_EXCEEDED]
    with pytest.raises(KeyError):
        await DeadlineManager(time.time() - 1, exception_type=KeyError).execute(ok)


async def test_a_fallback_gets_the_calls_arguments_and_its_failure_has_both_errors():
    async def rescue(*args: object, **kwargs: object) -> tuple:
        return args, kwargs

    async def fails(*args: object, **kwargs: object) -> None:
        raise ConnectionError("down")

    assert await FallbackHandler(FallbackConfig(fallback=rescue)).execute(fails, 1, a=2) == ((1,), {"a": 2})
    assert await FallbackHandler(FallbackConfig()).execute(fails) is None
    assert await with_fallback(fails, "value", 1) == "value"
    assert await ChainedFallback(fails, rescue).execute(fails, 1) == ((1,), {})
    with pytest.raises(FallbackFailedError) as caught:
        await FallbackHandler(FallbackConfig(fallback=raise_lookup)).execute(fail)
    assert isinstance(caught.value.__cause__, LookupError)
    config = FallbackConfig(fallback=raise_lookup, reraise_on_fallback_failure=False)
    assert await FallbackHandler(config).execute(fail) is None
    with pytest.raises(LookupError):
        await FallbackHandler(FallbackConfig(fallback=1, fallback_on_exceptions=(OSError,))).execute(raise_lookup)
