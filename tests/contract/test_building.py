"""How a pattern is built: one constructor form, a frozen config, and no number that makes no sense."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import pickle
import re
from collections.abc import Iterator
from enum import IntEnum

import pytest
from pydantic import ValidationError

from aioresilience.calls import ANYONE
from aioresilience.events import PatternType
from aioresilience.exceptions import RejectionError, ResilienceError
from aioresilience.fallback import FallbackConfig
from aioresilience.pattern import PatternConfig
from aioresilience.policy import BUILTIN
from aioresilience.testing import VirtualClock
from tests.contract.stacks import BOUNDS, EVERY, GUARDS, SMALL, config_of, fail, fill, finished, key_of, make, ok

PATTERN = pytest.mark.parametrize("cls", EVERY, ids=key_of)


def test_these_tests_know_every_built_in_pattern():
    assert set(SMALL) == {cls.key for cls in BUILTIN}


def test_keys_and_pattern_types_tell_patterns_apart():
    assert len({cls.key for cls in BUILTIN}) == len({cls.pattern_type for cls in BUILTIN}) == len(BUILTIN)


def test_the_default_order_is_the_documented_one():
    documented = (
        "fallback → deadline → load_shedder → backpressure → retry → circuit_breaker → rate_limiter → "
        "adaptive_concurrency → bulkhead → timeout"
    )
    assert " → ".join(cls.key for cls in BUILTIN) == documented


@PATTERN
def test_it_says_what_it_is(cls):
    assert re.fullmatch(r"[a-z_]+", cls.key)
    assert issubclass(cls.config_type, PatternConfig)
    assert isinstance(cls.pattern_type, PatternType)
    assert cls.pattern_type is PatternType[cls.key.upper()]
    assert issubclass(cls.reasons, IntEnum)


@pytest.mark.parametrize("cls", GUARDS, ids=key_of)
def test_a_guards_own_error_is_a_rejection(cls):
    assert issubclass(cls.error_type, RejectionError)


@PATTERN
def test_it_is_built_by_name_config_and_clock(cls):
    clock, config = VirtualClock(), config_of(cls)
    pattern = cls(name="mine", config=config, clock=clock)
    assert (pattern.name, pattern.config, pattern.clock) == ("mine", config, clock)
    assert pattern.events.pattern_name == "mine"


@PATTERN
def test_without_a_name_it_gets_a_readable_one_fit_for_a_label(cls):
    first, second = cls(name=None, config=config_of(cls)), cls(name=None, config=config_of(cls))
    assert re.fullmatch(r"[a-z_-]+-?\d*", first.name)
    assert first.name.startswith(cls.key)
    assert first.name != second.name


@PATTERN
def test_building_needs_no_loop_and_starts_nothing(cls):
    clock = VirtualClock()
    make(cls, clock)
    assert clock.pending == 0


@PATTERN
def test_every_config_field_reads_on_the_instance_and_is_described(cls):
    pattern = make(cls, VirtualClock())
    for name, field in cls.config_type.model_fields.items():
        assert hasattr(pattern, name), name
        assert field.description, f"{name} says nothing about itself"


@PATTERN
def test_a_config_is_frozen(cls):
    config = config_of(cls)
    for name in cls.config_type.model_fields:
        with pytest.raises(ValidationError):
            setattr(config, name, getattr(config, name))


@PATTERN
def test_an_unknown_field_is_refused_by_name(cls):
    with pytest.raises(ValidationError) as caught:
        config_of(cls, max_concurency=3)
    assert caught.value.errors()[0]["loc"] == ("max_concurency",)
    assert isinstance(caught.value, ValueError)


# Numbers: the fields are found in the model's own schema, so that a new one is tried without a line here.

NESTED = {"budget", "mode", "exception_strategies"}
ZERO_IS_FINE = {
    "backpressure": {"low_water_mark", "timeout"},
    "retry": {"initial_delay", "max_delay", "jitter", "ratio", "min_per_second"},
    "circuit_breaker": {"recovery_jitter"},
    "rate_limiter": {"wait"},
    "adaptive_concurrency": {"success_threshold", "failure_threshold"},
    "bulkhead": {"max_waiting", "timeout"},
}
ALWAYS_ZERO_IS_FINE = {"enforce"}


def numeric(schema: dict, node: dict, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the paths at which the schema takes a number."""
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    kinds = node.get("type", [])
    if {"number", "integer"} & set([kinds] if isinstance(kinds, str) else kinds):
        yield path
    for name, inner in node.get("properties", {}).items():
        yield from numeric(schema, inner, (*path, name))
    for inner in node.get("anyOf", []):
        yield from numeric(schema, inner, path)
    if isinstance(more := node.get("additionalProperties"), dict):
        yield from numeric(schema, more, (*path, "*"))


def paths_of(cls: type) -> list[tuple[str, ...]]:
    schema = cls.config_type.model_json_schema()
    return sorted(set(numeric(schema, schema)))


NUMBERS = [(cls, path) for cls in EVERY for path in paths_of(cls)]
each_number = pytest.mark.parametrize(
    ("cls", "path"), NUMBERS, ids=[f"{cls.key}-{'.'.join(path)}" for cls, path in NUMBERS]
)


def written(path: tuple[str, ...], value: object) -> object:
    """Return the value wrapped in what its path says."""
    if not path:
        return value
    rest = written(path[1:], value)
    if path[0] == "*":
        return {ConnectionError: rest}
    if path == ("permits",) or path == ("per",):
        return {"permits": 1, "per": 1.0} | {path[0]: value}
    return {path[0]: rest}


def refuses(cls: type, path: tuple[str, ...], value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        config_of(cls, **written(path, value))
    assert any(error["loc"][:1] == path[:1] for error in caught.value.errors()), caught.value


def test_the_numbers_are_found():
    assert len(NUMBERS) > 45
    assert {path[0] for _, path in NUMBERS if len(path) > 1} >= NESTED


NO_NUMBERS = [math.nan, math.inf, -math.inf, -1, -0.5, -1e-300, True, False, -(10**400)]
NOT_EVEN_NUMBERS = ["", " ", "many", "nan", "inf", "-1s", "1 s", "-5%", b"1", [1], {"x": 1}, 1j]


@each_number
def test_a_number_that_is_none_is_refused_with_its_path(cls, path):
    for value in NO_NUMBERS:
        refuses(cls, path, value)


@each_number
def test_what_is_no_number_at_all_is_refused_with_its_path(cls, path):
    for value in NOT_EVEN_NUMBERS:
        refuses(cls, path, value)


@each_number
async def test_a_number_that_is_absurdly_large_is_refused_or_works(cls, path):
    """What is accepted must not raise OverflowError in the middle of a call or of a status."""
    try:
        config = config_of(cls, **written(path, 10**400))
    except ValidationError:
        return
    clock = VirtualClock()
    pattern = cls(name="p", config=config, clock=clock)
    assert_json(pattern)
    for work in (ok, ok) if cls.key == "retry" else (ok, fail, fail, ok):  # which would retry for ever
        with contextlib.suppress(ConnectionError, ResilienceError):
            await finished(pattern.execute(work), clock)
    pattern.retune(config)
    for name in ("get_metrics", "get_stats"):
        if hasattr(pattern, name):
            getattr(pattern, name)()
    assert_json(pattern)


@each_number
def test_zero_is_refused_where_it_is_senseless(cls, path):
    fine = path[-1] in ZERO_IS_FINE.get(cls.key, set()) | ALWAYS_ZERO_IS_FINE
    if not fine:
        refuses(cls, path, 0)
        if path[-1] != "window":
            refuses(cls, path, 0.0)


@each_number
def test_a_number_may_be_retuned_only_to_one_that_makes_sense(cls, path):
    pattern = make(cls, VirtualClock())
    before = pattern.config
    with pytest.raises(ValidationError):
        pattern.retune(type(before)(**{**SMALL[cls.key], **written(path, math.nan)}))
    assert pattern.config is before


# What can be seen


def assert_json(pattern) -> None:
    said = json.loads(json.dumps(pattern.status(), allow_nan=False))
    assert said["name"] == "p"
    assert set(pattern.counts.as_dict()) <= set(said)


@PATTERN
async def test_the_status_is_fit_for_json_at_any_moment(cls):
    clock = VirtualClock()
    pattern = make(cls, clock)
    assert_json(pattern)
    tasks = await fill(pattern, clock) if cls in GUARDS else []
    assert_json(pattern)
    for _ in range(3):
        try:
            await finished(pattern.execute(fail), clock)
        except Exception:  # a rejection or the failure, by turns
            assert_json(pattern)
    await clock.advance(30)
    for task in tasks:
        await task
    assert_json(pattern)


@pytest.mark.parametrize("cls", GUARDS, ids=key_of)
async def test_a_refused_admission_changes_nothing(cls):
    clock = VirtualClock()
    pattern = make(cls, clock)
    tasks = await fill(pattern, clock)
    before = json.dumps(pattern.status())
    for _ in range(5):
        assert pattern.admit(ANYONE) is None
    assert json.dumps(pattern.status()) == before
    await clock.advance(60)
    for task in tasks:
        await task


@pytest.mark.parametrize("cls", BOUNDS, ids=key_of)
def test_a_bound_says_its_seconds(cls):
    assert make(cls, VirtualClock()).status()["timeout"] == SMALL[cls.key]["timeout"]


@PATTERN
def test_a_config_survives_dump_copy_and_pickle(cls):
    config = config_of(cls)
    for again in (
        cls.config_type(**config.model_dump()),
        cls.config_type.model_validate(config.model_dump(exclude_unset=True)),
        config.model_copy(),
        copy.deepcopy(config),
        pickle.loads(pickle.dumps(config)),
    ):
        assert again == config


def test_a_chain_of_fallbacks_survives_dump_and_validate():
    config = FallbackConfig(chain=[ok, {"value": None}])
    assert FallbackConfig(**config.model_dump()) == config
