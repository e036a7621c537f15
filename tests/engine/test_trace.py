"""The decision trace: what patterns did to one call, on its error and as an event, in every form of a policy."""

import asyncio
import pickle

import pytest

from aioresilience.bulkhead import Bulkhead, BulkheadConfig
from aioresilience.calls import ANYONE, Call
from aioresilience.circuit_breaker import CircuitBreaker, CircuitConfig
from aioresilience.events import Decision
from aioresilience.exceptions import (
    BulkheadFullError,
    CircuitBreakerOpenError,
    FallbackFailedError,
    OperationTimeoutError,
    RateLimitExceededError,
)
from aioresilience.fallback import FallbackConfig, FallbackHandler
from aioresilience.modes import Gradual
from aioresilience.pattern import Context
from aioresilience.policy.fused import fuse
from aioresilience.policy.policy import Policy
from aioresilience.policy.snapshot import fold, folded
from aioresilience.rate_limiting import RateLimit, RateLimiterConfig
from aioresilience.retry import RetryConfig, RetryPolicy
from aioresilience.scope import sleep
from aioresilience.testing import VirtualClock
from aioresilience.timeout import Deadline, DeadlineConfig, TimeoutConfig, TimeoutManager


def by_fold(patterns, clock):
    return folded(patterns, Context("p"), clock)


def by_fusing(patterns, clock):
    return fuse(patterns, Context("p"), clock, fold)


def by_admit(patterns, clock):
    policy = Policy("p", patterns, clock=clock)

    async def run(func, args, kwargs, caller):
        async with policy.admit():
            return await func(*args, **kwargs)

    return run


FORMS = [by_fold, by_fusing]
WITH_ADMIT = [*FORMS, by_admit]


async def ok():
    return "ok"


async def broken():
    raise ConnectionError("down")


async def outcome(clock, awaitable, seconds=100.0):
    """Let a call run to its end on the virtual clock and return its error."""
    task = asyncio.ensure_future(awaitable)
    await clock.advance(seconds)
    return task.exception()


async def test_an_error_of_a_pattern_alone_tells_of_itself():
    circuit = CircuitBreaker("c", clock=VirtualClock())
    circuit.force_open("maintenance")
    with pytest.raises(CircuitBreakerOpenError) as caught:
        await circuit.call(ok)
    assert caught.value.trace == (Decision("circuit_breaker", "c", "rejected", "CIRCUIT_OPEN", 0.0),)


@pytest.mark.parametrize("form", WITH_ADMIT)
async def test_a_rejection_tells_of_the_delay_before_it_and_so_does_the_event(form):
    clock = VirtualClock()
    limit = RateLimit("limit", RateLimiterConfig(rate="1/minute", burst=1, wait=60.0), clock=clock)
    places = Bulkhead("places", BulkheadConfig(max_concurrent=1), clock=clock)
    run = form([limit, places], clock)
    log = []
    places.events.on("decision")(log.append)
    holder = asyncio.ensure_future(run(sleep, (100, clock), {}, ANYONE))
    await clock.advance(30)
    error = await outcome(clock, run(ok, (), {}, ANYONE), 40)
    assert isinstance(error, BulkheadFullError)
    assert error.trace == (
        Decision("rate_limiter", "limit", "delayed", None, 30.0),
        Decision("bulkhead", "places", "rejected", "CAPACITY_FULL", 0.0),
    )
    assert pickle.loads(pickle.dumps(error)).trace == error.trace
    await clock.advance(0)
    assert [event.trace for event in log] == [error.trace]
    assert log[0].to_dict()["trace"] == [decision.to_dict() for decision in error.trace]
    holder.cancel()


@pytest.mark.parametrize("form", WITH_ADMIT)
async def test_a_cut_tells_of_the_delay_by_a_guard_further_in(form):
    clock = VirtualClock()
    deadline = Deadline(DeadlineConfig(timeout=50.0), clock=clock, name="whole")
    places = Bulkhead("places", BulkheadConfig(max_concurrent=1, max_waiting=1), clock=clock)
    run = form([deadline, places], clock)
    log = []
    deadline.events.on("decision")(log.append)
    holder = asyncio.ensure_future(run(sleep, (20, clock), {}, ANYONE))
    await clock.advance(0)
    error = await outcome(clock, run(sleep, (100, clock), {}, ANYONE))
    assert isinstance(error, OperationTimeoutError)
    assert error.trace == (
        Decision("bulkhead", "places", "delayed", None, 20.0),
        Decision("deadline", "whole", "cut", "DEADLINE_EXCEEDED", 50.0),
    )
    await holder
    assert [event.action for event in log] == ["cut"]


@pytest.mark.parametrize("form", FORMS)
async def test_retries_and_what_they_answered_to_are_in_the_trace(form):
    clock = VirtualClock()
    retry = RetryPolicy(RetryConfig(max_attempts=3, initial_delay=1, jitter=0), clock=clock, name="again")
    attempt = TimeoutManager(TimeoutConfig(timeout=4), clock=clock, name="attempt")
    error = await outcome(clock, form([retry, attempt], clock)(sleep, (100, clock), {}, ANYONE))
    cut = Decision("timeout", "attempt", "cut", "TIMEOUT_EXCEEDED", 4.0)
    assert error.trace == (
        cut,
        Decision("retry", "again", "retried", "OperationTimeoutError", 1.0),
        cut,
        Decision("retry", "again", "retried", "OperationTimeoutError", 2.0),
        cut,
    )


@pytest.mark.parametrize("form", FORMS)
async def test_a_rejected_retry_and_an_exhausted_one_tell_all_of_it(form):
    clock = VirtualClock()
    retry = RetryPolicy(RetryConfig(max_attempts=3, initial_delay=1, jitter=0), clock=clock, name="again")
    limit = RateLimit("limit", RateLimiterConfig(rate="1/hour", burst=1), clock=clock)
    log = []
    retry.events.on("retry_exhausted")(log.append)
    limit.events.on("decision")(log.append)
    error = await outcome(clock, form([retry, limit], clock)(broken, (), {}, ANYONE))
    assert isinstance(error, ConnectionError)
    assert isinstance(error.__context__, RateLimitExceededError)
    retried = Decision("retry", "again", "retried", "ConnectionError", 1.0)
    assert error.__context__.trace[0] == retried
    assert [decision.action for decision in error.__context__.trace] == ["retried", "rejected"]
    rejected, exhausted = sorted(log, key=lambda event: event.event_type, reverse=True)
    assert rejected.trace == error.__context__.trace
    assert exhausted.metadata["trace"] == (retried,)


@pytest.mark.parametrize("form", FORMS)
async def test_a_failed_fallback_tells_what_came_before(form):
    clock = VirtualClock()
    instead = FallbackHandler(FallbackConfig(fallback=broken), clock=clock, name="instead")
    circuit = CircuitBreaker("c", CircuitConfig(), clock=clock)
    circuit.force_open("maintenance")
    error = await outcome(clock, form([instead, circuit], clock)(ok, (), {}, ANYONE))
    assert isinstance(error, FallbackFailedError)
    assert [(d.pattern_name, d.action) for d in error.trace] == [("c", "rejected"), ("instead", "failed")]


@pytest.mark.parametrize("form", WITH_ADMIT)
async def test_what_observing_would_have_refused_is_in_the_trace(form):
    clock = VirtualClock()
    circuit = CircuitBreaker("c", CircuitConfig(mode="observe"), clock=clock)
    circuit.force_open("maintenance")
    limit = RateLimit("limit", RateLimiterConfig(rate="1/hour", burst=1), clock=clock)
    run = form([circuit, limit], clock)
    await run(ok, (), {}, ANYONE)
    error = await outcome(clock, run(ok, (), {}, ANYONE))
    assert [(d.action, d.reason) for d in error.trace] == [
        ("would_reject", "CIRCUIT_OPEN"),
        ("rejected", "RATE_LIMIT_EXCEEDED"),
    ]


@pytest.mark.parametrize("form", WITH_ADMIT)
async def test_one_call_s_trace_is_not_the_next_one_s(form):
    clock = VirtualClock()
    limit = RateLimit("limit", RateLimiterConfig(rate="1/minute", burst=1, wait=60.0), clock=clock)
    attempt = TimeoutManager(TimeoutConfig(timeout=4), clock=clock, name="attempt")
    run = form([limit, attempt], clock)

    async def three():
        await run(ok, (), {}, ANYONE)
        await run(ok, (), {}, ANYONE)  # delayed
        await sleep(120, clock)
        await run(sleep, (100, clock), {}, ANYONE)

    error = await outcome(clock, three(), 300)
    assert [decision.action for decision in error.trace] == ["cut"]


async def test_a_call_that_nothing_happens_to_has_no_trace():
    clock = VirtualClock()
    patterns = [
        RetryPolicy(clock=clock),
        CircuitBreaker("c", clock=clock),
        Bulkhead("b", clock=clock),
        TimeoutManager(clock=clock),
    ]
    call = Call(ok, (), {}, ANYONE)
    assert await fold(patterns, Context("p"), clock)(call) == "ok"
    assert call.trace is None


async def test_a_bound_under_observe_reports_in_admit_too():
    clock = VirtualClock()
    attempt = TimeoutManager(TimeoutConfig(timeout=4, mode="observe"), clock=clock, name="attempt")
    log = []
    attempt.events.on("decision")(log.append)
    assert await outcome(clock, by_admit([attempt], clock)(sleep, (10, clock), {}, ANYONE)) is None
    assert await outcome(clock, by_admit([attempt], clock)(sleep, (3, clock), {}, ANYONE)) is None
    assert [(event.action, event.waited) for event in log] == [("would_cut", 10.0)]
    assert attempt.counts.observed == 1
    assert attempt.counts.succeeded == attempt.counts.started == 2


async def test_a_gradual_bound_cuts_its_share_of_admissions_and_observes_the_rest():
    clock = VirtualClock()
    attempt = TimeoutManager(TimeoutConfig(timeout=4, mode=Gradual(enforce=0.25)), clock=clock, name="attempt")
    run = by_admit([attempt], clock)
    errors = [await outcome(clock, run(sleep, (10, clock), {}, ANYONE), 20) for _ in range(40)]
    cut = sum(isinstance(error, OperationTimeoutError) for error in errors)
    assert cut in (9, 10, 11)
    assert attempt.counts.observed == 40 - cut


async def test_a_gradual_guard_keeps_its_share_over_admissions():
    clock = VirtualClock()
    circuit = CircuitBreaker("c", CircuitConfig(mode=Gradual(enforce=0.5)), clock=clock)
    circuit.force_open("maintenance")
    run = by_admit([circuit], clock)
    errors = [await outcome(clock, run(ok, (), {}, ANYONE), 0) for _ in range(40)]
    refused = sum(isinstance(error, CircuitBreakerOpenError) for error in errors)
    assert refused in (19, 20, 21)
    assert circuit.counts.observed == 40 - refused
