"""What calls hold that a server counts, and what one process may admit without it."""

from __future__ import annotations

import asyncio
import math
from typing import Final, NamedTuple

from aioresilience.backends import Answer, Place
from aioresilience.rate_limiting.config import RateLimiterConfig
from aioresilience.units import Rate


class Grant(NamedTuple):
    """The ticket of a call that the server admitted."""

    place: Place
    answer: Answer
    waited: bool


class Shadow(NamedTuple):
    """The ticket of an observed call: what the server will have said."""

    place: Place
    future: asyncio.Future[Answer | None]


class Free:
    """The ticket of a call that nobody counted."""

    waited = False


FREE: Final = Free()


def local_part(config: RateLimiterConfig, fleet: int) -> tuple[Rate, int]:
    """Return the rate and the burst of one process: its part of the fleet's, or per key the whole."""
    rate, burst = config.rate, config.capacity
    if config.scope == "key" or fleet == 1:
        return rate, burst
    if config.algorithm == "sliding_window":
        permits = max(1, rate.permits // fleet)
        return Rate(permits, rate.period * max(1.0, fleet / rate.permits)), permits
    return Rate(rate.permits, rate.period * fleet), max(1, math.ceil(burst / fleet))
