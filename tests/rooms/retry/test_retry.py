"""What a retry does with one call."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import pickle
import socket
import threading
import traceback
import weakref

import pytest

from aioresilience.bulkhead import Bulkhead, BulkheadConfig
from aioresilience.calls import ANYONE, Call, Caller, invoker
from aioresilience.exceptions import (
    BulkheadFullError,
    CircuitBreakerOpenError,
    CircuitBreakerReason,
    ExceptionConfig,
    OperationTimeoutError,
    RetryReason,
    TimeoutReason,
)
from aioresilience.failures import Classifier, Rule
from aioresilience.modes import Gradual
from aioresilience.pattern import Context
from aioresilience.policy import Policy
from aioresilience.retry import RetryConfig, RetryMetrics, RetryPolicies, RetryPolicy, RetryStrategy, retry, with_retry
from aioresilience.scope import Timeline

PLAIN = {"initial_delay": 1.0, "jitter": 0.0}


class Boom(Exception):
    """What the dependency says when it is down."""


@pytest.fixture
def policy(clock):
    def make(exceptions=None, **fields):
        return RetryPolicy(RetryConfig(**{**PLAIN, **fields}), exceptions, name="orders", clock=clock)

    return make


@pytest.fixture
def under(clock):
    """Call through a retry as a policy would."""

    def make(retry, func, *, caller=ANYONE, **context):
        handler = retry.wrap(invoker(clock), Context("p", **context))
        return handler(Call(func, (), {}, caller))

    return make


class Throttled(Exception):
    status_code = 429


class Unavailable(Exception):
    status_code = 503


BY_STATUS = Classifier(failure=Rule(status=frozenset({503})), throttle=Rule(status=frozenset({429})))


async def test_what_succeeds_is_called_once(policy, upstream, finish):
    one = upstream("fine")
    assert await finish(policy().execute(one)) == "fine"
    assert one.calls == 1


async def test_what_fails_is_called_again_after_growing_delays(policy, upstream, finish):
    one = upstream(Boom(), Boom(), "fine")
    assert await finish(policy().execute(one)) == "fine"
    assert one.waits == [1.0, 2.0]


async def test_arguments_reach_every_attempt(policy, finish):
    seen = []

    async def func(*args, **kwargs):
        seen.append((args, kwargs))
        raise Boom

    with pytest.raises(Boom):
        await finish(policy().execute(func, 1, two=2))
    assert seen == [((1,), {"two": 2})] * 3


async def test_the_last_error_is_raised_as_it_is(policy, upstream, finish):
    errors = [Boom(1), Boom(2), Boom(3)]
    with pytest.raises(Boom) as caught:
        await finish(policy().execute(upstream(*errors)))
    assert caught.value is errors[2]
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_an_error_keeps_the_context_it_was_raised_in(policy):
    async def func():
        try:
            raise KeyError("inner")
        except KeyError:
            raise Boom("outer")  # noqa: B904

    try:
        raise RuntimeError("around the call")
    except RuntimeError:
        with pytest.raises(Boom) as caught:
            await policy(initial_delay=0).execute(func)
    assert isinstance(caught.value.__context__, KeyError)


@pytest.mark.parametrize("once", [True, False], ids=["one error raised again and again", "a new one each time"])
async def test_the_traceback_is_as_short_after_many_attempts_as_after_two(policy, finish, once):
    same = Boom()

    async def func():
        raise same if once else Boom()

    depths = []
    for attempts in (2, 50):
        same.__traceback__ = None
        with pytest.raises(Boom) as caught:
            await finish(policy(max_attempts=attempts).execute(func))
        depths.append(len(traceback.extract_tb(caught.value.__traceback__)))
    assert depths[0] == depths[1] <= 9


@pytest.mark.parametrize("how", ["gives up", "succeeds", "is rejected", "is replaced", "is not retried"])
async def test_the_last_error_is_not_kept_alive(policy, how):
    class Unique(Exception):
        pass

    born = []

    def error(kind=Unique):
        made = kind("gone")
        born.append(weakref.ref(made))
        return made

    async def func():
        if born and how == "succeeds":
            return
        raise error(BulkheadFullError if born and how == "is rejected" else Unique)

    one = policy(
        ExceptionConfig(exception_type=Custom) if how == "is replaced" else None,
        initial_delay=0, retry_on_exceptions=(KeyError,) if how == "is not retried" else None, retry_on_result=bool,
    )  # fmt: skip
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(Unique, Custom):
            await one.execute(func)
        assert [ref() for ref in born] == [None] * len(born)
    finally:
        gc.enable()
    assert one.get_metrics()["last_error"] == "gone"


async def test_an_own_list_says_what_is_retried(policy, upstream, finish):
    listed, other = upstream(KeyError()), upstream(Boom())
    one = policy(retry_on_exceptions=(KeyError,))
    for func, calls in ((listed, 3), (other, 1)):
        with pytest.raises((KeyError, Boom)):
            await finish(one.execute(func))
        assert func.calls == calls


async def test_an_own_list_wins_over_classify(policy, under, upstream, finish):
    classify = Classifier(neutral=Rule(exceptions=(KeyError,)))
    neutral, listed = upstream(KeyError()), upstream(KeyError())
    with pytest.raises(KeyError):
        await finish(under(policy(), neutral, classify=classify))
    with pytest.raises(KeyError):
        await finish(under(policy(retry_on_exceptions=(KeyError,)), listed, classify=classify))
    assert (neutral.calls, listed.calls) == (1, 3)


async def test_listed_failures_make_others_neutral_and_unretried(policy, under, upstream, finish):
    classify = Classifier(failure=Rule(exceptions=(KeyError,)))
    listed, other, one = upstream(KeyError()), upstream(Boom()), policy()
    for func in (listed, other):
        with pytest.raises((KeyError, Boom)):
            await finish(under(one, func, classify=classify))
    assert (listed.calls, other.calls) == (3, 1)
    assert (one.counts.failed, one.counts.neutral) == (1, 1)


@pytest.mark.parametrize("error", [Throttled, Unavailable])
async def test_throttled_and_failed_statuses_are_retried(policy, under, upstream, finish, error):
    one = upstream(error(), "fine")
    assert await finish(under(policy(), one, classify=BY_STATUS)) == "fine"


class Response:
    def __init__(self, status_code, **headers):
        self.status_code = status_code
        self.headers = headers


@pytest.mark.parametrize("status", [429, 503])
async def test_a_result_is_retried_by_its_status(policy, under, upstream, finish, status):
    one = upstream(Response(status), Response(200))
    assert (await finish(under(policy(), one, classify=BY_STATUS))).status_code == 200
    assert one.calls == 2


async def test_the_last_result_is_returned_when_attempts_run_out_and_counts_as_exhausted(policy, upstream, finish):
    results = iter(["", "", "last", "never"])
    one = policy(retry_on_result=lambda result: True)
    assert await finish(one.execute(upstream(lambda: next(results)))) == "last"
    assert one.get_metrics()["retries_exhausted"] == 1
    assert (one.counts.failed, one.counts.succeeded) == (1, 0)


async def test_a_result_predicate_wins_over_classify(policy, under, upstream, finish):
    one = upstream(Response(503))
    retry = policy(retry_on_result=lambda result: False)
    assert (await finish(under(retry, one, classify=BY_STATUS))).status_code == 503
    assert one.calls == 1


async def test_a_result_predicate_may_be_async(policy, upstream, finish):
    async def empty(result):
        return not result

    one = upstream("", "full")
    assert await finish(policy(retry_on_result=empty).execute(one)) == "full"


async def test_a_broken_result_predicate_wants_no_retry(policy, upstream, finish):
    one = upstream("fine")
    assert await finish(policy(retry_on_result=lambda result: 1 / 0).execute(one)) == "fine"
    assert one.calls == 1


def named(module, name, *bases):
    return type(name, bases or (Exception,), {"__module__": module})


NEVER_STARTED = [
    ConnectionRefusedError,
    socket.gaierror,
    named("httpx", "ConnectError"),
    named("httpx", "ConnectTimeout"),
    named("httpx", "PoolTimeout"),
    named("aiohttp.client_exceptions", "ClientConnectorError"),
    named("elsewhere", "Sub", named("httpx", "ConnectError")),
]
STARTED = [
    ConnectionResetError,
    TimeoutError,
    OSError,
    named("httpx", "ReadTimeout"),
    named("elsewhere", "ConnectError"),
]


@pytest.mark.parametrize("kind", NEVER_STARTED + STARTED, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
async def test_what_is_not_idempotent_is_retried_only_if_it_never_started(policy, under, upstream, finish, kind):
    one = upstream(kind())
    with pytest.raises(kind):
        await finish(under(policy(), one, idempotent=False))
    assert one.calls == (3 if kind in NEVER_STARTED else 1)


async def test_what_is_not_idempotent_is_retried_when_throttled(policy, under, upstream, finish):
    error, result, failed = upstream(Throttled(), 1), upstream(Response(429), 1), upstream(Response(503))
    assert await finish(under(policy(), error, idempotent=False, classify=BY_STATUS)) == 1
    assert await finish(under(policy(), result, idempotent=False, classify=BY_STATUS)) == 1
    await finish(under(policy(), failed, idempotent=False, classify=BY_STATUS))
    assert failed.calls == 1


async def test_an_own_list_does_not_make_a_reset_safe(policy, under, upstream, finish):
    one = upstream(ConnectionResetError())
    with pytest.raises(ConnectionResetError):
        await finish(under(policy(retry_on_exceptions=(ConnectionResetError,)), one, idempotent=False))
    assert one.calls == 1


async def test_an_own_rejection_is_not_retried_unless_told(policy, upstream, finish):
    refused, told = upstream(BulkheadFullError("full")), upstream(BulkheadFullError("full"), "fine")
    one = policy(retry_on_exceptions=(Exception,))
    with pytest.raises(BulkheadFullError):
        await finish(one.execute(refused))
    assert refused.calls == 1
    assert one.counts.neutral == 1
    assert await finish(policy(retry_on_rejections=True).execute(told)) == "fine"


async def test_a_rejection_of_a_retry_raises_what_the_upstream_said_before(policy, upstream, finish):
    first, rejection = Boom("upstream"), CircuitBreakerOpenError("open")
    one = policy()
    with pytest.raises(Boom, match="upstream") as caught:
        await finish(one.execute(upstream(first, rejection)))
    assert caught.value is first
    assert caught.value.__context__ is rejection
    assert one.status()["stopped"]["rejected"] == 1


async def test_rejections_that_are_retried_hide_no_upstream_error_either(policy, upstream, finish):
    first = Boom("upstream")
    one = upstream(first, CircuitBreakerOpenError("open"))
    with pytest.raises(Boom) as caught:
        await finish(policy(retry_on_rejections=True).execute(one))
    assert one.calls == 3
    assert isinstance(caught.value.__context__, CircuitBreakerOpenError)


@pytest.mark.parametrize(("wanted", "attempts"), [(False, 1), (True, 3)])
async def test_a_rejection_in_the_words_of_an_exception_config_is_one_too(policy, clock, finish, wanted, attempts):
    pool = Bulkhead("db", BulkheadConfig(max_concurrent=1), ExceptionConfig(exception_type=Boom), clock=clock)
    assert pool.machine.try_take()
    whole = Policy("p", [policy(retry_on_rejections=wanted), pool], clock=clock)
    with pytest.raises(Boom, match="full"):
        await finish(whole.call(asyncio.sleep, 0))
    assert sum(pool.counts.rejected.values()) == attempts


async def test_a_rejection_of_a_retry_returns_the_result_that_was_not_good_enough(policy, upstream, finish):
    one = upstream("poor", BulkheadFullError("full"))
    assert await finish(policy(retry_on_result=lambda result: True).execute(one)) == "poor"


async def test_an_attempts_timeout_is_retried_and_the_deadlines_is_not(policy, upstream, finish):
    attempt = upstream(OperationTimeoutError("slow", reason=TimeoutReason.TIMEOUT_EXCEEDED), "fine")
    whole = upstream(OperationTimeoutError("late", reason=TimeoutReason.DEADLINE_EXCEEDED))
    assert await finish(policy().execute(attempt)) == "fine"
    with pytest.raises(OperationTimeoutError):
        await finish(policy(retry_on_exceptions=(Exception,)).execute(whole))
    assert whole.calls == 1


async def test_a_breakers_own_timeout_is_one_of_an_attempt_and_retried(policy, upstream, finish):
    error = OperationTimeoutError("late", "c", "circuit_breaker", CircuitBreakerReason.TIMEOUT)
    answers = upstream(error, "ok")
    assert await finish(policy().execute(answers)) == "ok"


async def test_no_sleep_reaches_past_the_deadline(policy, clock, upstream, finish):
    first = Boom("first")

    async def within():
        scope = Timeline(clock=clock, is_deadline=True).open(2.5)
        try:
            return await one.execute(func)
        finally:
            scope.leave(None)

    one, func, begun = policy(max_attempts=9), upstream(first), clock.monotonic()
    with pytest.raises(Boom) as caught:
        await finish(within())
    assert caught.value is first
    assert func.times == [begun, begun + 1.0]
    assert one.status()["stopped"]["deadline"] == 1


async def test_a_function_that_made_an_error_of_our_cut_is_not_retried(policy, clock, finish):
    calls = []

    async def func():
        calls.append(1)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError from None

    async def within():
        scope = Timeline(clock=clock).open(1)
        error = None
        try:
            await policy().execute(func)
        except ConnectionError as caught:
            error = caught
        scope.leave(error)

    await finish(within())
    assert calls == [1]


class Hinted(Exception):
    def __init__(self, retry_after=None, response=None):
        self.retry_after = retry_after
        self.response = response


DATE = "Tue, 14 Nov 2023 22:13:50 GMT"  # half a minute after the clock's beginning


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (Hinted(7), 7),
        (Hinted("7"), 7),
        (Hinted(0.25), 1),
        (Hinted(response=Response(503, **{"retry-after": "7"})), 7),
        (Hinted(response=Response(503, **{"Retry-After": " 7 "})), 7),
        (Hinted(response=Response(503, **{"retry-after": DATE})), 30),
        (Hinted(response=Response(503, **{"retry-after": "Tue, 14 Nov 2000 22:13:50 GMT"})), 1),
        (Hinted(response=Response(503, **{"retry-after": "soon"})), 1),
        (Hinted(response=Response(503)), 1),
        (Hinted(response=object()), 1),
        (Hinted(float("nan")), 1),
        (Hinted(-5), 1),
        (Hinted(True), 1),
    ],
    ids=str,
)
async def test_the_servers_retry_after_is_honoured(policy, upstream, finish, error, wait):
    one = upstream(error, "fine")
    await finish(policy().execute(one))
    assert one.waits == [wait]


async def test_a_results_retry_after_is_honoured(policy, under, upstream, finish):
    one = upstream(Response(429, **{"retry-after": "9"}), Response(200))
    await finish(under(policy(), one, classify=BY_STATUS))
    assert one.waits == [9.0]


@pytest.mark.parametrize("asked", [61, "999" * 200, float("inf"), 10**400])
async def test_a_server_that_asks_for_more_than_max_delay_gets_no_retry(policy, upstream, finish, asked):
    error = Hinted(asked)
    one = upstream(error)
    with pytest.raises(Hinted) as caught:
        await finish(policy().execute(one))
    assert caught.value is error
    assert one.calls == 1


async def test_a_jump_of_the_wall_clock_changes_no_wait(policy, clock, upstream):
    one = upstream(Boom(), "fine")
    task = asyncio.ensure_future(policy().execute(one))
    await clock.advance(0.5)
    clock.jump_wall(1e6)
    await clock.advance(0.49)
    assert one.calls == 1
    await clock.advance(0.02)
    assert await task == "fine"


async def test_the_budget_bounds_the_retries_of_all_calls(policy, upstream, finish):
    budget = {"ratio": 0.0, "min_per_second": 0.1, "window": 50.0}
    one, func = policy(budget=budget, initial_delay=0), upstream(Boom())
    for _ in range(4):
        with pytest.raises(Boom):
            await finish(one.execute(func), seconds=0)
    assert func.calls == 4 + 5
    assert one.status()["stopped"] == {
        "max_attempts": 2, "retry_after": 0, "deadline": 0, "budget": 2, "rejected": 0,
    }  # fmt: skip


async def test_an_outage_costs_less_than_a_quarter_more_attempts(policy, clock, upstream, finish):
    one = policy(budget={}, initial_delay=0)
    outcomes = [Boom() if number % 10 < 3 else "fine" for number in range(10_007)]
    func = upstream(*outcomes)
    fine = 0
    for _ in range(2_000):
        with contextlib.suppress(Boom):
            fine += await finish(one.execute(func), seconds=0) == "fine"
        clock.move(0.005)
    assert func.calls < 1.25 * 2_000
    assert fine >= 0.65 * 2_000


async def test_an_exception_may_have_its_own_strategy_and_the_nearest_class_counts(policy, upstream, finish):
    strategies = {
        OSError: {"max_attempts": 2},
        ConnectionError: {"max_attempts": 5, "initial_delay": 3.0, "strategy": RetryStrategy.CONSTANT},
    }
    one = policy(exception_strategies=strategies)
    for error, waits in ((ConnectionResetError(), [3.0] * 4), (OSError(), [1.0]), (Boom(), [1.0, 2.0])):
        func = upstream(error)
        with pytest.raises(type(error)):
            await finish(one.execute(func))
        assert func.waits == waits


async def test_callbacks_get_one_context_each(policy, upstream, finish):
    told = []
    callbacks = {
        name: (lambda context, name=name: told.append((name, context)))
        for name in ("on_retry", "on_success_after_retry", "on_exhausted")
    }
    error = Boom()
    await finish(policy(**callbacks).execute(upstream(error, "fine")))
    with pytest.raises(Boom):
        await finish(policy(max_attempts=1, **callbacks).execute(upstream(error)))
    await finish(policy(**callbacks).execute(upstream("fine")))
    assert [name for name, _ in told] == ["on_retry", "on_success_after_retry", "on_exhausted"]
    first = told[0][1]
    assert (first.pattern_name, first.pattern_type, first.original_exception) == ("orders", "retry", error)
    assert dict(first.metadata) == {"attempt": 1, "max_attempts": 3, "delay": 1.0}
    assert told[2][1].reason is RetryReason.EXHAUSTED
    assert told[2][1].metadata["stopped_by"] == "max_attempts"
    assert all(context.reason.name for _, context in told)


async def test_a_slow_async_callback_is_part_of_the_wait(policy, clock, upstream, finish):
    from aioresilience.scope import sleep

    async def slow(context):
        await sleep(0.75, clock)

    one = upstream(Boom(), "fine")
    await finish(policy(on_retry=slow).execute(one))
    assert one.waits == [1.0]


async def test_a_broken_callback_breaks_nothing(policy, upstream, finish):
    one = upstream(Boom(), "fine")
    assert await finish(policy(on_retry=lambda: None, on_success_after_retry=lambda c: 1 / 0).execute(one)) == "fine"


class Custom(Exception):
    pass


async def test_an_exception_config_replaces_the_last_error(policy, upstream, finish):
    error, told = Boom("boom"), []
    one = policy(ExceptionConfig(exception_type=Custom, on_exception=told.append))
    with pytest.raises(Custom, match="boom") as caught:
        await finish(one.execute(upstream(error)))
    assert caught.value.__cause__ is error
    assert [(context.reason, context.original_exception) for context in told] == [(RetryReason.EXHAUSTED, error)]
    assert one.counts.failed == 1


async def test_an_exception_config_is_told_of_what_was_not_worth_a_retry(policy, upstream, finish):
    told = []
    one = policy(ExceptionConfig(on_exception=told.append), retry_on_exceptions=(KeyError,))
    with pytest.raises(Boom):
        await finish(one.execute(upstream(Boom())))
    assert [context.reason for context in told] == [RetryReason.NON_RETRYABLE]


async def test_without_a_replacement_the_original_error_is_raised(policy, upstream, finish):
    error = Boom("boom")
    one = policy(ExceptionConfig(on_exception=lambda context: None))
    with pytest.raises(Boom) as caught:
        await finish(one.execute(upstream(error)))
    assert caught.value is error


async def test_events_tell_of_each_retry_and_of_the_end(policy, upstream, finish):
    one, told = policy(), []
    one.events.add_handler("*", lambda event: told.append(event))
    await finish(one.execute(upstream(Boom("a"), "fine")))
    with pytest.raises(Boom):
        await finish(one.execute(upstream(Boom("b"))))
    await asyncio.sleep(0)
    assert [(event.event_type.name, event.attempt, event.max_attempts, event.delay) for event in told] == [
        ("RETRY_ATTEMPT", 2, 3, 1.0),
        ("RETRY_SUCCESS", 2, 3, 0.0),
        ("RETRY_ATTEMPT", 2, 3, 1.0),
        ("RETRY_ATTEMPT", 3, 3, 2.0),
        ("RETRY_EXHAUSTED", 3, 3, 0.0),
    ]
    assert told[0].to_dict()["error"] == "Boom: a"
    assert told[-1].metadata["stopped_by"] == "max_attempts"


async def test_observe_calls_once_and_says_what_it_would_do(policy, upstream, finish):
    one, func, told = policy(mode="observe", budget={}), upstream(Boom()), []
    one.events.add_handler("decision", lambda event: told.append((event.action, event.waited)))
    with pytest.raises(Boom):
        await finish(one.execute(func))
    await asyncio.sleep(0)
    assert func.calls == 1
    assert told == [("would_retry", 1.0)]
    assert (one.counts.observed, one.counts.failed) == (1, 1)
    assert one.status()["budget"]["retries"] == 0


async def test_off_is_not_there(policy, upstream, finish):
    one, func = policy(mode="off"), upstream(Boom())
    with pytest.raises(Boom):
        await finish(one.execute(func))
    assert func.calls == 1
    assert one.counts.started == 0


async def test_a_policy_that_observes_leaves_retries_at_work(policy, under, upstream, finish):
    assert await finish(under(policy(), upstream(Boom(), "fine"), mode="observe")) == "fine"


async def test_a_gradual_start_enforces_its_share_of_the_keys(policy, under, upstream, finish):
    one, retried = policy(mode=Gradual(enforce=0.3)), 0
    for number in range(200):
        func = upstream(Boom())
        with pytest.raises(Boom):
            await finish(under(one, func, caller=Caller(key=f"user-{number}")))
        retried += func.calls > 1
    assert 40 <= retried <= 80


async def test_a_call_finishes_under_the_config_it_started_with(policy, clock, upstream):
    one = policy()
    func = upstream(Boom())
    task = asyncio.ensure_future(one.execute(func))
    await clock.advance(0.5)
    one.retune(RetryConfig(max_attempts=1, **PLAIN))
    await clock.advance(10)
    with pytest.raises(Boom):
        await task
    assert func.calls == 3
    with pytest.raises(Boom):
        await one.execute(func)
    assert func.calls == 4


async def test_a_changed_budget_keeps_what_was_spent(policy, clock):
    one = policy(budget={"ratio": 0.0})
    assert one.machine.take(clock.monotonic())
    one.retune(RetryConfig(budget={"ratio": 0.5}))
    assert one.status()["budget"] == {"first_attempts": 0, "retries": 1, "left": 4}
    one.retune(RetryConfig())
    assert one.status()["budget"] is None


async def test_every_attempt_starts_with_no_start_noted(policy, under, finish):
    one, seen = policy(), []

    async def inner(call):
        seen.append(call.started)
        call.started = 1.0
        raise Boom

    with pytest.raises(Boom):
        await finish(one.layer(inner, Context())(Call(inner, (), {}, ANYONE)))
    assert seen == [None, None, None]


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("first", [Boom(), "poor"], ids=["an error first", "a poor result first"])
async def test_cancelling_at_any_step_leaves_nothing_behind(policy, clock, times, first):
    async def slow(context_or_result):
        await asyncio.sleep(0)
        return True

    for step in range(60):
        one = policy(on_retry=slow, on_exhausted=slow, retry_on_result=slow, budget={})
        outcomes = iter([first, "poor", Boom()])

        async def func(outcomes=outcomes):
            await asyncio.sleep(0)
            outcome = next(outcomes)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        task = asyncio.ensure_future(one.execute(func))
        for number in range(step):
            await asyncio.sleep(0)
            clock.move(1.0 if number % 3 == 0 else 0.0)
        done = task.done()
        for _ in range(times):
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled() is not done
        counts = one.counts
        assert counts.started == counts.succeeded + counts.failed + counts.neutral
        assert clock.pending == 0
        if done:
            break
    else:
        pytest.fail("the call never ended")


async def test_a_foreign_cancel_is_never_retried(policy, finish):
    calls = []

    async def func():
        calls.append(1)
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await finish(policy(retry_on_exceptions=(BaseException,)).execute(func))
    assert calls == [1]


async def test_a_plain_function_is_called_in_a_thread_and_retried(policy, clock):
    calls = []

    def func():
        calls.append(1)
        if len(calls) == 1:
            raise Boom
        return "fine"

    assert await policy(initial_delay=0).execute(func) == "fine"


async def test_calls_are_counted_by_how_they_ended(policy, upstream, finish):
    one = policy()
    await finish(one.execute(upstream("fine")))
    await finish(one.execute(upstream(Boom("a"), "fine")))
    with pytest.raises(Boom):
        await finish(one.execute(upstream(Boom("b"))))
    assert one.get_metrics() == {
        "total_attempts": 6, "successful_attempts": 2, "failed_attempts": 4, "total_delay": 4.0, "last_error": "b",
        "retries_exhausted": 1, "success_rate": pytest.approx(2 / 6),
    }  # fmt: skip
    assert (one.counts.started, one.counts.succeeded, one.counts.failed) == (3, 2, 1)
    one.reset_metrics()
    assert one.metrics == RetryMetrics()
    assert one.get_metrics()["success_rate"] == 0.0


async def test_an_error_whose_text_cannot_be_had_breaks_nothing(policy, upstream, finish):
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    one = policy()
    with pytest.raises(Mute):
        await finish(one.execute(upstream(Mute())))
    assert one.metrics.last_error == "Mute"


def test_config_fields_can_be_read_on_the_policy():
    one = RetryPolicy(RetryConfig(max_attempts=7))
    assert (one.max_attempts, one.jitter, one.name.startswith("retry-")) == (7, 0.1, True)


def test_the_ready_made_policies_are_those_of_0_2():
    made = [RetryPolicies.default(), RetryPolicies.aggressive(), RetryPolicies.conservative(), RetryPolicies.network()]
    fields = ("max_attempts", "initial_delay", "max_delay", "backoff_multiplier", "strategy", "jitter")
    assert [tuple(getattr(one, field) for field in fields) for one in made] == [
        (3, 1.0, 60.0, 2.0, RetryStrategy.EXPONENTIAL, 0.1),
        (5, 0.1, 10.0, 2.0, RetryStrategy.EXPONENTIAL, 0.1),
        (3, 2.0, 30.0, 2.0, RetryStrategy.LINEAR, 0.3),
        (4, 0.5, 15.0, 2.5, RetryStrategy.EXPONENTIAL, 0.1),
    ]
    assert made[3].retry_on_exceptions == (ConnectionError, TimeoutError, OSError)


async def test_the_decorators_keep_the_function_and_show_the_policy():
    calls = []

    @retry(max_attempts=2, initial_delay=0.0)
    async def fetch(number):
        """Fetch a number."""
        calls.append(number)
        if len(calls) == 1:
            raise Boom
        return number

    assert await fetch(3) == 3
    assert (fetch.__name__, fetch.__doc__) == ("fetch", "Fetch a number.")
    assert fetch.retry_policy.max_attempts == 2
    shared = RetryPolicies.default()
    assert with_retry(shared)(fetch.__wrapped__).retry_policy is shared


def test_a_plain_function_cannot_be_decorated():
    with pytest.raises(TypeError, match="async"):
        retry()(lambda: None)


def test_own_randomness_can_be_given():
    import random

    one = RetryPolicy(rng=random.Random(7))
    assert one.draw() == random.Random(7).random()


def test_the_status_is_fit_for_json(policy):
    import json

    assert json.loads(json.dumps(policy(budget={}).status()))["budget"]["left"] == 5


def test_the_config_pickles():
    assert pickle.loads(pickle.dumps(RetryConfig(budget={}))) == RetryConfig(budget={})


class Fragile(Exception):
    @property
    def retry_after(self):
        raise RuntimeError("not set yet")

    class Headers:
        def get(self, name):
            raise TypeError("bytes only")

    headers = Headers()


@pytest.mark.parametrize("error", [Fragile(), Hinted(response=Response(503, **{"retry-after": b"7"}))], ids=repr)
async def test_a_hint_that_cannot_be_read_changes_nothing(policy, upstream, finish, error):
    one = upstream(error, "fine")
    await finish(policy().execute(one))
    assert one.waits == [1.0]


async def test_a_rejections_own_retry_after_is_waited_for(policy, upstream, finish):
    one = upstream(CircuitBreakerOpenError("open", retry_after=12.0), "fine")
    await finish(policy(retry_on_rejections=True).execute(one))
    assert one.waits == [12.0]


async def test_a_rejection_from_inside_the_function_is_not_safe_to_repeat(policy, clock, finish):
    """Something before the nested rejection may have happened already."""
    calls = []

    async def func():
        calls.append(1)
        raise BulkheadFullError("nested")

    handler = policy(retry_on_rejections=True).wrap(invoker(clock), Context(idempotent=False))
    with pytest.raises(BulkheadFullError):
        await finish(handler(Call(func, (), {}, ANYONE)))
    assert len(calls) == 1


async def test_observe_says_nothing_of_what_would_not_be_retried(policy, upstream, finish):
    one = policy(mode="observe", max_attempts=1)
    with pytest.raises(Boom):
        await finish(one.execute(upstream(Boom())))
    assert one.counts.observed == 0


async def test_eight_threads_with_loops_of_their_own_overspend_no_budget():
    one = RetryPolicy(RetryConfig(initial_delay=0, budget={"ratio": 0.25, "min_per_second": 0.0, "window": 3600.0}))
    calls = []

    async def func():
        calls.append(1)
        raise Boom

    async def many():
        for _ in range(100):
            with contextlib.suppress(Boom):
                await one.execute(func)

    threads = [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert one.counts.started == 800
    assert 800 < len(calls) <= 1000
    assert one.status()["retries"] == len(calls) - 800


async def test_while_a_call_waits_for_its_retry_nothing_is_started(policy, clock):
    async def inner(call):
        call.started = clock.monotonic()
        raise Boom

    call = Call(inner, (), {}, ANYONE)
    task = asyncio.ensure_future(policy().layer(inner, Context())(call))
    await clock.advance(0.5)
    assert call.started is None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_after_a_rejected_retry_the_start_is_that_of_the_error_raised(policy, finish):
    ends = iter([(1.0, Boom()), (None, BulkheadFullError("full"))])

    async def inner(call):
        call.started, error = next(ends)
        raise error

    call = Call(inner, (), {}, ANYONE)
    with pytest.raises(Boom):
        await finish(policy().layer(inner, Context())(call))
    assert call.started == 1.0
