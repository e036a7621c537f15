"""What a bulkhead is told."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from aioresilience.fields import Count, CountOrZero, Seconds
from aioresilience.pattern import PatternConfig


class BulkheadConfig(PatternConfig):
    """How many calls may run and wait."""

    short: ClassVar[str | None] = "max_concurrent"

    max_concurrent: Count = Field(default=10, description="Calls that may run at once.")
    max_waiting: CountOrZero = Field(default=0, description="Calls that may wait for a place; 0: reject at once.")
    timeout: Seconds | None = Field(default=None, description="Longest wait for a place; unset: as long as it takes.")
