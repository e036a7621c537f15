"""FastAPI and Starlette: middlewares, dependencies and route decorators."""

from aioresilience.integrations.fastapi.composite import ResilienceMiddleware
from aioresilience.integrations.fastapi.fallback import FallbackMiddleware
from aioresilience.integrations.fastapi.guards import (
    AdaptiveConcurrencyMiddleware,
    BackpressureMiddleware,
    BulkheadMiddleware,
    CircuitBreakerMiddleware,
    LoadSheddingMiddleware,
)
from aioresilience.integrations.fastapi.rate_limits import get_client_ip, rate_limit_dependency
from aioresilience.integrations.fastapi.retrying import RetryMiddleware, retry_route
from aioresilience.integrations.fastapi.timing import TimeoutMiddleware

__all__ = [
    "AdaptiveConcurrencyMiddleware",
    "BackpressureMiddleware",
    "BulkheadMiddleware",
    "CircuitBreakerMiddleware",
    "FallbackMiddleware",
    "LoadSheddingMiddleware",
    "ResilienceMiddleware",
    "RetryMiddleware",
    "TimeoutMiddleware",
    "get_client_ip",
    "rate_limit_dependency",
    "retry_route",
]
