import asyncio
import sys
import types

import pytest

from aioresilience.circuit_breaker import CircuitBreaker, CircuitConfig
from aioresilience.exceptions import BulkheadFullError, OperationTimeoutError
from aioresilience.failures import (
    FAILURE,
    NEUTRAL,
    REJECTED,
    SUCCESS,
    THROTTLE,
    Classifier,
    ExceptionName,
    Judge,
    Matcher,
    Rule,
    status_of,
)
from aioresilience.policy import Policy
from aioresilience.scope import Scope, Timeline, sleep
from aioresilience.testing import VirtualClock
from aioresilience.timeout import Deadline, DeadlineConfig, TimeoutConfig, TimeoutManager
from aioresilience.timers import TimerQueue


class Response:
    def __init__(self, status_code):
        self.status_code = status_code


class HTTPError(Exception):
    def __init__(self, status):
        super().__init__(status)
        self.response = Response(status)


CLASSIFY = Classifier(
    failure=Rule((ConnectionError,), frozenset({500, 503})),
    throttle=Rule((), frozenset({429})),
    neutral=Rule((ConnectionResetError,), frozenset({404})),
)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ConnectionError(), FAILURE),
        (ConnectionResetError(), NEUTRAL),
        (ValueError(), NEUTRAL),
        (HTTPError(500), FAILURE),
        (HTTPError(429), THROTTLE),
        (HTTPError(404), NEUTRAL),
        (HTTPError(418), NEUTRAL),
    ],
)
def test_classify_reads_kinds_and_statuses_and_neutral_wins(error, outcome):
    assert Judge(CLASSIFY).of_error(error, 1.0) is outcome


@pytest.mark.parametrize(("status", "outcome"), [(200, SUCCESS), (503, FAILURE), (429, THROTTLE), (404, NEUTRAL)])
def test_a_result_is_judged_by_its_status(status, outcome):
    assert CLASSIFY.of_result(Response(status)) is outcome


def test_without_rules_every_exception_is_a_failure():
    assert Judge().of_error(ValueError(), 1.0) is FAILURE
    assert Classifier().of_result(Response(500)) is SUCCESS


def test_a_patterns_own_list_wins_over_classify():
    judge = Judge(CLASSIFY, exceptions=Matcher([ValueError]))
    assert judge.of_error(ValueError(), 1.0) is FAILURE
    assert judge.of_error(ConnectionError(), 1.0) is NEUTRAL


def test_a_patterns_own_predicate_decides_and_may_raise():
    assert Judge(predicate=lambda e: "bad" in str(e)).of_error(ValueError("bad"), 1.0) is FAILURE
    assert Judge(predicate=lambda e: "bad" in str(e)).of_error(ValueError("fine"), 1.0) is NEUTRAL
    assert Judge(predicate=lambda e: 1 / 0).of_error(ValueError(), 1.0) is FAILURE


def test_a_rejection_further_in_is_told_from_one_that_came_through_the_function():
    assert Judge().of_error(BulkheadFullError("full"), None) is REJECTED
    assert Judge().of_error(BulkheadFullError("full"), 1.0) is NEUTRAL


def test_a_rejection_in_the_words_of_an_exception_config_is_one_where_the_function_never_began():
    words = ValueError("try later")
    words.__cause__ = BulkheadFullError("full")
    assert Judge().of_error(words, started=None) is REJECTED
    assert Judge().of_error(words, started=1.0) is FAILURE


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt(), GeneratorExit()])
def test_what_comes_from_outside_is_neutral(error):
    assert Judge().of_error(error, 1.0) is NEUTRAL


def test_our_timeout_is_a_failure_unless_it_says_that_it_is_neutral():
    error = OperationTimeoutError("late")
    assert Judge(exceptions=Matcher([ValueError])).of_error(error, 1.0) is FAILURE
    error.neutral = True
    assert Judge().of_error(error, 1.0) is NEUTRAL


@pytest.mark.parametrize(
    ("started", "attempt_timeout", "outcome"),
    [(None, 2.0, NEUTRAL), (9.5, 2.0, NEUTRAL), (9.0, 2.0, FAILURE), (5.0, None, FAILURE)],
)
def test_a_deadline_blames_only_an_attempt_that_had_half_of_its_time(started, attempt_timeout, outcome):
    scope = Scope()
    scope.when, scope.stalled, scope._queue = (
        10.0,
        False,
        TimerQueue(Timeline(clock=VirtualClock(), is_deadline=True), None),
    )
    assert Judge(attempt_timeout=attempt_timeout).of_cut(scope, started) is outcome


@pytest.mark.parametrize(("attempt_timeout", "state"), [(10.0, "closed"), (1.5, "open")])
async def test_a_function_that_made_an_error_of_the_deadlines_cut_is_judged_by_the_cut(attempt_timeout, state):
    clock = VirtualClock()
    circuit = CircuitBreaker("c", CircuitConfig(failure_threshold=1), clock=clock)
    outer, attempt = DeadlineConfig(timeout=1.0), TimeoutConfig(timeout=attempt_timeout)
    policy = Policy("p", [Deadline(outer, clock=clock), circuit, TimeoutManager(attempt, clock=clock)], clock=clock)

    async def disguise():
        try:
            await sleep(5, clock)
        except asyncio.CancelledError as cut:
            raise ConnectionError("lost") from cut

    task = asyncio.create_task(policy.call(disguise))
    await clock.advance(1.0)
    with pytest.raises(ConnectionError):
        await task
    assert circuit.status()["state"] == state


def test_a_name_is_resolved_once_its_module_is_there_and_never_imported():
    matcher = Matcher([ExceptionName("some_module_of_a_test.Broken")])
    assert matcher.pending == ("some_module_of_a_test.Broken",)
    module = types.ModuleType("some_module_of_a_test")
    module.Broken = type("Broken", (Exception,), {})
    assert not matcher.matches(ValueError())
    sys.modules["some_module_of_a_test"] = module
    try:
        assert matcher.matches(module.Broken())
        assert matcher.pending == ()
    finally:
        del sys.modules["some_module_of_a_test"]


def test_a_status_is_read_from_a_response_or_an_error_and_must_be_a_number():
    assert status_of(Response(503)) == 503
    assert status_of(HTTPError(503)) == 503
    assert status_of(types.SimpleNamespace(status=500)) == 500
    assert status_of(types.SimpleNamespace(status=True)) is None
    assert status_of(types.SimpleNamespace(status="open")) is None


def test_names_are_equal_by_path():
    assert ExceptionName("a.B") == ExceptionName("a.B") != ExceptionName("a.C")
    assert len({ExceptionName("a.B"), ExceptionName("a.B")}) == 1
    assert repr(ExceptionName("a.B")) == "ExceptionName('a.B')"
    assert Classifier(failure=Rule((ExceptionName("nowhere.B"),))).pending == ("nowhere.B",)
