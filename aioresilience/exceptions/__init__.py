"""Errors, the reasons they carry, and what may be done with them."""

from aioresilience.exceptions.choices import ExceptionConfig, ExceptionContext, create_exception_config
from aioresilience.exceptions.errors import (
    BackpressureError,
    BulkheadFullError,
    CircuitBreakerOpenError,
    ConcurrencyLimitError,
    FallbackFailedError,
    LoadSheddingError,
    OperationTimeoutError,
    RateLimitExceededError,
    RejectionError,
    ResilienceError,
    RevisionConflictError,
    UnknownPolicyError,
)
from aioresilience.exceptions.handling import ExceptionHandler
from aioresilience.exceptions.reasons import (
    AdaptiveConcurrencyReason,
    BackpressureReason,
    BulkheadReason,
    CircuitBreakerReason,
    ExceptionAction,
    FallbackReason,
    LoadSheddingReason,
    RateLimitReason,
    RetryReason,
    TimeoutReason,
)

__all__ = [
    "AdaptiveConcurrencyReason",
    "BackpressureError",
    "BackpressureReason",
    "BulkheadFullError",
    "BulkheadReason",
    "CircuitBreakerOpenError",
    "CircuitBreakerReason",
    "ConcurrencyLimitError",
    "ExceptionAction",
    "ExceptionConfig",
    "ExceptionContext",
    "ExceptionHandler",
    "FallbackFailedError",
    "FallbackReason",
    "LoadSheddingError",
    "LoadSheddingReason",
    "OperationTimeoutError",
    "RateLimitExceededError",
    "RateLimitReason",
    "RejectionError",
    "ResilienceError",
    "RetryReason",
    "RevisionConflictError",
    "TimeoutReason",
    "UnknownPolicyError",
    "create_exception_config",
]
