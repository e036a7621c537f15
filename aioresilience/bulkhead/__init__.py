"""Bulkhead: at most so many calls at once, a bounded queue behind them, first in, first out."""

from aioresilience.bulkhead.config import BulkheadConfig
from aioresilience.bulkhead.conveniences import (
    BulkheadRegistry,
    bulkhead,
    get_all_bulkhead_metrics,
    get_bulkhead,
    with_bulkhead,
)
from aioresilience.bulkhead.machine import BulkheadMachine
from aioresilience.bulkhead.pattern import Bulkhead, BulkheadMetrics
from aioresilience.exceptions import BulkheadFullError, BulkheadReason

__all__ = [
    "Bulkhead",
    "BulkheadConfig",
    "BulkheadFullError",
    "BulkheadMachine",
    "BulkheadMetrics",
    "BulkheadReason",
    "BulkheadRegistry",
    "bulkhead",
    "get_all_bulkhead_metrics",
    "get_bulkhead",
    "with_bulkhead",
]
