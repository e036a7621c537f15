"""Backpressure as a decorator."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import ParamSpec, TypeVar

from aioresilience import callables, units
from aioresilience.backpressure.pattern import BackpressureManager, PatientCaller
from aioresilience.calls import ANYONE

P = ParamSpec("P")
T = TypeVar("T")


def with_backpressure(
    backpressure: BackpressureManager, timeout: float | None = None
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[object, object, T]]]:
    """Send every call of the decorated async function through `backpressure`; it raises BackpressureError.

    A call waits `timeout` seconds at most, or the config's `timeout` when unset.
    """
    caller = ANYONE if timeout is None else PatientCaller(patience=units.seconds(timeout))

    def decorator(func: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[object, object, T]]:
        wrapper = callables.decorate(func, partial(backpressure.execute_as, caller), "backpressure")
        wrapper.backpressure = backpressure  # type: ignore[attr-defined]
        return wrapper

    return decorator
