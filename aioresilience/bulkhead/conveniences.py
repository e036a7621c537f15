"""Bulkheads by name, and as decorators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import ParamSpec, TypeVar

from aioresilience import callables
from aioresilience.bulkhead.config import BulkheadConfig
from aioresilience.bulkhead.pattern import Bulkhead

P = ParamSpec("P")
T = TypeVar("T")


class BulkheadRegistry:
    """Bulkheads by name, made on first use."""

    def __init__(self) -> None:
        self._bulkheads: dict[str, Bulkhead] = {}

    async def get_or_create(
        self, name: str, max_concurrent: int, max_waiting: int = 0, timeout: float | None = None
    ) -> Bulkhead:
        """Return the bulkhead of that name; the numbers matter only when it is new. `timeout` in seconds."""
        found = self._bulkheads.get(name)
        if found is None:
            config = BulkheadConfig(max_concurrent=max_concurrent, max_waiting=max_waiting, timeout=timeout)
            found = self._bulkheads.setdefault(name, Bulkhead(name, config))
        return found

    def get(self, name: str) -> Bulkhead | None:
        """Return the bulkhead of that name, None if nobody made it."""
        return self._bulkheads.get(name)

    def get_all_metrics(self) -> dict[str, dict[str, object]]:
        """Return the metrics of every bulkhead by name."""
        return {name: bulkhead.get_metrics() for name, bulkhead in self._bulkheads.items()}

    def reset_all_metrics(self) -> None:
        """Start counting anew everywhere."""
        for bulkhead in self._bulkheads.values():
            bulkhead.reset_metrics()


_registry = BulkheadRegistry()


async def get_bulkhead(name: str, max_concurrent: int, max_waiting: int = 0, timeout: float | None = None) -> Bulkhead:
    """Return the process-wide bulkhead of that name, made on first use."""
    return await _registry.get_or_create(name, max_concurrent, max_waiting, timeout)


def get_all_bulkhead_metrics() -> dict[str, dict[str, object]]:
    """Return the metrics of every process-wide bulkhead by name."""
    return _registry.get_all_metrics()


def bulkhead(
    max_concurrent: int, max_waiting: int = 0, timeout: float | None = None, name: str | None = None
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[object, object, T]]]:
    """Give the decorated async function a bulkhead of its own, found as its attribute `bulkhead`."""
    config = BulkheadConfig(max_concurrent=max_concurrent, max_waiting=max_waiting, timeout=timeout)

    def decorator(func: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[object, object, T]]:
        return with_bulkhead(Bulkhead(name or callables.name_of(func), config))(func)

    return decorator


def with_bulkhead(
    bulkhead_instance: Bulkhead,
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[object, object, T]]]:
    """Send every call of the decorated async function through `bulkhead_instance`."""

    def decorator(func: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[object, object, T]]:
        wrapper = callables.decorate(func, bulkhead_instance.execute, "bulkhead")
        wrapper.bulkhead = bulkhead_instance  # type: ignore[attr-defined]
        return wrapper

    return decorator
