"""Why a pattern refused, gave up or replaced a call."""

from __future__ import annotations

from enum import IntEnum


class CircuitBreakerReason(IntEnum):
    """Why a circuit breaker refused a call or reported one."""

    CIRCUIT_OPEN = 0
    TIMEOUT = 1
    HALF_OPEN_REJECTION = 2
    CALL_FAILED = 3
    THRESHOLD_EXCEEDED = 4


class BulkheadReason(IntEnum):
    """Why a bulkhead had no room; REENTRANT is a call from inside a call that holds the last slot."""

    CAPACITY_FULL = 0
    QUEUE_FULL = 1
    TIMEOUT = 2
    REENTRANT = 3


class TimeoutReason(IntEnum):
    """Which bound in time was passed: of the attempt, or of the whole call."""

    TIMEOUT_EXCEEDED = 0
    DEADLINE_EXCEEDED = 1


class RetryReason(IntEnum):
    """Why retrying ended."""

    EXHAUSTED = 0
    NON_RETRYABLE = 1


class FallbackReason(IntEnum):
    """Why there is no substitute result."""

    ALL_FALLBACKS_FAILED = 0
    FALLBACK_ERROR = 1
    NO_FALLBACK_DEFINED = 2


class RateLimitReason(IntEnum):
    """Which limit was used up."""

    RATE_LIMIT_EXCEEDED = 0
    QUOTA_EXCEEDED = 1
    WINDOW_EXHAUSTED = 2


class LoadSheddingReason(IntEnum):
    """Why a call was shed."""

    MAX_LOAD_EXCEEDED = 0
    PRIORITY_REJECTED = 1


class BackpressureReason(IntEnum):
    """Why a call was held back."""

    SYSTEM_OVERLOADED = 0
    TIMEOUT_ACQUIRING = 1


class AdaptiveConcurrencyReason(IntEnum):
    """Why the adaptive limiter refused a call."""

    LIMIT_REACHED = 0


class ExceptionAction(IntEnum):
    """What may become of an exception."""

    RAISE_ORIGINAL = 0
    RAISE_TRANSFORMED = 1
    SUPPRESS = 2
    FALLBACK = 3
