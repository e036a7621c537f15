"""Backpressure: from the high mark on new calls wait, until the pending ones have drained to the low mark."""

from aioresilience.backpressure.config import BackpressureConfig
from aioresilience.backpressure.decorators import with_backpressure
from aioresilience.backpressure.machine import BackpressureMachine
from aioresilience.backpressure.pattern import BackpressureManager
from aioresilience.exceptions import BackpressureError, BackpressureReason

__all__ = [
    "BackpressureConfig",
    "BackpressureError",
    "BackpressureMachine",
    "BackpressureManager",
    "BackpressureReason",
    "with_backpressure",
]
