"""What a FallbackConfig accepts, refuses and takes for granted."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from aioresilience.fallback import FallbackConfig, Substitute


def quote(*args: object) -> str:
    return "cached"


class FileNames:
    """What the reader of a file knows."""

    def callable(self, name: str) -> object:
        if name != "cached-quote":
            raise ValueError(f"no callable {name!r}")
        return quote


def from_file(**given: object) -> FallbackConfig:
    return FallbackConfig.model_validate({**FallbackConfig.file_defaults(given), **given}, context=FileNames())


def test_python_defaults_are_those_of_0_2():
    config = FallbackConfig()
    assert (config.fallback, config.fallback_on_exceptions, config.reraise_on_fallback_failure) == (None, None, True)
    assert list(config.substitutes()) == [Substitute(value=None)]


def test_a_bare_value_in_a_file_is_the_result():
    assert FallbackConfig.short == "value"


@pytest.mark.parametrize("field", ["fallback", "value"])
def test_a_value_in_a_file_is_what_it_says(field):
    class Marked(dict):
        pass

    class Text(str):
        __slots__ = ()

    (one,) = from_file(**{field: Marked(items=[Text("a"), 1, None])}).substitutes()
    assert one.value == {"items": ["a", 1, None]}
    assert type(one.value) is dict
    assert type(one.value["items"][0]) is str


def test_functions_are_named_in_a_file():
    (one,) = from_file(call="cached-quote").substitutes()
    assert one.call is quote
    chain = list(from_file(chain=["cached-quote", {"call": "cached-quote"}, {"value": None}]).substitutes())
    assert chain == [Substitute(call=quote), Substitute(call=quote), Substitute(value=None)]


def test_an_unknown_function_is_refused():
    with pytest.raises(ValidationError, match="no callable 'cached-qoute'"):
        from_file(call="cached-qoute")
    with pytest.raises(ValidationError, match="names are for files"):
        FallbackConfig(chain=["cached-quote"])


def test_a_function_in_0_2s_field_is_called_and_in_value_it_is_the_result():
    assert next(FallbackConfig(fallback=quote).substitutes()).call is quote
    assert next(FallbackConfig(value=quote).substitutes()).value is quote


@pytest.mark.parametrize(
    "both", [{"value": 1, "call": quote}, {"fallback": 1, "chain": [quote]}, {"value": 0, "fallback": 0}]
)
def test_two_fallbacks_at_once_are_refused(both):
    with pytest.raises(ValidationError, match="choose one of"):
        FallbackConfig(**both)


@pytest.mark.parametrize(
    "chain", [[], [{}], [{"value": 1, "call": quote}], [{"values": 1}], [7], "cached-quote", [{"call": None}]]
)
def test_a_chain_that_cannot_work_is_refused(chain):
    with pytest.raises(ValidationError):
        FallbackConfig(chain=chain)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), True, "soon"])
def test_a_senseless_timeout_is_refused(timeout):
    with pytest.raises(ValidationError, match="timeout"):
        FallbackConfig(timeout=timeout)


def test_unknown_fields_are_refused():
    with pytest.raises(ValidationError, match="fallbacks"):
        FallbackConfig(fallbacks=1)


def test_the_users_own_values_are_opaque_to_the_reader_of_files():
    fields = FallbackConfig.model_fields
    assert [name for name, field in fields.items() if field.annotation is object] == ["fallback", "value"]


def test_every_field_says_what_it_is():
    assert all(field.description for field in FallbackConfig.model_fields.values())
