"""The middlewares of 0.2.1."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from app import app, request

from aioresilience import BasicLoadShedder, CircuitBreaker
from aioresilience.integrations.fastapi import CircuitBreakerMiddleware, LoadSheddingMiddleware


def subjects(bare):
    breaker = CircuitBreakerMiddleware(app, circuit_breaker=CircuitBreaker("c"))
    both = LoadSheddingMiddleware(breaker, load_shedder=BasicLoadShedder())
    under = {
        "app": app,
        "circuit breaker": breaker,
        "load shedder": LoadSheddingMiddleware(app, load_shedder=BasicLoadShedder()),
        "breaker and shedder": both,
    }
    return {name: request(one) for name, one in under.items()}
