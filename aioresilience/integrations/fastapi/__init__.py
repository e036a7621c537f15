"""FastAPI and Starlette: middlewares, dependencies and route decorators."""

from aioresilience.integrations.asgi import ClientAddress, PolicyMiddleware, PriorityHeader, RequestStart
from aioresilience.integrations.fastapi.composite import ResilienceMiddleware
from aioresilience.integrations.fastapi.dependencies import protect
from aioresilience.integrations.fastapi.fallback import FallbackMiddleware
from aioresilience.integrations.fastapi.guards import (
    AdaptiveConcurrencyMiddleware,
    BackpressureMiddleware,
    BulkheadMiddleware,
    CircuitBreakerMiddleware,
    LoadSheddingMiddleware,
)
from aioresilience.integrations.fastapi.lifespan import resilience_lifespan
from aioresilience.integrations.fastapi.problems import add_problem_handlers, problem_handlers, problem_responses
from aioresilience.integrations.fastapi.rate_limits import get_client_ip, rate_limit_dependency
from aioresilience.integrations.fastapi.retrying import RetryMiddleware, retry_route
from aioresilience.integrations.fastapi.timing import TimeoutMiddleware

__all__ = [
    "AdaptiveConcurrencyMiddleware",
    "BackpressureMiddleware",
    "BulkheadMiddleware",
    "CircuitBreakerMiddleware",
    "ClientAddress",
    "FallbackMiddleware",
    "LoadSheddingMiddleware",
    "PolicyMiddleware",
    "PriorityHeader",
    "RequestStart",
    "ResilienceMiddleware",
    "RetryMiddleware",
    "TimeoutMiddleware",
    "add_problem_handlers",
    "get_client_ip",
    "problem_handlers",
    "problem_responses",
    "protect",
    "rate_limit_dependency",
    "resilience_lifespan",
    "retry_route",
]
