"""What a load shedder is told."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field, WithJsonSchema

from aioresilience import units
from aioresilience.fields import Count, PositiveSeconds
from aioresilience.pattern import PatternConfig


def _percent(value: object) -> object:
    if isinstance(value, str):
        return round(units.parse_percentage(value) * 100, 9)
    if isinstance(value, bool):
        raise ValueError(f"expected a percentage, got {str(value).lower()}")
    return value


_PERCENT_SCHEMA = {"type": ["string", "number"], "pattern": units.PERCENTAGE_PATTERN, "minimum": 1, "maximum": 100}
Percent = Annotated[float, BeforeValidator(_percent), Field(ge=1, le=100), WithJsonSchema(_PERCENT_SCHEMA)]
"""A percentage as a number from 1 to 100, as in 0.2, or a string such as `"85%"`."""


class LoadSheddingConfig(PatternConfig):
    """How busy the process may be.

    `max_requests` holds for everybody. The other limits are soft: priority "low" is shed before they are reached,
    "high" goes past them until the load is critical. All but the first two are off unless they are set.
    """

    short: ClassVar[str | None] = "max_requests"

    max_requests: Count = Field(default=1000, description="Calls in flight at once, whatever their priority.")
    max_queue_depth: Count = Field(default=500, description="Queued items, as the service reports them, to shed at.")
    max_lag: PositiveSeconds | None = Field(
        default=None, description="Event-loop lag, in seconds, to shed at; unset: not measured."
    )
    max_age: PositiveSeconds | None = Field(
        default=None, description="Seconds since a request arrived after which it is shed; unset: at any age."
    )
    cpu_threshold: Percent | None = Field(
        default=None, description="CPU use, in percent of what the container may use, to shed at; unset: not sampled."
    )
    memory_threshold: Percent | None = Field(
        default=None,
        description="Memory in use without the page cache, in percent of the container's limit, to shed at; "
        "unset: not sampled.",
    )
    check_interval: Annotated[PositiveSeconds, Field(ge=0.01)] = Field(
        default=1.0, description="Seconds between two samples of CPU and memory; one thread takes them, from 10 ms up."
    )

    @property
    def needs(self) -> str | None:
        """The extra that samples CPU and memory."""
        return None if self.cpu_threshold is None and self.memory_threshold is None else "system"
