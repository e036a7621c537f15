"""Adaptive concurrency: a limit that finds itself."""

from aioresilience.adaptive_concurrency.config import AdaptiveConcurrencyConfig
from aioresilience.adaptive_concurrency.machine import AimdMachine
from aioresilience.adaptive_concurrency.pattern import AdaptiveConcurrencyLimiter
from aioresilience.exceptions import AdaptiveConcurrencyReason, ConcurrencyLimitError

__all__ = [
    "AdaptiveConcurrencyConfig",
    "AdaptiveConcurrencyLimiter",
    "AdaptiveConcurrencyReason",
    "AimdMachine",
    "ConcurrencyLimitError",
]
