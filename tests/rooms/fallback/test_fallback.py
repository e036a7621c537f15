"""What a fallback does with one call."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import pickle
import threading
import traceback
import weakref
from enum import Enum

import pytest
from hypothesis import given, strategies as st

from aioresilience.calls import ANYONE, Call, Caller, invoker
from aioresilience.exceptions import (
    BulkheadFullError,
    ExceptionConfig,
    FallbackFailedError,
    FallbackReason,
    OperationTimeoutError,
)
from aioresilience.failures import Classifier, Rule
from aioresilience.fallback import (
    ChainedFallback,
    FallbackConfig,
    FallbackHandler,
    FallbackMetrics,
    chained_fallback,
    fallback,
    with_fallback,
    with_fallback_handler,
)
from aioresilience.modes import Gradual
from aioresilience.pattern import Context
from aioresilience.scope import Timeline, sleep


class Boom(Exception):
    """What the dependency says when it is down."""


@pytest.fixture
def handler(clock):
    def make(fallback=None, exceptions=None, **fields):
        config = FallbackConfig(**({"fallback": fallback} if fallback is not None else {}), **fields)
        return FallbackHandler(config, exceptions, name="quotes", clock=clock)

    return make


async def fine(*args, **kwargs):
    return "fine"


async def broken(*args, **kwargs):
    await asyncio.sleep(0)
    raise Boom("primary")


async def broken_too(*args, **kwargs):
    await asyncio.sleep(0)
    raise KeyError("fallback")


async def test_what_succeeds_needs_no_fallback(handler):
    assert await handler("other").execute(fine) == "fine"


async def test_a_value_stands_in_for_a_failure(handler):
    assert await handler("other").execute(broken) == "other"
    assert await handler(value=0).execute(broken) == 0
    assert await handler().execute(broken) is None


class Callable:
    async def __call__(self, *args, **kwargs):
        return args, kwargs


async def asynchronous(*args, **kwargs):
    return args, kwargs


FUNCTIONS = {
    "async def": asynchronous,
    "plain": lambda *args, **kwargs: (args, kwargs),
    "lambda that returns a coroutine": lambda *args, **kwargs: asynchronous(*args, **kwargs),
    "object with async __call__": Callable(),
}


@pytest.mark.parametrize("func", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize("field", ["fallback", "call"])
async def test_a_function_gets_the_calls_arguments(handler, func, field):
    assert await handler(**{field: func}).execute(broken, 1, two=2) == ((1,), {"two": 2})


async def test_a_plain_function_does_not_block_the_loop(handler):
    assert await handler(call=threading.get_ident).execute(broken) != threading.get_ident()


async def test_a_chain_stops_at_the_first_success(handler):
    asked = []

    async def third():
        asked.append(3)
        return "third"

    assert await handler(chain=[broken_too, broken_too, third, {"value": "never"}]).execute(broken) == "third"
    assert asked == [3]


async def test_a_mutable_value_is_copied_for_each_call(handler):
    value = {"items": []}
    one = handler(value)
    first = await one.execute(broken)
    first["items"].append("changed by a caller")
    assert await one.execute(broken) == {"items": []}
    assert value == {"items": []}


class Colour(Enum):
    RED = 1


@pytest.mark.parametrize(
    "value",
    [None, "text", 1, (1, ("a", None)), Colour.RED, object(), threading.Lock()],
    ids=lambda value: type(value).__name__,
)
async def test_an_immutable_value_or_one_that_cannot_be_copied_is_handed_out_itself(handler, value):
    assert await handler(value=value).execute(broken) is value


async def test_whether_a_value_is_copied_is_decided_once(handler):
    class Counted:
        copies = 0

        def __deepcopy__(self, memo):
            Counted.copies += 1
            return Counted()

    value = Counted()
    one = handler(value=value)
    for _ in range(3):
        assert await one.execute(broken) is not value
    assert Counted.copies == 1 + 3


async def test_when_the_fallback_fails_both_errors_are_there(handler):
    one = handler(broken_too)
    with pytest.raises(FallbackFailedError) as caught:
        await one.execute(broken)
    error = caught.value
    assert isinstance(error.__cause__, KeyError)
    assert isinstance(error.__context__, Boom)
    assert isinstance(error.__cause__.__context__, Boom)
    text = "".join(traceback.format_exception(error))
    assert "Boom: primary" in text
    assert "KeyError: 'fallback'" in text
    assert (error.pattern_name, error.pattern_type) == ("quotes", "fallback")
    assert error.reason is FallbackReason.ALL_FALLBACKS_FAILED
    assert error.metadata == {
        "primary_error": "Boom: primary", "original_error": "primary", "fallback_error": "KeyError: 'fallback'",
    }  # fmt: skip
    assert pickle.loads(pickle.dumps(error)).metadata == error.metadata


async def test_an_error_of_a_plain_function_is_there_with_the_calls_own_too(handler):
    with pytest.raises(FallbackFailedError) as caught:
        await handler(lambda: 1 / 0).execute(broken)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert isinstance(caught.value.__cause__.__context__, Boom)


async def test_when_a_chain_fails_the_reason_says_so(handler):
    with pytest.raises(FallbackFailedError) as caught:
        await handler(chain=[broken_too, broken_too]).execute(broken)
    assert caught.value.reason is FallbackReason.ALL_FALLBACKS_FAILED


async def test_without_reraise_a_failed_fallback_is_kept_quiet_and_counts_as_failed(handler):
    one = handler(broken_too, reraise_on_fallback_failure=False)
    told = []
    one.events.on("fallback_executed")(told.append)
    assert await one.execute(broken) is None
    assert one.get_metrics()["failed_executions"] == 1
    await asyncio.sleep(0)
    assert told == []


async def test_a_fallback_that_raises_the_calls_own_error_again_makes_no_loop(handler):
    error = Boom("primary")

    async def func():
        raise error

    with pytest.raises(FallbackFailedError) as caught:
        await handler(func).execute(func)
    assert caught.value.__cause__ is error
    assert await handler(func, reraise_on_fallback_failure=False).execute(func) is None


@pytest.mark.parametrize("how", ["answers", "fails", "fails quietly", "is replaced"])
async def test_no_error_is_kept_alive(handler, how):
    class Primary(Exception):
        pass

    class Other(Exception):
        pass

    born = []

    def error(kind):
        made = kind("gone")
        born.append(weakref.ref(made))
        return made

    async def func():
        raise error(Primary)

    async def other():
        if how == "answers":
            return
        raise error(Other)

    one = handler(
        other, ExceptionConfig(exception_type=Custom) if how == "is replaced" else None,
        reraise_on_fallback_failure=how != "fails quietly",
    )  # fmt: skip
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(Primary, FallbackFailedError, Custom):
            await one.execute(func)
        assert [ref() for ref in born] == [None] * len(born)
    finally:
        gc.enable()


async def test_rejections_are_answered_by_default(handler):
    async def refused():
        raise BulkheadFullError("full")

    assert await handler("other").execute(refused) == "other"


async def test_an_own_list_says_what_is_answered(handler):
    one = handler("other", fallback_on_exceptions=(Boom,))
    assert await one.execute(broken) == "other"
    with pytest.raises(KeyError):
        await one.execute(broken_too)
    assert (one.counts.succeeded, one.counts.failed) == (1, 1)


async def test_classify_does_not_decide_what_is_answered(handler, clock):
    context = Context("p", Classifier(neutral=Rule(exceptions=(Boom,))))
    layer = handler("other").wrap(invoker(clock), context)
    assert await layer(Call(broken, (), {}, ANYONE)) == "other"


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt])
def test_a_cancel_and_an_exit_are_never_answered(handler, error):
    async def cut():
        raise error

    one = handler("other", fallback_on_exceptions=(BaseException,))
    with pytest.raises(error):
        asyncio.run(one.execute(cut))
    assert one.counts.neutral == 1


async def within(clock, seconds, work, *, is_deadline=True):
    scope = Timeline(clock=clock, is_deadline=is_deadline).open(seconds)
    try:
        result = await work
    except BaseException as error:
        scope.leave(error)
        raise
    scope.leave(None)
    return result


async def test_an_inherited_deadline_that_has_passed_gets_no_fallback(handler, clock):
    async def late():
        clock.stall(10)
        raise Boom("late")

    one, told = handler("other"), []
    one.events.add_handler("decision", lambda event: told.append(event.action))
    with pytest.raises(Boom, match="late"):
        await within(clock, 5, one.execute(late))
    await asyncio.sleep(0)
    assert told == ["skipped"]
    assert one.get_metrics()["fallback_executions"] == 0


async def test_a_deadline_that_has_not_passed_changes_nothing(handler, clock):
    assert await within(clock, 5, handler("other").execute(broken)) == "other"


async def test_a_chain_ends_where_the_callers_time_ends(handler, clock):
    async def slow():
        clock.stall(10)
        raise KeyError

    with pytest.raises(FallbackFailedError) as caught:
        await within(clock, 5, handler(chain=[slow, {"value": "too late"}]).execute(broken))
    assert isinstance(caught.value.__cause__, KeyError)


async def test_each_function_has_its_own_timeout(handler, clock):
    begun = []

    async def slow():
        begun.append(clock.monotonic())
        await sleep(60, clock)

    task = asyncio.ensure_future(handler(chain=[slow, slow, {"value": "other"}], timeout=2.0).execute(broken))
    await clock.advance(10)
    assert await task == "other"
    assert begun[1] - begun[0] == 2.0
    assert clock.pending == 0


async def test_a_function_that_took_too_long_is_named_in_the_error(handler, clock):
    task = asyncio.ensure_future(handler(call=lambda: sleep(60, clock), timeout=2.0).execute(broken))
    async with asyncio.timeout(15):
        while not clock.pending:
            await asyncio.sleep(0.001)
    await clock.advance(10)
    with pytest.raises(FallbackFailedError) as caught:
        await task
    assert isinstance(caught.value.__cause__, OperationTimeoutError)
    assert caught.value.__cause__.pattern_name == "quotes"


async def test_a_function_within_its_timeout_answers(handler, clock):
    assert await handler(call=fine, timeout=2.0).execute(broken) == "fine"
    assert clock.pending == 0
    with pytest.raises(FallbackFailedError) as caught:
        await handler(call=broken_too, timeout=2.0).execute(broken)
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("timeout", [None, 5.0])
async def test_cancelling_at_any_step_leaves_nothing_behind(handler, clock, times, timeout):
    async def slow():
        await asyncio.sleep(0)
        await sleep(1, clock)
        raise KeyError

    for step in range(40):
        one = handler(chain=[slow, broken_too, fine], timeout=timeout)
        task = asyncio.ensure_future(one.execute(broken))
        for number in range(step):
            await asyncio.sleep(0)
            clock.move(1.0 if number % 4 == 3 else 0.0)
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


class Custom(Exception):
    pass


@pytest.mark.parametrize("reraise", [True, False])
async def test_an_exception_config_replaces_the_error(handler, reraise):
    told = []
    exceptions = ExceptionConfig(exception_type=Custom, on_exception=told.append)
    with pytest.raises(Custom) as caught:
        await handler(broken_too, exceptions, reraise_on_fallback_failure=reraise).execute(broken)
    assert isinstance(caught.value.__cause__, Boom)
    (context,) = told
    assert context.reason is FallbackReason.ALL_FALLBACKS_FAILED
    assert isinstance(context.original_exception, Boom)
    assert context.metadata["fallback_error"] == "KeyError: 'fallback'"


async def test_an_exception_config_that_only_listens_changes_nothing(handler):
    told = []
    exceptions = ExceptionConfig(on_exception=told.append)
    with pytest.raises(FallbackFailedError):
        await handler(broken_too, exceptions).execute(broken)
    exceptions = ExceptionConfig(on_exception=told.append, handled_exceptions=(KeyError,))
    with pytest.raises(FallbackFailedError):
        await handler(broken_too, exceptions).execute(broken)
    assert len(told) == 1


async def test_events_tell_of_the_failure_and_of_the_answer(handler):
    one, told = handler("other"), []
    one.events.add_handler("*", told.append)
    await one.execute(fine)
    await one.execute(broken)
    await asyncio.sleep(0)
    assert [event.event_type.name for event in told] == ["PRIMARY_FAILED", "FALLBACK_EXECUTED"]
    assert told[1].fallback_value == "other"
    assert told[1].to_dict()["primary_error"] == "Boom: primary"


async def test_observe_raises_and_says_what_it_would_do(handler):
    one, told = handler("other", mode="observe"), []
    one.events.add_handler("decision", lambda event: told.append(event.action))
    with pytest.raises(Boom):
        await one.execute(broken)
    await asyncio.sleep(0)
    assert told == ["would_answer"]
    assert (one.counts.observed, one.counts.failed) == (1, 1)


async def test_off_is_not_there(handler):
    one = handler("other", mode="off")
    with pytest.raises(Boom):
        await one.execute(broken)
    assert one.counts.started == 0


async def test_a_gradual_start_answers_its_share_of_the_keys(handler, clock):
    layer = handler("other", mode=Gradual(enforce=0.3)).wrap(invoker(clock), Context())
    answered = 0
    for number in range(200):
        with contextlib.suppress(Boom):
            answered += await layer(Call(broken, (), {}, Caller(key=f"user-{number}"))) == "other"
    assert 40 <= answered <= 80


async def test_a_call_finishes_under_the_config_it_started_with(handler):
    one, go = handler("old"), asyncio.Event()

    async def waits():
        await go.wait()
        raise Boom

    task = asyncio.ensure_future(one.execute(waits))
    await asyncio.sleep(0)
    one.retune(FallbackConfig(value="new"))
    go.set()
    assert await task == "old"
    assert await one.execute(broken) == "new"


async def test_calls_are_counted_under_the_names_of_0_2(handler):
    one = handler(broken_too)
    assert one.get_metrics()["fallback_rate"] == 0.0
    await one.execute(fine)
    with pytest.raises(FallbackFailedError):
        await one.execute(broken)
    one.retune(FallbackConfig(value=1))
    await one.execute(broken)
    await one.execute(broken)
    assert one.get_metrics() == {
        "total_executions": 4, "successful_executions": 1, "fallback_executions": 3, "failed_executions": 1,
        "fallback_rate": 0.75, "failure_rate": 0.25,
    }  # fmt: skip
    assert json.loads(json.dumps(one.status()))["answered"] == 2
    one.reset_metrics()
    assert one.metrics == FallbackMetrics()


async def test_a_fallback_under_way_is_counted_with_its_call_when_that_ends(handler):
    go = asyncio.Event()

    async def waits():
        await go.wait()
        return "instead"

    one = handler(waits)
    await one.execute(fine)
    calls = [asyncio.ensure_future(one.execute(broken)) for _ in range(3)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert (one.get_metrics()["fallback_rate"], one.status()["tried"]) == (0.0, 0)
    calls[0].cancel()
    go.set()
    await asyncio.wait(calls)
    assert one.get_metrics()["fallback_rate"] == 0.75
    assert (one.status()["tried"], one.status()["answered"]) == (3, 2)


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=20))
def test_counts_reconcile_for_any_sequence_of_calls(sequence):
    one = FallbackHandler(FallbackConfig(call=lambda fails, works, rejected: asyncio.sleep(0) if works else 1 / 0))

    async def func(fails, works, rejected):
        if rejected:
            raise BulkheadFullError
        if fails:
            raise Boom

    async def run():
        for call in sequence:
            with contextlib.suppress(FallbackFailedError):
                await one.execute(func, *call)

    asyncio.run(run())
    expected_failures = sum((fails or rejected) and not works for fails, works, rejected in sequence)
    counts = one.counts
    assert counts.started == len(sequence) == counts.succeeded + counts.failed
    assert counts.failed == one.metrics.failed_executions == expected_failures
    assert one.metrics.fallback_executions == sum(fails or rejected for fails, _, rejected in sequence)


@pytest.mark.parametrize(
    "one", [ChainedFallback([broken_too, "last"]), ChainedFallback(broken_too, "last")], ids=["a list", "one by one"]
)
async def test_chained_fallback_takes_functions_and_values(one):
    assert await one.execute(broken) == "last"
    assert one.fallback_on_exceptions == (Exception,)
    assert one.get_metrics()["fallback_executions"] == 1
    with pytest.raises(FallbackFailedError) as caught:
        await ChainedFallback([broken_too]).execute(broken)
    assert caught.value.reason is FallbackReason.ALL_FALLBACKS_FAILED


def test_a_chain_of_nothing_is_refused():
    with pytest.raises(ValueError, match="chain"):
        ChainedFallback([])
    with pytest.raises(ValueError, match="chain"):
        chained_fallback()


async def test_the_decorators_answer_and_keep_the_function():
    @fallback("other")
    async def quote(number):
        """Quote."""
        raise Boom

    @chained_fallback(broken_too, lambda number: number + 1)
    async def chained(number):
        raise Boom

    handler = FallbackHandler(FallbackConfig(value="shared"))

    @with_fallback_handler(handler)
    async def shared():
        raise Boom

    @fallback("other", fallback_on_exceptions=(KeyError,))
    async def unlisted():
        raise Boom

    assert await quote(1) == "other"
    assert (quote.__name__, quote.__doc__) == ("quote", "Quote.")
    assert await chained(1) == 2
    assert await shared() == "shared"
    assert shared.fallback_handler is handler
    with pytest.raises(Boom):
        await unlisted()


def test_a_plain_function_cannot_be_decorated():
    with pytest.raises(TypeError, match="async"):
        fallback("other")(lambda: None)


async def test_with_fallback_calls_once():
    async def func(number, *, plus):
        raise Boom

    assert await with_fallback(func, "other", 1, plus=2) == "other"
    assert await with_fallback(func, lambda number, plus: number + plus, 1, plus=2) == 3
    assert await with_fallback(fine, "other") == "fine"


@pytest.mark.parametrize("kinds", [(OSError,), None], ids=["not answered", "not answered in time"])
async def test_an_error_that_is_raised_keeps_the_context_it_was_raised_in(handler, clock, kinds):
    async def func():
        try:
            raise KeyError("inner")
        except KeyError:
            clock.stall(10)
            raise Boom("outer")  # noqa: B904

    try:
        raise RuntimeError("around the call")
    except RuntimeError:
        with pytest.raises(Boom) as caught:
            await within(clock, 5, handler("other", fallback_on_exceptions=kinds).execute(func))
    assert isinstance(caught.value.__context__, KeyError)


async def test_a_function_that_made_an_error_of_the_callers_timeout_gets_no_fallback(handler, clock):
    async def stubborn():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise Boom from None

    one = handler("other")
    task = asyncio.ensure_future(within(clock, 1, one.execute(stubborn), is_deadline=False))
    await clock.advance(2)
    with pytest.raises(Boom):
        await task
    assert one.get_metrics()["fallback_executions"] == 0


async def test_a_call_that_is_cancelled_while_its_fallback_runs_is_neutral(handler, clock):
    one = handler(lambda: sleep(60, clock))
    task = asyncio.ensure_future(one.execute(broken))
    async with asyncio.timeout(15):
        while not clock.pending:
            await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (one.counts.neutral, one.counts.failed) == (1, 0)
