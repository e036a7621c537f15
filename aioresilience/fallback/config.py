"""What a fallback is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from aioresilience.fields import ExceptionTypes, Named, PositiveSeconds
from aioresilience.pattern import PatternConfig


def _plain(value: object) -> object:
    """Return what a file says without what the reader of files knows of places."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, str) else value


def _own_value(value: object, info: ValidationInfo) -> object:
    return value if info.context is None else _plain(value)


class Substitute(BaseModel):
    """One entry of a chain: a value, or a function to call."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True)

    value: object = Field(default=None, description="The result.")
    call: Named | None = Field(default=None, description="Function that gets the call's arguments.")

    _plain_value = field_validator("value", mode="before")(_own_value)

    @model_validator(mode="before")
    @classmethod
    def _named_or_block(cls, entry: object) -> object:
        if not isinstance(entry, (dict, Substitute)):
            raise ValueError("expected the name of a callable, or a block; write {value: …} for a plain value")
        return entry

    @model_validator(mode="after")
    def _one(self) -> Substitute:
        if self.value is not None if self.call is not None else "value" not in self.model_fields_set:
            raise ValueError("expected either value or call")
        return self


def _entries(value: object) -> object:
    if isinstance(value, (list, tuple)):
        return tuple({"call": entry} if callable(entry) or isinstance(entry, str) else entry for entry in value)
    return value


_CHAIN_SCHEMA = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": ["string", "object"],
        "properties": {"value": {}, "call": {"type": "string", "minLength": 1}},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    },
}

Chain = Annotated[tuple[Substitute, ...], BeforeValidator(_entries), Field(min_length=1), WithJsonSchema(_CHAIN_SCHEMA)]
"""Functions, and entries `{value: …}` or `{call: …}`; in a file a function is the name that the service gave it."""


class FallbackConfig(PatternConfig):
    """What stands in for a result, and after which exceptions; at most one of value, call, chain and fallback."""

    short: ClassVar[str | None] = "value"

    fallback: object = Field(default=None, description="As value; in Python a function is called instead.")
    value: object = Field(default=None, description="The result; each call gets its own copy of a mutable one.")
    call: Named | None = Field(default=None, description="Function that gets the call's arguments.")
    chain: Chain | None = Field(default=None, description="What to try in turn, until one succeeds.")
    timeout: PositiveSeconds | None = Field(default=None, description="Longest time of each function, in seconds.")
    fallback_on_exceptions: ExceptionTypes | None = Field(
        default=None, description="Exceptions to stand in for; unset: every Exception, rejections included."
    )
    reraise_on_fallback_failure: bool = Field(
        default=True, description="Raise FallbackFailedError when the fallback fails too; false: return None."
    )

    _plain_values = field_validator("fallback", "value", mode="before")(_own_value)

    @model_validator(mode="after")
    def _one(self, info: ValidationInfo) -> FallbackConfig:
        said = "value" in self.model_fields_set or any(
            one is not None for one in (self.fallback, self.call, self.chain)
        )
        if info.context is not None and not said and self.mode != "off":  # in Python, as in 0.2, nothing means None
            raise ValueError(
                "nothing is said to stand in for a result; write value, call or chain: value: null returns null"
            )
        given = [name for name in ("fallback", "value", "call", "chain") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"choose one of {' and '.join(given)}; null removes what was inherited")
        return self

    def substitutes(self) -> Iterator[Substitute]:
        """Yield what to try in turn."""
        if self.chain is not None:
            yield from self.chain
        elif self.call is not None:
            yield Substitute(call=self.call)
        elif callable(self.fallback):
            yield Substitute(call=self.fallback)
        else:
            yield Substitute(value=self.fallback if self.value is None else self.value)
