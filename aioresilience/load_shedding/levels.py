"""How loaded the process is, in four steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class LoadLevel(IntEnum):
    """How loaded the process is."""

    NORMAL = 0
    ELEVATED = 1
    HIGH = 2
    CRITICAL = 3


Bounds = tuple[float, float, float]
"""Above which value the load is elevated, high, critical."""

UTILIZATION: Final[Bounds] = (60.0, 75.0, 90.0)
"""Of calls in flight or CPU, in percent."""
MEMORY: Final[Bounds] = (70.0, 80.0, 90.0)
"""In percent."""
SHARE: Final[Bounds] = (0.75, 1.0, 2.0)
"""Of a soft limit."""
NEVER_CRITICAL: Final[Bounds] = (0.75, 1.0, math.inf)
"""Of a soft limit that says little about the process."""


def rate(value: float, bounds: Bounds) -> LoadLevel:
    """Return the level of a value."""
    return LoadLevel(sum(value > bound for bound in bounds))


@dataclass(frozen=True, slots=True)
class LoadMetrics:
    """What a load shedder counts at one moment; `timestamp` is in seconds since the epoch."""

    active_requests: int
    queue_depth: int
    max_requests: int
    max_queue_depth: int
    timestamp: float

    @property
    def utilization(self) -> float:
        """Calls in flight, in percent of those allowed."""
        return 100.0 * self.active_requests / self.max_requests

    @property
    def load_level(self) -> LoadLevel:
        """The level by utilization."""
        return rate(self.utilization, UTILIZATION)
