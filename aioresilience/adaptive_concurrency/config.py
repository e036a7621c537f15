"""What an adaptive limiter is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from aioresilience import units
from aioresilience.fields import PERCENTAGE_SCHEMA, Count, Fraction
from aioresilience.pattern import PatternConfig


def _share(value: object) -> object:
    return units.parse_percentage(value) if isinstance(value, str) else value


_FACTOR_SCHEMA = PERCENTAGE_SCHEMA | {"exclusiveMinimum": 0, "exclusiveMaximum": 1}
Factor = Annotated[float, BeforeValidator(_share), Field(gt=0, lt=1), WithJsonSchema(_FACTOR_SCHEMA)]
"""A share above 0 and below 1, or a string such as `"90%"`."""


class AdaptiveConcurrencyConfig(PatternConfig):
    """Where the limit starts, how far it may go, and what moves it.

    A bound that is not given makes room for `initial_limit`.
    """

    short: ClassVar[str | None] = "initial_limit"

    initial_limit: Count = Field(default=100, description="Calls that may run at once in the beginning.")
    min_limit: Count = Field(default=10, description="The limit never falls below this many calls.")
    max_limit: Count = Field(default=1000, description="The limit never rises above this many calls.")
    increase_rate: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="Calls added to the limit after a good window."
    )
    decrease_factor: Factor = Field(default=0.9, description="What the limit is multiplied by after a bad window.")
    measurement_window: Count = Field(default=100, description="Judged calls after which the limit is reconsidered.")
    success_threshold: Fraction = Field(
        default=0.95, description="Share of successes in a window from which the limit grows."
    )
    failure_threshold: Fraction = Field(
        default=0.8, description="Share of successes in a window below which the limit shrinks."
    )
    shrink_on: Literal["failure", "overload"] = Field(
        default="failure",
        description="What counts against the limit: every failure, or only timeouts and throttled calls (overload).",
    )

    @classmethod
    def file_defaults(cls, given: Mapping[str, object]) -> Mapping[str, object]:
        """Shrink on signs of overload only: an error that comes back quickly says nothing about capacity."""
        return {"shrink_on": "overload"}

    @model_validator(mode="before")
    @classmethod
    def _make_room(cls, given: object) -> object:
        if not isinstance(given, dict) or not isinstance(initial := given.get("initial_limit"), int) or initial < 1:
            return given
        return {"min_limit": min(10, initial), "max_limit": max(1000, initial)} | given

    @model_validator(mode="after")
    def _check_order(self) -> AdaptiveConcurrencyConfig:
        if not self.min_limit <= self.initial_limit <= self.max_limit:
            raise ValueError(
                f"expected min_limit <= initial_limit <= max_limit, "
                f"got {self.min_limit}, {self.initial_limit}, {self.max_limit}"
            )
        if self.failure_threshold > self.success_threshold:
            raise ValueError(
                f"failure_threshold ({self.failure_threshold}) must not exceed "
                f"success_threshold ({self.success_threshold}): a window could be good and bad at once"
            )
        return self
