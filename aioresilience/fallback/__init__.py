"""Fallback: what stands in for the result of a call that failed."""

from aioresilience.exceptions import FallbackFailedError, FallbackReason
from aioresilience.fallback.config import FallbackConfig, Substitute
from aioresilience.fallback.conveniences import (
    ChainedFallback,
    chained_fallback,
    fallback,
    with_fallback,
    with_fallback_handler,
)
from aioresilience.fallback.pattern import FallbackHandler, FallbackMetrics

__all__ = [
    "ChainedFallback",
    "FallbackConfig",
    "FallbackFailedError",
    "FallbackHandler",
    "FallbackMetrics",
    "FallbackReason",
    "Substitute",
    "chained_fallback",
    "fallback",
    "with_fallback",
    "with_fallback_handler",
]
