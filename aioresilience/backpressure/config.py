"""What backpressure is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, model_validator

from aioresilience.fields import Count, CountOrZero, Seconds
from aioresilience.pattern import PatternConfig


class BackpressureConfig(PatternConfig):
    """From how many pending calls on new ones wait, and down to how many they wait.

    A mark that is not given makes room for those that are.
    """

    short: ClassVar[str | None] = "max_pending"

    max_pending: Count = Field(
        default=1000, description="Calls that may run and wait together; past it a call is refused at once."
    )
    high_water_mark: Count = Field(default=800, description="Running calls from which new ones wait.")
    low_water_mark: CountOrZero = Field(default=200, description="Running calls at which waiting ones may go on.")
    timeout: Seconds | None = Field(
        default=None, description="Longest wait, in seconds; unset: as long as it takes, 0: not at all."
    )

    @classmethod
    def file_defaults(cls, given: Mapping[str, object]) -> Mapping[str, object]:
        """Wait 5 s at most; marks keep the proportions of the Python defaults, 80 % and 20 % of `max_pending`."""
        most = given.get("max_pending", 1000)
        if not isinstance(most, int) or "high_water_mark" in given or "low_water_mark" in given:
            return {"timeout": 5.0}
        return {"timeout": 5.0, "high_water_mark": max(1, most * 4 // 5), "low_water_mark": most // 5}

    @model_validator(mode="before")
    @classmethod
    def _make_room(cls, given: object) -> object:
        if not isinstance(given, dict) or not all(isinstance(given.get(mark, 1), int) for mark in _MARKS):
            return given
        most = given.get("max_pending", max(1000, given.get("high_water_mark", 0)))
        high = given.get("high_water_mark", max(min(800, most), given.get("low_water_mark", 0) + 1))
        return {"max_pending": most, "high_water_mark": high, "low_water_mark": min(200, high // 4)} | given

    @model_validator(mode="after")
    def _check_order(self) -> BackpressureConfig:
        if not self.low_water_mark < self.high_water_mark <= self.max_pending:
            raise ValueError(
                f"expected low_water_mark < high_water_mark <= max_pending, "
                f"got {self.low_water_mark}, {self.high_water_mark}, {self.max_pending}"
            )
        return self


_MARKS = ("max_pending", "high_water_mark", "low_water_mark")
