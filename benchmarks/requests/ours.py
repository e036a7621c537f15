"""Our middlewares, and Starlette's base class that 0.2 was built on, doing nothing."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from app import app, request
from starlette.middleware.base import BaseHTTPMiddleware

from aioresilience import BasicLoadShedder, Bulkhead, CircuitBreaker, Registry
from aioresilience.integrations.fastapi import (
    BulkheadMiddleware,
    CircuitBreakerMiddleware,
    LoadSheddingMiddleware,
    PolicyMiddleware,
)

YAML = """
version: 1
policies:
  two: {circuit_breaker: {window: 30s}, load_shedder: {max_requests: 1000}}
"""


class Base(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        return await call_next(request)


def subjects(bare):
    registry = Registry.from_text(YAML)
    under = {
        "app": app,
        "bulkhead": BulkheadMiddleware(app, Bulkhead("b")),
        "circuit breaker": CircuitBreakerMiddleware(app, CircuitBreaker("c")),
        "load shedder": LoadSheddingMiddleware(app, BasicLoadShedder()),
        "breaker and shedder": PolicyMiddleware(app, registry, policy="two"),
        "not routed": PolicyMiddleware(app, registry, routes={"POST /pay": "two"}),
        "BaseHTTPMiddleware": Base(app),
    }
    return {name: request(one) for name, one in under.items()}
