"""What code written for 0.2 relies on beyond names: attributes, metric keys, return values, callbacks, formulas.

`RedisRateLimiter` has a room of its own, `tests/redis`; `aioresilience.integrations.fastapi` is not there yet.
"""

from __future__ import annotations

import json
import logging

import pytest
from aiolimiter import AsyncLimiter

import aioresilience
from aioresilience import (
    AdaptiveConcurrencyLimiter,
    BackpressureManager,
    BasicLoadShedder,
    Bulkhead,
    BulkheadConfig,
    ChainedFallback,
    CircuitBreaker,
    CircuitBreakerManager,
    CircuitConfig,
    ExceptionConfig,
    FallbackHandler,
    LocalRateLimiter,
    RetryConfig,
    RetryPolicy,
    SystemLoadShedder,
    TimeoutManager,
    bulkhead,
    chained_fallback,
    circuit_breaker,
    fallback,
    get_all_bulkhead_metrics,
    get_all_circuit_metrics,
    get_bulkhead,
    retry,
    timeout,
    with_backpressure,
    with_bulkhead,
    with_circuit_breaker,
    with_fallback_handler,
    with_load_shedding,
    with_retry,
    with_timeout_manager,
)
from aioresilience.circuit_breaker import CircuitMetrics, CircuitState
from aioresilience.config import (
    AdaptiveConcurrencyConfig,
    BackpressureConfig,
    LoadSheddingConfig,
    RateLimitConfig,
)
from aioresilience.events import EventEmitter, EventType, PatternType, ResilienceEvent, global_bus
from aioresilience.exceptions import (
    BackpressureError,
    BulkheadFullError,
    BulkheadReason,
    CircuitBreakerOpenError,
    CircuitBreakerReason,
    ExceptionContext,
    LoadSheddingError,
    RetryReason,
)
from aioresilience.testing import VirtualClock


async def ok(value: object = "ok") -> object:
    return value


async def fail(*args: object) -> None:
    raise ConnectionError("down")


# Attributes and what the metrics methods return

BREAKER = (
    "name state total_requests successful_requests failed_requests failure_rate consecutive_failures "
    "consecutive_successes last_failure_time time_since_last_failure"
)
METRICS = {
    "CircuitBreaker": (CircuitBreaker, "get_metrics", BREAKER, "state metrics half_open_calls events name"),
    "Bulkhead": (
        Bulkhead,
        "get_metrics",
        (
            "total_requests successful_requests rejected_requests current_active peak_active total_wait_time "
            "average_wait_time rejection_rate utilization"
        ),
        "events name max_concurrent max_waiting timeout",
    ),
    "RetryPolicy": (
        RetryPolicy,
        "get_metrics",
        "total_attempts successful_attempts failed_attempts total_delay last_error retries_exhausted success_rate",
        "events max_attempts initial_delay max_delay backoff_multiplier strategy jitter",
    ),
    "TimeoutManager": (
        TimeoutManager,
        "get_metrics",
        (
            "total_executions successful_executions timed_out_executions total_execution_time average_execution_time "
            "timeout_rate"
        ),
        "events timeout raise_on_timeout",
    ),
    "FallbackHandler": (
        FallbackHandler,
        "get_metrics",
        "total_executions successful_executions fallback_executions failed_executions fallback_rate failure_rate",
        "events fallback reraise_on_fallback_failure",
    ),
    "ChainedFallback": (
        lambda: ChainedFallback([ok]),
        "get_metrics",
        "total_executions successful_executions fallback_executions failed_executions fallback_rate failure_rate",
        "events",
    ),
    "BackpressureManager": (
        BackpressureManager,
        "get_stats",
        "pending_count max_pending backpressure_active total_rejected utilization",
        "pending_count backpressure_active total_rejected events max_pending high_water_mark low_water_mark",
    ),
    "AdaptiveConcurrencyLimiter": (
        AdaptiveConcurrencyLimiter,
        "get_stats",
        "current_limit active_count total_requests success_count failure_count utilization",
        "current_limit active_count events min_limit max_limit",
    ),
    "LocalRateLimiter": (
        LocalRateLimiter,
        "get_stats",
        "name active_limiters max_limiters type",
        "limiters events name max_limiters",
    ),
    "BasicLoadShedder": (
        BasicLoadShedder,
        "get_stats",
        "active_requests queue_depth total_shed load_level max_requests max_queue_depth utilization type",
        "active_requests queue_depth total_shed events max_requests max_queue_depth",
    ),
    "SystemLoadShedder": (
        SystemLoadShedder,
        "get_stats",
        (
            "active_requests queue_depth total_shed load_level max_requests max_queue_depth utilization type "
            "cpu_percent "
            "memory_percent"
        ),
        "active_requests queue_depth total_shed events cpu_threshold memory_threshold check_interval",
    ),
}


@pytest.mark.parametrize("name", METRICS)
async def test_metrics_have_their_keys_and_instances_their_attributes(name):
    make, method, keys, attributes = METRICS[name]
    pattern = make()
    assert set(keys.split()) <= set(getattr(pattern, method)())
    json.dumps(getattr(pattern, method)())
    for attribute in attributes.split():
        getattr(pattern, attribute)


async def test_the_circuit_says_its_state_in_lower_case_and_as_an_enum():
    circuit = CircuitBreaker("api", CircuitConfig(failure_threshold=2))
    assert (circuit.get_metrics()["state"], circuit.state, circuit.get_state()) == (
        "closed", CircuitState.CLOSED, CircuitState.CLOSED,
    )  # fmt: skip
    await circuit.call(ok)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await circuit.call(fail)
    metrics = circuit.get_metrics()
    assert (metrics["name"], metrics["state"], metrics["total_requests"]) == ("api", "open", 3)
    assert (metrics["successful_requests"], metrics["failed_requests"]) == (1, 2)
    assert metrics["failure_rate"] == pytest.approx(2 / 3)
    assert metrics["consecutive_failures"] == 2
    assert isinstance(circuit.metrics, CircuitMetrics)
    with pytest.raises(CircuitBreakerOpenError) as caught:
        await circuit.call(ok)
    assert caught.value.reason is CircuitBreakerReason.CIRCUIT_OPEN
    assert (caught.value.pattern_name, caught.value.pattern_type) == ("api", "circuit_breaker")
    await circuit.reset()
    assert (circuit.state, circuit.get_metrics()["total_requests"]) == (CircuitState.CLOSED, 0)


async def test_the_circuit_is_driven_by_hand():
    clock = VirtualClock()
    circuit = CircuitBreaker("api", CircuitConfig(failure_threshold=2, recovery_timeout=5.0), clock=clock)
    for _ in range(2):
        assert await circuit.can_execute()
        await circuit.on_failure()
    assert not await circuit.can_execute()
    clock.move(5.0)
    for _ in range(2):
        assert await circuit.can_execute()
        assert circuit.state is CircuitState.HALF_OPEN
        await circuit.on_success()
    assert circuit.state is CircuitState.CLOSED


async def test_the_manager_keeps_circuits_by_name():
    manager = CircuitBreakerManager()
    circuit = manager.get_or_create("db", failure_threshold=1, recovery_timeout=5.0)
    assert manager.get_or_create("db") is circuit
    assert (circuit.failure_threshold, circuit.recovery_timeout) == (1, 5.0)
    with pytest.raises(ConnectionError):
        await circuit.call(fail)
    assert manager.get_open_circuits() == ["db"]
    assert manager.get_all_metrics()["db"]["state"] == "open"
    await manager.reset_all()
    assert manager.get_open_circuits() == []


# Decorators


async def test_decorators_expose_what_they_did_and_each_has_its_own_circuit():
    @circuit_breaker("compat-api", failure_threshold=3, success_threshold=1)
    async def call() -> str:
        return "ok"

    assert await call() == "ok"
    assert call.circuit_breaker.name == "compat-api"
    assert circuit_breaker("compat-api")(ok).circuit_breaker is not call.circuit_breaker
    assert (call.circuit_breaker.failure_threshold, call.circuit_breaker.success_threshold) == (3, 1)
    assert "compat-api" not in get_all_circuit_metrics()
    mine = CircuitBreaker("mine")
    assert with_circuit_breaker(mine)(call).circuit_breaker is mine


async def test_every_decorator_runs_an_async_function_and_refuses_a_plain_one():
    made = {
        "circuit_breaker": circuit_breaker("compat-all"),
        "with_circuit_breaker": with_circuit_breaker(CircuitBreaker("x")),
        "retry": retry(max_attempts=2, initial_delay=0.0),
        "with_retry": with_retry(RetryPolicy()),
        "timeout": timeout(1.0),
        "with_timeout_manager": with_timeout_manager(TimeoutManager()),
        "bulkhead": bulkhead(2),
        "with_bulkhead": with_bulkhead(Bulkhead()),
        "fallback": fallback("x"),
        "chained_fallback": chained_fallback(ok, "x"),
        "with_fallback_handler": with_fallback_handler(FallbackHandler()),
        "with_backpressure": with_backpressure(BackpressureManager(), timeout=1.0),
        "with_load_shedding": with_load_shedding(BasicLoadShedder(), priority="high"),
    }
    for name, decorator in made.items():
        decorated = decorator(ok)
        assert await decorated(3) == await decorated(value=3) == 3, name
        assert decorated.__name__ == "ok"
        with pytest.raises(TypeError):
            decorator(lambda: 1)


async def test_a_plain_function_runs_in_a_worker_thread():
    import threading

    here = threading.get_ident()
    for run in (CircuitBreaker("x").call, RetryPolicy().execute, TimeoutManager().execute, Bulkhead().execute):
        assert await run(threading.get_ident) != here


# Guards by hand


async def test_async_with_raises_where_there_is_no_room():
    pool, limiter = (
        Bulkhead("x", BulkheadConfig(max_concurrent=1)),
        AdaptiveConcurrencyLimiter("x", AdaptiveConcurrencyConfig(initial_limit=1, min_limit=1)),
    )
    async with pool:
        assert pool.is_full()
        with pytest.raises(BulkheadFullError) as caught:
            async with pool:
                raise AssertionError
        assert caught.value.reason is BulkheadReason.CAPACITY_FULL
    assert pool.available_slots() == 1
    async with limiter:
        with pytest.raises(RuntimeError):
            async with limiter:
                raise AssertionError
    assert limiter.active_count == 0


async def test_acquire_returns_a_bool_and_the_decorators_raise():
    shedder = BasicLoadShedder(LoadSheddingConfig(max_requests=1))
    pressure = BackpressureManager(BackpressureConfig(max_pending=2, high_water_mark=1, low_water_mark=0))
    limiter = AdaptiveConcurrencyLimiter("x", AdaptiveConcurrencyConfig(initial_limit=1, min_limit=1))
    assert await shedder.acquire() is True
    assert await shedder.acquire("high") is False
    assert shedder.should_shed_load()[0] is True
    assert await pressure.acquire() is True
    assert await pressure.acquire(timeout=0.01) is False
    assert pressure.should_apply_backpressure is True
    assert await limiter.acquire() is True
    assert await limiter.acquire() is False
    with pytest.raises(LoadSheddingError):
        await with_load_shedding(shedder)(ok)()
    with pytest.raises(BackpressureError):
        await with_backpressure(pressure, timeout=0.01)(ok)()
    await shedder.release()
    await pressure.release()
    await limiter.release(success=False)
    assert (shedder.active_requests, pressure.pending_count, limiter.active_count) == (0, 0, 0)
    assert shedder.should_shed_load() == (False, "")
    assert (shedder.total_shed, pressure.total_rejected) == (2, 2)
    assert limiter.get_stats()["failure_count"] == 1


async def test_the_rate_limiter_takes_its_keywords_and_hands_out_real_limiters():
    assert LocalRateLimiter(name="a").name == LocalRateLimiter(service_name="a").name == "a"
    assert LocalRateLimiter(max_limiters=7).max_limiters == 7
    limiter = LocalRateLimiter(config=RateLimitConfig(name="b", max_limiters=9))
    assert (limiter.name, limiter.max_limiters) == ("b", 9)
    assert [await limiter.check_rate_limit("user", "2/minute") for _ in range(3)] == [True, True, False]
    assert isinstance(await limiter.get_limiter("user", "2/minute"), AsyncLimiter)
    assert limiter.get_stats()["type"] == "local"
    for rate in ("10", "x/minute", "10/fortnight", "0/second"):
        with pytest.raises(ValueError, match=r"rate|period"):
            await limiter.check_rate_limit("user", rate)


async def test_the_system_shedder_takes_its_keywords_or_a_config():
    shedder = SystemLoadShedder(max_requests=5, cpu_threshold=99.0, memory_threshold=98.0, check_interval=0.5)
    assert (shedder.max_requests, shedder.cpu_threshold, shedder.memory_threshold) == (5, 99.0, 98.0)
    assert SystemLoadShedder(config=LoadSheddingConfig(max_requests=6)).max_requests == 6
    assert BasicLoadShedder().get_stats()["type"] == "basic"


async def test_bulkheads_by_name():
    pool = await get_bulkhead("compat-pool", 3, max_waiting=2)
    assert await get_bulkhead("compat-pool", 9) is pool
    assert (pool.max_concurrent, pool.max_waiting) == (3, 2)
    assert "compat-pool" in get_all_bulkhead_metrics()


# Exceptions: callbacks, types, transformers, predicates


async def test_a_custom_type_a_transformer_and_a_predicate_do_what_they_did():
    class Busy(Exception):
        pass

    async def full(exceptions: ExceptionConfig) -> BaseException:
        pool = Bulkhead("x", BulkheadConfig(max_concurrent=1), exceptions)
        async with pool:
            with pytest.raises(Exception) as caught:  # noqa: PT011
                await pool.execute(ok)
        return caught.value

    assert type(await full(ExceptionConfig(exception_type=Busy))) is Busy

    def transform(original: BaseException | None, context: ExceptionContext) -> BaseException:
        assert original is None
        return Busy(f"{context.pattern_type}:{context.reason.name}")

    assert str(await full(ExceptionConfig(exception_transformer=transform))) == "bulkhead:CAPACITY_FULL"
    told = []
    failing = RetryPolicy(
        RetryConfig(max_attempts=2, initial_delay=0.0),
        ExceptionConfig(exception_type=Busy, on_exception=told.append, exception_predicate=lambda error: True),
    )
    with pytest.raises(Busy):
        await failing.execute(fail)
    assert [context.reason for context in told] == [RetryReason.EXHAUSTED]
    assert told[0].to_dict()["reason"] == "EXHAUSTED"


# Events


async def test_an_emitter_has_its_methods_and_a_handler_may_be_of_both_kinds():
    emitter, heard = EventEmitter("mine"), []
    assert not emitter.has_listeners()

    async def later(event: ResilienceEvent) -> None:
        heard.append("later")

    emitter.add_handler("retry_attempt", later)
    emitter.on("*")(lambda event: heard.append("any"))
    assert emitter.has_listeners()
    assert emitter.handler_count == 2
    assert later in emitter.get_handlers("retry_attempt")
    await emitter.emit(ResilienceEvent(PatternType.RETRY, EventType.RETRY_ATTEMPT, "mine"))
    assert sorted(heard) == ["any", "later"]
    emitter.remove_handler("retry_attempt", later)
    emitter.clear()
    assert emitter.handler_count == 0
    assert emitter.get_global_bus() is global_bus
    assert isinstance(emitter.is_global_bus_enabled(), bool)
    assert isinstance(global_bus.is_active, bool)


def test_to_dict_says_enum_members_as_lower_case_names():
    event = ResilienceEvent(
        PatternType.CIRCUIT_BREAKER, EventType.STATE_CHANGE, "api", metadata={"why": CircuitState.OPEN}
    )
    assert event.to_dict() == {
        "pattern_type": "circuit_breaker",
        "event_type": "state_change",
        "pattern_name": "api",
        "timestamp": event.timestamp,
        "metadata": {"why": "open"},
    }


# The root


def test_the_root_exports_all_that_it_did():
    listed = [name for name in aioresilience.__all__ if not name.startswith("_")]
    assert len(listed) >= 85
    for name in listed:
        assert getattr(aioresilience, name) is not None
    for name in ("retry", "timeout", "bulkhead", "fallback", "circuit_breaker"):
        assert callable(getattr(aioresilience, name))


def test_logging_is_silent_until_it_is_configured(capsys):
    aioresilience.disable_logging()
    aioresilience.log_error("aioresilience.x", RuntimeError("quiet"))
    assert capsys.readouterr().err == ""
    assert not aioresilience.is_logging_enabled()
    reported = []
    aioresilience.set_error_handler(lambda name, error, **context: reported.append((name, str(error), context)))
    aioresilience.log_error("aioresilience.x", RuntimeError("told"), a=1)
    aioresilience.set_error_handler(None)
    assert reported == [("aioresilience.x", "told", {"a": 1})]
    aioresilience.configure_logging(logging.INFO)
    assert aioresilience.is_logging_enabled()
    aioresilience.disable_logging()
