"""Errors keep what they know, and an ExceptionConfig does what it says."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from enum import IntEnum

import pytest

from aioresilience import exceptions
from aioresilience.exceptions import (
    AdaptiveConcurrencyReason,
    BackpressureError,
    BackpressureReason,
    BulkheadFullError,
    BulkheadReason,
    CircuitBreakerOpenError,
    CircuitBreakerReason,
    ConcurrencyLimitError,
    ExceptionAction,
    ExceptionConfig,
    ExceptionContext,
    ExceptionHandler,
    FallbackFailedError,
    FallbackReason,
    LoadSheddingError,
    LoadSheddingReason,
    OperationTimeoutError,
    RateLimitExceededError,
    RateLimitReason,
    RejectionError,
    ResilienceError,
    RetryReason,
    RevisionConflictError,
    TimeoutReason,
    UnknownPolicyError,
    create_exception_config,
)
from aioresilience.exceptions.errors import OWN_ERRORS
from aioresilience.exceptions.handling import run_callback
from aioresilience.logging import set_error_handler

TYPES = {
    CircuitBreakerOpenError: "circuit_breaker",
    BulkheadFullError: "bulkhead",
    RateLimitExceededError: "rate_limiter",
    LoadSheddingError: "load_shedding",
    BackpressureError: "backpressure",
    ConcurrencyLimitError: "adaptive_concurrency",
    OperationTimeoutError: "timeout",
    FallbackFailedError: "fallback",
    RejectionError: None,
    UnknownPolicyError: None,
    RevisionConflictError: None,
    ResilienceError: None,
}
OPEN = CircuitBreakerReason.CIRCUIT_OPEN
FAILED = CircuitBreakerReason.CALL_FAILED


class Custom(Exception):
    pass


class CustomResilience(CircuitBreakerOpenError):
    pass


class OwnSignature(ResilienceError):
    def __init__(self, code):
        self.code = code
        super().__init__(f"code {code}", "own", retry_after=1.5, extra=[code])


@pytest.fixture
def logged():
    told = []
    set_error_handler(lambda name, error, **context: told.append((error, context)))
    yield told
    set_error_handler(None)


def handler(**fields):
    return ExceptionHandler("api", "circuit_breaker", **fields)


def context(original=None, **metadata):
    return ExceptionContext("api", "circuit_breaker", OPEN, original, metadata)


def cannot(*args):
    raise RuntimeError("broken")


# Errors


@pytest.mark.parametrize("kind", TYPES)
def test_an_error_carries_what_it_was_given(kind):
    error = kind("full", "db", "other", OPEN, policy="payments", retry_after=2.5, state="open")
    assert (error.message, error.pattern_name, error.pattern_type, error.reason) == ("full", "db", "other", OPEN)
    assert (error.policy, error.retry_after, error.metadata) == ("payments", 2.5, {"state": "open"})
    assert (str(error), error.args) == ("full", ("full",))


@pytest.mark.parametrize("kind", TYPES)
def test_an_error_takes_its_fields_by_keyword(kind):
    error = kind(message="full", pattern_name="db", pattern_type="x", reason=OPEN)
    assert (str(error), error.pattern_name, error.pattern_type, error.reason) == ("full", "db", "x", OPEN)


@pytest.mark.parametrize(("kind", "pattern_type"), TYPES.items())
def test_an_error_knows_its_own_pattern_type(kind, pattern_type):
    error = kind("full")
    assert error.pattern_type == pattern_type
    assert (error.pattern_name, error.reason, error.policy, error.retry_after) == (None, None, None, None)
    assert (error.started, error.neutral, error.metadata) == (False, False, {})


@pytest.mark.parametrize("kind", TYPES)
def test_an_error_survives_pickling_and_copying(kind):
    error = kind("full", "db", None, OPEN, policy="p", retry_after=2.5, state="open")
    error.started = error.neutral = True
    error.add_note("seen twice")
    for same in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(same) is kind
        assert (str(same), same.args) == (str(error), error.args)
        assert vars(same) == vars(error)


def test_an_error_with_a_signature_of_its_own_survives_pickling():
    same = pickle.loads(pickle.dumps(OwnSignature(7)))
    assert (str(same), same.code, same.retry_after, same.metadata) == ("code 7", 7, 1.5, {"extra": [7]})


def test_errors_do_not_share_their_metadata():
    one, other = ResilienceError("a"), ResilienceError("b")
    one.metadata["x"] = 1
    assert other.metadata == {}


def test_an_error_without_arguments_has_an_empty_message():
    assert (str(ResilienceError()), ResilienceError().message) == ("", "")


def test_the_message_can_be_set():
    error = ResilienceError("before")
    error.message = "after"
    assert str(error) == "after"


def test_metadata_may_have_any_name():
    assert ResilienceError("x", self=1, args=2).metadata == {"self": 1, "args": 2}


def test_rejections_are_a_branch_and_a_timeout_is_not_on_it():
    rejections = {kind for kind in TYPES if issubclass(kind, RejectionError)} - {RejectionError}
    assert {kind.__name__ for kind in rejections} == {
        "CircuitBreakerOpenError",
        "BulkheadFullError",
        "RateLimitExceededError",
        "LoadSheddingError",
        "BackpressureError",
        "ConcurrencyLimitError",
    }


def test_errors_are_also_what_the_standard_library_calls_them():
    assert issubclass(OperationTimeoutError, TimeoutError)
    assert issubclass(ConcurrencyLimitError, RuntimeError)
    assert issubclass(UnknownPolicyError, KeyError)


def test_an_unknown_policy_reads_like_a_sentence_and_names_its_neighbours():
    error = UnknownPolicyError("no policy 'paymets'", near=["payments"])
    assert str(error) == "no policy 'paymets'"
    assert error.near == ("payments",)
    assert pickle.loads(pickle.dumps(error)).near == ("payments",)


def test_the_docstring_draws_every_error():
    drawn = {word for line in exceptions.errors.__doc__.splitlines() for word in line.split() if word.endswith("Error")}
    assert {kind.__name__ for kind in TYPES} <= drawn


@pytest.mark.parametrize(
    ("reasons", "names"),
    [
        (CircuitBreakerReason, "CIRCUIT_OPEN TIMEOUT HALF_OPEN_REJECTION CALL_FAILED THRESHOLD_EXCEEDED"),
        (BulkheadReason, "CAPACITY_FULL QUEUE_FULL TIMEOUT REENTRANT"),
        (TimeoutReason, "TIMEOUT_EXCEEDED DEADLINE_EXCEEDED"),
        (RetryReason, "EXHAUSTED NON_RETRYABLE"),
        (FallbackReason, "ALL_FALLBACKS_FAILED FALLBACK_ERROR NO_FALLBACK_DEFINED"),
        (RateLimitReason, "RATE_LIMIT_EXCEEDED QUOTA_EXCEEDED WINDOW_EXHAUSTED"),
        (LoadSheddingReason, "MAX_LOAD_EXCEEDED PRIORITY_REJECTED"),
        (BackpressureReason, "SYSTEM_OVERLOADED TIMEOUT_ACQUIRING"),
        (AdaptiveConcurrencyReason, "LIMIT_REACHED"),
        (ExceptionAction, "RAISE_ORIGINAL RAISE_TRANSFORMED SUPPRESS FALLBACK"),
    ],
)
def test_reasons_count_from_zero(reasons, names):
    assert issubclass(reasons, IntEnum)
    assert [(member.name, member.value) for member in reasons] == [(n, i) for i, n in enumerate(names.split())]


def test_all_public_names_exist():
    assert all(hasattr(exceptions, name) for name in exceptions.__all__)


# What is handled


@pytest.mark.parametrize(
    ("handled", "error", "expected"),
    [
        (None, ValueError(), True),
        ((ValueError, KeyError), KeyError(), True),
        (ValueError, KeyError(), False),
        ([OSError], ConnectionError(), True),
        (None, asyncio.CancelledError(), False),
    ],
)
def test_handled_exceptions_select_by_class(handled, error, expected):
    assert handler(handled_exceptions=handled).should_handle_exception(error) is expected


def test_the_predicate_has_the_last_word():
    chosen = handler(handled_exceptions=ValueError, exception_predicate=lambda error: "retry" in str(error))
    assert chosen.should_handle_exception(ValueError("retry"))
    assert not chosen.should_handle_exception(ValueError("stop"))
    assert not chosen.should_handle_exception(KeyError("retry"))


def test_a_predicate_that_raises_is_logged_and_objects_to_nothing(logged):
    assert handler(exception_predicate=cannot).should_handle_exception(ValueError())
    assert [str(error) for error, _ in logged] == ["broken"]


async def _async(*args):
    return True


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"exception_type": "Custom"}, "exception_type"),
        ({"exception_type": asyncio.CancelledError}, "exception_type"),
        ({"exception_type": Custom("instance")}, "exception_type"),
        ({"exception_transformer": 3}, "exception_transformer"),
        ({"exception_transformer": _async}, "exception_transformer"),
        ({"exception_predicate": _async}, "exception_predicate"),
        ({"on_exception": "print"}, "on_exception"),
        ({"handled_exceptions": (ValueError, 3)}, "handled_exceptions"),
        ({"handled_exceptions": KeyboardInterrupt}, "handled_exceptions"),
        ({"handle": ValueError}, "handle"),
    ],
)
def test_what_cannot_work_is_refused_by_name(fields, match):
    with pytest.raises(TypeError, match=match):
        ExceptionConfig(**fields)


def test_an_empty_list_of_handled_exceptions_is_refused():
    with pytest.raises(ValueError, match="leave it out"):
        ExceptionConfig(handled_exceptions=())


def test_a_config_is_frozen_and_knows_its_classes():
    config = create_exception_config(handled_exceptions=ValueError, exception_type=Custom)
    assert config == ExceptionConfig(exception_type=Custom, handled_exceptions=(ValueError,))
    with pytest.raises(AttributeError):
        config.exception_type = None


# What is raised


async def test_without_a_choice_the_original_is_raised():
    error = ValueError("boom")
    assert await handler().handle_exception(FAILED, error) == (ExceptionAction.RAISE_ORIGINAL, error)


@pytest.mark.parametrize(("pattern_type", "kind"), OWN_ERRORS.items())
async def test_without_an_original_the_pattern_s_own_error_is_raised(pattern_type, kind):
    action, made = await ExceptionHandler("api", pattern_type).handle_exception(OPEN, state="open")
    assert action is ExceptionAction.RAISE_ORIGINAL
    assert type(made) is kind
    assert (made.pattern_name, made.pattern_type, made.reason) == ("api", pattern_type, OPEN)
    assert made.metadata == {"state": "open"}
    assert str(made) == f"{pattern_type} 'api': circuit open"


def test_a_pattern_without_an_error_of_its_own_raises_the_general_one():
    made = ExceptionHandler("api", "hedge").build(ExceptionContext("api", "hedge", OPEN), message="late")
    assert type(made) is ResilienceError
    assert str(made) == "late"


def test_the_pattern_s_error_of_the_call_path_is_kept_as_it_is():
    default = CircuitBreakerOpenError("open")
    assert handler().build(context(), default=default) is default


def test_exception_type_gets_the_message_and_the_original_as_cause():
    error = ValueError("boom")
    made = handler(exception_type=Custom).build(context(error), error)
    assert type(made) is Custom
    assert (str(made), made.__cause__) == ("boom", error)


def test_exception_type_of_ours_keeps_what_the_refusal_knew():
    refusal = CircuitBreakerOpenError("open", policy="payments", retry_after=3.0)
    refusal.neutral = True
    made = handler(exception_type=CustomResilience).build(context(state="open"), default=refusal, message="closed shop")
    assert (str(made), made.pattern_name, made.reason) == ("closed shop", "api", OPEN)
    assert (made.policy, made.retry_after, made.neutral, made.metadata) == ("payments", 3.0, True, {"state": "open"})
    assert made.__cause__ is refusal


def test_exception_type_of_ours_may_have_a_signature_of_its_own():
    made = handler(exception_type=OwnSignature).build(context(), message="x")
    assert (made.code, made.pattern_name, made.reason, made.metadata) == ("x", "api", OPEN, {"extra": ["x"]})


def test_an_exception_type_that_cannot_be_built_is_logged_and_not_raised(logged):
    error = ValueError("boom")
    assert handler(exception_type=UnicodeDecodeError).build(context(error), error) is error
    assert logged[0][1] == {"pattern": "api", "failed": "exception_type"}


@pytest.mark.parametrize("original", [None, ValueError("boom")])
def test_the_transformer_gets_the_exception_or_none_and_the_context(original):
    told = []
    made = handler(exception_transformer=lambda *args: told.append(args) or Custom("new"), exception_type=OSError)
    given = context(original)
    assert type(made.build(given, original)) is Custom
    assert told == [(original, given)]


def test_a_transformer_may_keep_the_exception():
    error = ValueError("boom")
    assert handler(exception_transformer=lambda exc, ctx: exc).build(context(error), error) is error
    assert handler(exception_transformer=lambda exc, ctx: None).build(context(error), error) is error
    assert error.__cause__ is None


def test_a_transformer_may_choose_the_cause():
    error, cause = ValueError("boom"), KeyError("why")

    def transform(exc, ctx):
        new = Custom("new")
        new.__cause__ = cause
        return new

    assert handler(exception_transformer=transform).build(context(error), error).__cause__ is cause


@pytest.mark.parametrize("transformer", [cannot, lambda exc, ctx: "no exception"])
def test_a_transformer_that_fails_is_logged_and_the_original_raised(transformer, logged):
    error = ValueError("boom")
    assert handler(exception_transformer=transformer).build(context(error), error) is error
    assert logged[0][1] == {"pattern": "api", "failed": "exception_transformer"}


def test_a_handler_says_whether_it_replaces_anything():
    assert not handler(on_exception=print).replaces
    assert handler(exception_type=Custom).replaces
    assert handler(exception_transformer=lambda exc, ctx: exc).replaces


# Who is told


async def test_the_callback_may_be_plain_or_async():
    told = []

    async def later(ctx):
        await asyncio.sleep(0)
        told.append(ctx)

    error = ValueError("boom")
    for callback in (told.append, later):
        await handler(on_exception=callback).handle_exception(FAILED, error, state="closed", failure_count=3)
    expected = ExceptionContext("api", "circuit_breaker", FAILED, error, {"state": "closed", "failure_count": 3})
    assert told == [expected, expected]


async def _cannot_async(ctx):
    raise RuntimeError("broken")


async def _awaits_the_cancelled(ctx):
    task = asyncio.ensure_future(asyncio.sleep(1))
    task.cancel()
    await task


@pytest.mark.parametrize("callback", [cannot, _cannot_async, _awaits_the_cancelled])
async def test_a_callback_that_raises_is_logged_and_never_hurts(callback, logged):
    error = ValueError("boom")
    assert await handler(on_exception=callback).replacement(FAILED, error) is error
    assert [about for _, about in logged] == [{"pattern": "api", "failed": "on_exception"}]


async def test_cancelling_a_call_in_its_callback_is_not_swallowed():
    async def hang(ctx):
        await asyncio.Event().wait()

    task = asyncio.ensure_future(run_callback(hang, context()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_building_runs_no_callback():
    assert handler(on_exception=cannot).build(context(), message="x").message == "x"


def test_a_context_is_fit_for_json():
    row = context(ValueError("boom"), state=OPEN, limit=float("inf"), seen=object).to_dict()
    assert json.loads(json.dumps(row, allow_nan=False)) == {
        "pattern_name": "api",
        "pattern_type": "circuit_breaker",
        "reason": "CIRCUIT_OPEN",
        "original_exception": "ValueError: boom",
        "metadata": {"state": "circuit_open", "limit": "inf", "seen": "<class 'object'>"},
    }
