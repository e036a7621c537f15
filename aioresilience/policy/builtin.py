"""The built-in patterns, in the default order, outermost first; adding one is a room and a line here."""

from __future__ import annotations

from typing import Final

from aioresilience.adaptive_concurrency import AdaptiveConcurrencyLimiter
from aioresilience.backpressure import BackpressureManager
from aioresilience.bulkhead import Bulkhead
from aioresilience.circuit_breaker import CircuitBreaker
from aioresilience.fallback import FallbackHandler
from aioresilience.load_shedding import BasicLoadShedder
from aioresilience.pattern import AnyPattern
from aioresilience.rate_limiting import RateLimit
from aioresilience.retry import RetryPolicy
from aioresilience.timeout import Deadline, TimeoutManager

BUILTIN: Final[tuple[type[AnyPattern], ...]] = (
    FallbackHandler,
    Deadline,
    BasicLoadShedder,
    BackpressureManager,
    RetryPolicy,
    CircuitBreaker,
    RateLimit,
    AdaptiveConcurrencyLimiter,
    Bulkhead,
    TimeoutManager,
)
