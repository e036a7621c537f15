"""Circuit breaker: stop calling what fails, and probe until it is well again."""

from aioresilience.circuit_breaker.config import CircuitConfig, LastCalls, LastSeconds
from aioresilience.circuit_breaker.conveniences import (
    CircuitBreakerManager,
    circuit_breaker,
    get_all_circuit_metrics,
    get_circuit_breaker,
    with_circuit_breaker,
)
from aioresilience.circuit_breaker.machine import CircuitMachine, CircuitState
from aioresilience.circuit_breaker.pattern import CircuitBreaker, CircuitMetrics
from aioresilience.exceptions import CircuitBreakerOpenError, CircuitBreakerReason

__all__ = [
    "CircuitBreaker",
    "CircuitBreakerManager",
    "CircuitBreakerOpenError",
    "CircuitBreakerReason",
    "CircuitConfig",
    "CircuitMachine",
    "CircuitMetrics",
    "CircuitState",
    "LastCalls",
    "LastSeconds",
    "circuit_breaker",
    "get_all_circuit_metrics",
    "get_circuit_breaker",
    "with_circuit_breaker",
]
