"""What 0.2.1 does where no document says it, as measured by running the released package."""

from __future__ import annotations

import asyncio

import pytest

from aioresilience import (
    AdaptiveConcurrencyConfig,
    AdaptiveConcurrencyLimiter,
    BackpressureConfig,
    BackpressureManager,
    BasicLoadShedder,
    ChainedFallback,
    CircuitBreaker,
    CircuitConfig,
    EventType,
    ExceptionConfig,
    FallbackConfig,
    FallbackFailedError,
    FallbackHandler,
    LoadShedderEvent,
    LoadSheddingConfig,
    LocalRateLimiter,
    RateLimitExceededError,
    RetryConfig,
    RetryPolicy,
    fallback,
)
from aioresilience.exceptions import (
    ExceptionAction,
    ExceptionContext,
    ExceptionHandler,
    FallbackReason,
    RetryReason,
)


class Boom(Exception):
    pass


async def boom(*args: object) -> None:
    raise Boom("down")


async def boom_too(*args: object) -> None:
    raise LookupError("also down")


async def test_a_handler_returns_an_action_and_the_exception():
    error = ValueError("x")
    plain = ExceptionHandler("n", "retry")
    assert await plain.handle_exception(RetryReason.EXHAUSTED, error) == (ExceptionAction.RAISE_ORIGINAL, error)
    for choice in ({"exception_type": KeyError}, {"exception_transformer": lambda error, context: KeyError("x")}):
        action, made = await ExceptionHandler("n", "retry", **choice).handle_exception(RetryReason.EXHAUSTED, error)
        assert action is ExceptionAction.RAISE_TRANSFORMED
        assert type(made) is KeyError


def test_a_context_says_its_reason_as_the_enum_spells_it():
    row = ExceptionContext("n", "retry", RetryReason.EXHAUSTED, ValueError("q"), {"a": 1}).to_dict()
    assert (row["pattern_name"], row["reason"], row["metadata"]) == ("n", "EXHAUSTED", {"a": 1})


async def test_a_callback_learns_the_state_that_a_failure_ended():
    told: list[ExceptionContext] = []
    config = CircuitConfig(failure_threshold=2, recovery_timeout=0.001)
    circuit = CircuitBreaker("c", config, ExceptionConfig(on_exception=told.append))
    for _ in range(2):
        with pytest.raises(Boom):
            await circuit.call(boom)
    await asyncio.sleep(0.005)
    with pytest.raises(Boom):
        await circuit.call(boom)
    seen = [(one.reason.name, one.metadata["old_state"], one.metadata["state"]) for one in told]
    assert seen == [
        ("CALL_FAILED", "closed", "closed"),
        ("THRESHOLD_EXCEEDED", "closed", "open"),
        ("THRESHOLD_EXCEEDED", "half_open", "open"),
    ]


async def test_a_retry_event_names_the_attempt_to_come_and_the_callbacks_the_one_that_failed():
    events, told = [], []
    config = RetryConfig(
        max_attempts=3, initial_delay=0.001, jitter=0.0,
        on_retry=lambda context: told.append(context.metadata["attempt"]),
        on_exhausted=lambda context: told.append(context.metadata["attempt"]),
    )  # fmt: skip
    policy = RetryPolicy(config)
    policy.events.on("*")(events.append)
    with pytest.raises(Boom):
        await policy.execute(boom)
    await asyncio.sleep(0)
    assert [(event.event_type.name, event.attempt) for event in events] == [
        ("RETRY_ATTEMPT", 2),
        ("RETRY_ATTEMPT", 3),
        ("RETRY_EXHAUSTED", 3),
    ]
    assert told == [1, 2, 3]


async def test_a_failed_fallback_has_one_reason_and_is_quiet_on_request():
    with pytest.raises(FallbackFailedError) as caught:
        await FallbackHandler(FallbackConfig(fallback=boom_too)).execute(boom)
    assert caught.value.reason is FallbackReason.ALL_FALLBACKS_FAILED
    assert set(caught.value.metadata) >= {"original_error", "fallback_error"}
    assert await fallback(boom_too, reraise_on_fallback_failure=False)(boom)() is None


async def test_a_chain_takes_its_fallbacks_one_by_one():
    chain = ChainedFallback(boom_too, "value", fallback_on_exceptions=(Boom,))
    assert await chain.execute(boom) == "value"
    with pytest.raises(LookupError):
        await chain.execute(boom_too)


async def test_acquire_of_the_limiter_raises_at_once():
    limiter = LocalRateLimiter()
    assert await limiter.acquire("user", "1/hour") is None
    with pytest.raises(RateLimitExceededError) as caught:
        await limiter.acquire("user", "1/hour")
    assert {**caught.value.metadata} == {"key": "user", "rate": "1/hour"}


async def test_utilization_is_a_percentage_and_the_level_a_number():
    shedder = BasicLoadShedder(LoadSheddingConfig(max_requests=4))
    pressure = BackpressureManager(BackpressureConfig(max_pending=8, high_water_mark=6, low_water_mark=2))
    for _ in range(3):
        await shedder.acquire()
    for _ in range(2):
        await pressure.acquire()
    assert (shedder.get_stats()["utilization"], shedder.get_stats()["load_level"]) == (75.0, 1)
    assert pressure.get_stats()["utilization"] == 25.0


async def test_backpressure_and_the_adaptive_limit_tell_by_the_events_of_0_2():
    heard: list[LoadShedderEvent] = []
    pressure = BackpressureManager(BackpressureConfig(max_pending=4, high_water_mark=2, low_water_mark=1))
    config = AdaptiveConcurrencyConfig(initial_limit=10, min_limit=1, measurement_window=2)
    limiter = AdaptiveConcurrencyLimiter("n", config)
    for events in (pressure.events, limiter.events):
        events.on("threshold_exceeded")(heard.append)
        events.on(EventType.LOAD_LEVEL_CHANGE.value)(heard.append)
    await pressure.acquire()
    await pressure.acquire()
    await pressure.release()
    for _ in range(2):
        assert await limiter.acquire()
        await limiter.release(success=False)
    for _ in range(3):
        await asyncio.sleep(0)
    assert [(event.event_type.name, event.active_requests, event.max_requests) for event in heard] == [
        ("THRESHOLD_EXCEEDED", 2, 4),
        ("LOAD_LEVEL_CHANGE", 1, 4),
        ("LOAD_LEVEL_CHANGE", 0, 9),
    ]


async def test_an_attribute_that_is_a_field_can_be_set_and_takes_effect():
    circuit = CircuitBreaker("c", CircuitConfig(failure_threshold=9))
    circuit.failure_threshold = 1
    with pytest.raises(Boom):
        await circuit.call(boom)
    assert circuit.get_metrics()["state"] == "open"
    shedder = BasicLoadShedder(LoadSheddingConfig(max_requests=5))
    shedder.max_requests = 1
    assert [await shedder.acquire(), await shedder.acquire()] == [True, False]
    with pytest.raises(ValueError, match="max_requests"):
        shedder.max_requests = -1


async def test_the_errors_of_the_users_function_are_not_replaced_but_the_refusals_are():
    def transform(error: BaseException | None, context: ExceptionContext) -> Exception:
        assert error is None
        return KeyError(context.reason.name)

    circuit = CircuitBreaker("c", CircuitConfig(failure_threshold=1), ExceptionConfig(exception_transformer=transform))
    with pytest.raises(Boom):
        await circuit.call(boom)
    with pytest.raises(KeyError, match="CIRCUIT_OPEN"):
        await circuit.call(boom)
    told: list[ExceptionContext] = []
    choice = ExceptionConfig(exception_type=KeyError, handled_exceptions=(OSError,), on_exception=told.append)
    limiter = LocalRateLimiter(exceptions=choice)
    await limiter.acquire("user", "1/hour")
    with pytest.raises(KeyError):
        await limiter.acquire("user", "1/hour")
    assert [(one.reason.name, one.original_exception) for one in told] == [("RATE_LIMIT_EXCEEDED", None)]
