"""Circuit breakers by name, and as decorators."""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import ParamSpec, TypeVar

from aioresilience import callables
from aioresilience.circuit_breaker.config import CircuitConfig
from aioresilience.circuit_breaker.machine import OPEN
from aioresilience.circuit_breaker.pattern import CircuitBreaker
from aioresilience.exceptions import ExceptionConfig
from aioresilience.logging import log_event

P = ParamSpec("P")
T = TypeVar("T")


class CircuitBreakerManager:
    """Circuit breakers by name, made on first use."""

    def __init__(self) -> None:
        self._circuits: dict[str, CircuitBreaker] = {}
        self._lock = threading.Lock()

    def get_or_create(
        self,
        name: str,
        *,
        config: CircuitConfig | None = None,
        exceptions: ExceptionConfig | None = None,
        **fields: object,
    ) -> CircuitBreaker:
        """Return the circuit breaker of that name; a new one takes `config`, or the `fields` of a CircuitConfig.

        What is said of one that exists already is not applied; the log tells where it differs. Raises TypeError for
        both config and fields.
        """
        config = _config(config, fields)
        with self._lock:
            found = self._circuits.get(name)
            if found is None:
                found = self._circuits[name] = CircuitBreaker(name, config, exceptions)
            elif fields:
                _compare(found, config, fields)
        return found

    def get_all_metrics(self) -> dict[str, dict[str, object]]:
        """Return the metrics of every circuit breaker by name."""
        return {name: circuit.get_metrics() for name, circuit in self._snapshot().items()}

    def get_open_circuits(self) -> list[str]:
        """Return the names of the circuits that are open."""
        return [name for name, circuit in self._snapshot().items() if circuit.state is OPEN]

    async def reset_all(self) -> None:
        """Reset every circuit breaker."""
        for circuit in self._snapshot().values():
            await circuit.reset()

    def _snapshot(self) -> dict[str, CircuitBreaker]:
        with self._lock:
            return dict(self._circuits)


def _config(config: CircuitConfig | None, fields: Mapping[str, object]) -> CircuitConfig:
    if config is not None and fields:
        raise TypeError(f"give config or single fields, not both: {', '.join(fields)}")
    return config or CircuitConfig.model_validate(fields)


def _compare(circuit: CircuitBreaker, config: CircuitConfig, fields: Mapping[str, object]) -> None:
    for field in fields:
        if getattr(config, field) != getattr(circuit.config, field):
            told = f"circuit breaker {circuit.name!r} exists already: {field}={fields[field]!r} is not applied"
            log_event("aioresilience.circuit_breaker", logging.WARNING, told)


_manager = CircuitBreakerManager()


def get_circuit_breaker(
    name: str, *, config: CircuitConfig | None = None, exceptions: ExceptionConfig | None = None, **fields: object
) -> CircuitBreaker:
    """Return the process-wide circuit breaker of that name, made on first use."""
    return _manager.get_or_create(name, config=config, exceptions=exceptions, **fields)


def get_all_circuit_metrics() -> dict[str, dict[str, object]]:
    """Return the metrics of every process-wide circuit breaker by name."""
    return _manager.get_all_metrics()


def circuit_breaker(
    name: str,
    failure_threshold: int = 5,
    recovery_timeout: float = 60.0,
    *,
    config: CircuitConfig | None = None,
    exceptions: ExceptionConfig | None = None,
    **fields: object,
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[object, object, T]]]:
    """Send every call of the decorated async function through a circuit breaker of its own.

    `fields` are those of CircuitConfig; `recovery_timeout` is in seconds. The circuit is found as the function's
    attribute `circuit_breaker`.
    """
    said = {"failure_threshold": failure_threshold, "recovery_timeout": recovery_timeout}
    fields |= {field: value for field, value in said.items() if value != CircuitConfig.model_fields[field].default}
    return with_circuit_breaker(CircuitBreaker(name, _config(config, fields), exceptions))


def with_circuit_breaker(
    circuit: CircuitBreaker,
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[object, object, T]]]:
    """Send every call of the decorated async function through `circuit`."""

    def decorator(func: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[object, object, T]]:
        wrapper = callables.decorate(func, circuit.execute, "Circuit breaker decorator")
        wrapper.circuit_breaker = circuit  # type: ignore[attr-defined]  # 0.2's name for it, on a plain function
        return wrapper

    return decorator
