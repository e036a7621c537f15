"""What a RetryConfig accepts, refuses and takes for granted."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from aioresilience.failures import ExceptionName
from aioresilience.retry import RetryBudget, RetryConfig, RetryStrategy


class FileNames:
    """What the reader of a file knows."""

    def exception(self, name: str) -> object:
        return {"ValueError": ValueError}.get(name) or ExceptionName(name)

    def callable(self, name: str) -> object:
        return {"is-empty": lambda result: not result}[name]


def from_file(**given: object) -> RetryConfig:
    return RetryConfig.model_validate({**RetryConfig.file_defaults(given), **given}, context=FileNames())


def test_python_defaults_are_those_of_0_2():
    config = RetryConfig()
    assert (config.max_attempts, config.initial_delay, config.max_delay) == (3, 1.0, 60.0)
    assert (config.backoff_multiplier, config.strategy, config.jitter) == (2.0, 2, 0.1)
    assert (config.retry_on_exceptions, config.retry_on_result, config.exception_strategies) == (None, None, None)
    assert (config.on_retry, config.on_success_after_retry, config.on_exhausted) == (None, None, None)
    assert (config.retry_on_rejections, config.budget) == (False, None)


def test_a_file_that_says_nothing_gets_a_budget_full_jitter_and_short_delays():
    config = from_file()
    assert (config.max_attempts, config.initial_delay, config.max_delay, config.jitter) == (3, 0.1, 2.0, "full")
    assert config.budget == RetryBudget(ratio=0.2, min_per_second=0.5, window=10.0)


def test_a_bare_value_in_a_file_is_the_number_of_attempts():
    assert RetryConfig.short == "max_attempts"


def test_in_a_file_the_longest_delay_follows_the_first_one():
    assert from_file(initial_delay="5s").max_delay == 100.0
    assert from_file(initial_delay="5s", max_delay="7s").max_delay == 7.0
    assert from_file(initial_delay=0).max_delay == from_file(initial_delay="10ms").max_delay == 2.0


def test_a_broken_first_delay_is_reported_once_and_at_its_own_field():
    with pytest.raises(ValidationError) as caught:
        from_file(initial_delay="soon")
    assert [error["loc"] for error in caught.value.errors()] == [("initial_delay",)]


def test_a_file_writes_units_and_names():
    config = from_file(
        initial_delay="200ms", max_delay="3s", strategy="linear", jitter="25%",
        retry_on_exceptions=["ValueError", "a.B"], retry_on_result="is-empty",
        exception_strategies={"ValueError": {"max_attempts": 7, "initial_delay": "1m"}},
        budget={"ratio": "50%", "window": "1m"},
    )  # fmt: skip
    assert (config.initial_delay, config.max_delay, config.strategy) == (0.2, 3.0, RetryStrategy.LINEAR)
    assert config.jitter == 0.25
    assert config.retry_on_exceptions == (ValueError, ExceptionName("a.B"))
    assert config.retry_on_result is not None
    assert config.retry_on_result("") is True
    assert config.exception_strategies is not None
    assert config.exception_strategies[ValueError].initial_delay == 60.0
    assert config.budget == RetryBudget(ratio=0.5, window=60.0)


@pytest.mark.parametrize("jitter", ["full", "equal", "decorrelated", 0, 1, 0.5, "50%"])
def test_every_kind_of_jitter_is_accepted(jitter):
    assert RetryConfig(jitter=jitter).jitter in (jitter, 0.5)


NO_NUMBERS = [math.nan, math.inf, -1, True, "soon", None]


@pytest.mark.parametrize(
    "field", ["max_attempts", "initial_delay", "max_delay", "backoff_multiplier", "jitter", "strategy"]
)
@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_what_is_no_sensible_number_is_refused_with_the_fields_name(field, value):
    with pytest.raises(ValidationError) as caught:
        RetryConfig(**{field: value})
    assert {error["loc"][0] for error in caught.value.errors()} == {field}


@pytest.mark.parametrize(
    ("field", "value"), [("max_attempts", 0), ("backoff_multiplier", 0), ("jitter", 1.1), ("budgets", 1)]
)
def test_senseless_values_and_unknown_fields_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        RetryConfig(**{field: value})


@pytest.mark.parametrize("own", [{"max_atempts": 3}, {"max_attempts": 0}, {"max_delay": -1}])
def test_an_exceptions_own_strategy_is_checked_too(own):
    with pytest.raises(ValidationError):
        RetryConfig(exception_strategies={ValueError: own})


@pytest.mark.parametrize("budget", [{"ratio": -1}, {"min_per_second": math.nan}, {"window": 0}, {"percent": 1}])
def test_a_senseless_budget_is_refused(budget):
    with pytest.raises(ValidationError):
        RetryConfig(budget=budget)


def test_a_budget_of_less_than_one_retry_is_refused_and_one_of_none_is_taken_at_its_word():
    with pytest.raises(ValidationError, match="no whole retry within 10s"):
        RetryConfig(budget=RetryBudget(ratio=0, min_per_second=0.05))
    assert RetryConfig(budget=RetryBudget(ratio=0, min_per_second=0)).budget is not None
    assert RetryConfig(budget=RetryBudget(ratio=0, min_per_second=0.1)).budget is not None


def test_names_are_for_files():
    with pytest.raises(ValidationError, match="names are for files"):
        RetryConfig(retry_on_exceptions=["ValueError"])
    with pytest.raises(ValidationError, match="names are for files"):
        RetryConfig(exception_strategies={"ValueError": {}})


def test_every_field_says_what_it_is():
    assert all(field.description for field in RetryConfig.model_fields.values())
    assert all(field.description for field in RetryBudget.model_fields.values())


def test_a_config_cannot_be_changed():
    with pytest.raises(ValidationError):
        RetryConfig().max_attempts = 5
