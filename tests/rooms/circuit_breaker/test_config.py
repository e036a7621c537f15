"""What a CircuitConfig accepts, refuses and takes for granted."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from aioresilience.circuit_breaker import CircuitConfig, LastCalls, LastSeconds


def from_file(**given: object) -> CircuitConfig:
    return CircuitConfig.model_validate({**CircuitConfig.file_defaults(given), **given})


def test_python_defaults_are_those_of_0_2():
    config = CircuitConfig()
    assert (config.failure_threshold, config.recovery_timeout, config.success_threshold) == (5, 60.0, 2)
    assert (config.timeout, config.half_open_max_calls) == (None, 1)
    assert (config.failure_exceptions, config.failure_predicate) == (None, None)
    assert (config.window, config.failure_rate, config.slow_call_rate) == (None, None, None)
    assert (config.recovery_multiplier, config.recovery_jitter) == (1.0, 0.0)


def test_every_field_has_a_description():
    assert all(field.description for field in CircuitConfig.model_fields.values())


@pytest.mark.parametrize(
    ("written", "read"),
    [(100, LastCalls(100)), ("30s", LastSeconds(30.0)), ("1m30s", LastSeconds(90.0)), (LastCalls(7), LastCalls(7))],
)
def test_a_window_is_a_count_or_a_duration(written: object, read: object):
    config = CircuitConfig(window=written)
    assert config.window == read
    assert CircuitConfig.model_validate(config.model_dump()) == config
    assert CircuitConfig.model_validate_json(config.model_dump_json()) == config


def test_a_number_with_a_point_is_no_window_because_it_could_be_either():
    with pytest.raises(ValidationError, match="calls or seconds"):
        CircuitConfig(window=30.0)


@pytest.mark.parametrize(
    "fields",
    [{field: bad} for field in ("failure_threshold", "success_threshold", "half_open_max_calls", "minimum_calls")
     for bad in (0, -1, True, 1.5, math.nan, math.inf, "3")]
    + [{field: bad} for field in ("recovery_timeout", "timeout", "half_open_timeout", "max_recovery_timeout")
       for bad in (0, -1, True, math.nan, math.inf, "soon")]
    + [{"failure_rate": bad} for bad in (0, -0.1, 1.1, True, math.nan, "0%", "101%", "half")]
    + [{"slow_call_duration": 1.0, "slow_call_rate": bad} for bad in (0, 2, True, math.nan)]
    + [{"slow_call_rate": 0.5, "slow_call_duration": bad} for bad in (0, -1, True, math.inf)]
    + [{"recovery_multiplier": bad} for bad in (0, 0.9, -2, True, math.nan, math.inf)]
    + [{"recovery_jitter": bad} for bad in (-0.1, 1.1, True, math.nan)]
    + [{"window": bad} for bad in (0, -1, True, math.nan, math.inf, "0s", "soon", [], None.__class__)]
    + [{"failures": 5}, {"mode": "sometimes"}, {"failure_exceptions": "ValueError"}, {"failure_exceptions": (int,)}],
    ids=repr,
)  # fmt: skip
def test_senseless_values_are_refused_with_their_path(fields: dict[str, object]):
    with pytest.raises(ValidationError) as caught:
        CircuitConfig(**fields)
    assert {error["loc"][0] for error in caught.value.errors()} <= set(fields)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"failure_threshold": None}, "nothing opens"),
        ({"window": 10, "failure_rate": None}, "nothing opens"),
        ({"slow_call_rate": 0.5}, "together"),
        ({"slow_call_duration": 0.5}, "together"),
        ({"failure_rate": 0.5, "window": None}, "needs a window"),
        ({"window": 10, "minimum_calls": 20}, "minimum_calls: the window never holds more than 10 calls"),
        ({"slow_call_rate": 0.5, "slow_call_duration": 2, "timeout": 1}, "slow_call_duration: a call is cut after 1s"),
    ],
)
def test_fields_that_say_nothing_together_are_refused(fields: dict[str, object], why: str):
    with pytest.raises(ValueError, match=why):
        CircuitConfig(**fields)


@pytest.mark.parametrize("given", [{"window": 100}, {"failure_rate": 0.5}])
def test_a_rate_rule_replaces_the_default_failures_in_a_row(given: dict[str, object]):
    config = CircuitConfig(**given)
    assert (config.failure_threshold, config.failure_rate, config.minimum_calls) == (None, 0.5, 20)
    assert config.window == (LastCalls(100) if "window" in given else LastSeconds(30.0))


def test_a_set_threshold_holds_beside_a_rate_rule():
    assert CircuitConfig(failure_threshold=5, window=100).failure_threshold == 5


def test_slow_calls_alone_leave_failures_in_a_row_on():
    config = CircuitConfig(slow_call_rate=0.5, slow_call_duration=1.0)
    assert (config.failure_threshold, config.failure_rate, config.window) == (5, None, LastSeconds(30.0))


def test_a_small_window_lowers_the_minimum_that_nobody_set():
    assert CircuitConfig(window=10).minimum_calls == 10
    assert from_file(window=10).minimum_calls == 10


def test_a_file_means_the_rate_rule_and_a_growing_recovery():
    config = from_file()
    assert (config.window, config.failure_rate, config.minimum_calls) == (LastSeconds(30.0), 0.5, 20)
    assert (config.recovery_timeout, config.recovery_multiplier, config.max_recovery_timeout) == (10.0, 2.0, 120.0)
    assert (config.recovery_jitter, config.failure_threshold) == (0.2, None)


def test_a_threshold_alone_in_a_file_turns_the_rate_rule_off():
    config = from_file(failure_threshold=5)
    assert (config.failure_threshold, config.window, config.failure_rate) == (5, None, None)
    assert (config.recovery_timeout, config.recovery_jitter) == (10.0, 0.2)


@pytest.mark.parametrize("beside", [{"window": 100}, {"failure_rate": "30%"}])
def test_a_threshold_beside_a_rate_rule_in_a_file_leaves_both_on(beside: dict[str, object]):
    config = from_file(failure_threshold=5, **beside)
    assert config.failure_threshold == 5
    assert config.failure_rate == (0.3 if "failure_rate" in beside else 0.5)
    assert config.window is not None


def test_a_file_overrides_what_it_sets_and_nothing_else():
    config = from_file(window="10s", recovery_timeout="1s", recovery_jitter=0)
    assert (config.window, config.recovery_timeout, config.recovery_jitter) == (LastSeconds(10.0), 1.0, 0.0)
    assert (config.failure_rate, config.recovery_multiplier) == (0.5, 2.0)


def test_removing_the_threshold_in_a_file_leaves_the_rate_rule():
    assert from_file(failure_threshold=None).failure_rate == 0.5


def test_equal_files_give_equal_configs():
    assert from_file() == from_file(window="30s", failure_rate="50%", minimum_calls=20, recovery_timeout="10s")
