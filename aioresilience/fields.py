"""Field types of the config classes: how a value may be written in Python and in a file, and what is refused.

Strings such as `"2s"` or `"50%"` are read everywhere; names of exceptions and callables only where the reader of a
file passes a `Names` as the validation context.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Annotated, Final, Protocol, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, ValidationInfo, WithJsonSchema

from aioresilience import units
from aioresilience.failures import ExceptionName, ExceptionType

E = TypeVar("E", bound=enum.Enum)


class Names(Protocol):
    """What the reader of a file knows of names; passed as pydantic's validation context."""

    def exception(self, name: str) -> ExceptionType:
        """Return the class, or the pending name; ValueError when it cannot be one."""

    def callable(self, name: str) -> Callable[..., object]:
        """Return the function given under that name; ValueError when there is none."""


def _number_refusing_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"expected a number, got {str(value).lower()}")
    return value


def _seconds(value: object) -> object:
    return units.seconds(value) if isinstance(value, (int, float, str)) else value


def _fraction(value: object) -> object:
    if isinstance(value, str):
        return units.parse_percentage(value)
    return _number_refusing_bool(value)


DURATION_SCHEMA = {"type": ["string", "number"], "pattern": units.DURATION_PATTERN, "minimum": 0}
PERCENTAGE_SCHEMA = {"type": ["string", "number"], "pattern": units.PERCENTAGE_PATTERN, "minimum": 0}
_NAMES_SCHEMA = {"type": ["array", "string"], "items": {"type": "string", "minLength": 1}, "minLength": 1}

Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0), WithJsonSchema(DURATION_SCHEMA)]
"""A duration: a number of seconds, or a string such as `"500ms"` or `"1m30s"`."""

PositiveSeconds = Annotated[
    float, BeforeValidator(_seconds), Field(gt=0), WithJsonSchema(DURATION_SCHEMA | {"exclusiveMinimum": 0})
]
"""A duration above zero."""

Fraction = Annotated[
    float, BeforeValidator(_fraction), Field(ge=0, le=1), WithJsonSchema(PERCENTAGE_SCHEMA | {"maximum": 1})
]
"""A share from 0 to 1, or a string such as `"50%"`."""

Share = Annotated[float, BeforeValidator(_fraction), Field(ge=0), WithJsonSchema(PERCENTAGE_SCHEMA)]
"""A share that may exceed 1, or a string such as `"150%"`."""

MAX_COUNT: Final = 10**9
"""Beyond that a bound is none: leave the pattern out instead."""

Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
"""A whole number from 1."""

CountOrZero = Annotated[int, Field(ge=0, le=MAX_COUNT)]
"""A whole number from 0."""


def _exceptions(value: object, info: ValidationInfo) -> object:
    if value is None or isinstance(value, tuple):
        return value
    if isinstance(value, type):
        return (value,)
    kinds = list(value) if isinstance(value, (list, set, frozenset)) else [value]
    return tuple(_exception(kind, info.context) for kind in kinds)


def _exception(kind: object, names: Names | None) -> object:
    if isinstance(kind, str):
        if names is None:
            raise ValueError(f"expected an exception class, got the string {kind!r}; names are for files")
        return names.exception(kind)
    return kind


def _callable(value: object, info: ValidationInfo) -> object:
    if isinstance(value, str):
        if info.context is None:
            raise ValueError(f"expected a function, got the string {value!r}; names are for files")
        return info.context.callable(value)
    return value


ExceptionTypes = Annotated[tuple[ExceptionType, ...], BeforeValidator(_exceptions), WithJsonSchema(_NAMES_SCHEMA)]
"""Exception classes; in a file a list of builtin names or dotted paths."""

Named = Annotated[Callable[..., object], BeforeValidator(_callable), WithJsonSchema({"type": "string", "minLength": 1})]
"""A function; in a file the name that the service gave it."""


def member(kind: type[E]) -> BeforeValidator:
    """Accept an enum's member, its value, or its lower-case name."""

    def read(value: object) -> object:
        if isinstance(value, bool):
            raise ValueError(f"expected one of {_names(kind)}")
        if isinstance(value, str):
            found = {entry.name.lower(): entry for entry in kind}.get(value)
            if found is None:
                raise ValueError(f"expected one of {_names(kind)}")
            return found
        return kind(value) if not isinstance(value, kind) else value

    return BeforeValidator(read)


def names_schema(kind: type[enum.Enum]) -> WithJsonSchema:
    """Describe an enum by its lower-case names."""
    return WithJsonSchema({"type": "string", "enum": [entry.name.lower() for entry in kind]})


def _names(kind: type[enum.Enum]) -> str:
    return ", ".join(entry.name.lower() for entry in kind)


def written(model: type[BaseModel], name: str, value: object) -> str:
    """Return a field's value as a file would write it: `2s`, `50%`, `100/minute`."""
    if isinstance(value, units.Rate):
        return _rate(value)
    if isinstance(value, float):
        return _FORMATS.get(_schema_of(model, name), _number)(value)
    if isinstance(value, tuple):
        return f"[{', '.join(written(model, name, item) for item in value)}]"
    if isinstance(value, BaseModel):
        return _block({field: written(type(value), field, one) for field, one in value if one is not None})
    if isinstance(value, Mapping):
        return _block({_name(key): written(model, "", one) for key, one in value.items()})
    if isinstance(value, bool) or value is None:
        return "null" if value is None else str(value).lower()
    return _name(value)


def _block(fields: Mapping[str, str]) -> str:
    return f"{{{', '.join(f'{name}: {text}' for name, text in fields.items())}}}"


def _rate(rate: units.Rate) -> str:
    try:
        return units.format_rate(rate)
    except ValueError:  # no period that has a name
        return f"{{permits: {rate.permits}, per: {units.format_duration(rate.period)}}}"


def _number(value: float) -> str:
    return repr(value).removesuffix(".0")


def _schema_of(model: type[BaseModel], name: str) -> str:
    field = model.model_fields.get(name)
    text = "" if field is None else f"{field.annotation} {field.metadata}"
    if repr(units.DURATION_PATTERN) in text:
        return "duration"
    return "share" if repr(units.PERCENTAGE_PATTERN) in text else ""


def _name(value: object) -> str:
    if isinstance(value, ExceptionName):
        return value.path
    if isinstance(value, enum.Enum):
        return value.name.lower()
    return str(getattr(value, "__name__", value))


_FORMATS: dict[str, Callable[[float], str]] = {
    "duration": units.format_duration,
    "share": units.format_percentage,
}
