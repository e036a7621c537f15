"""Load shedding as a decorator."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import ParamSpec, TypeVar

from aioresilience import callables
from aioresilience.calls import Caller
from aioresilience.load_shedding.basic import BasicLoadShedder

P = ParamSpec("P")
T = TypeVar("T")


def with_load_shedding(
    load_shedder: BasicLoadShedder, priority: str = "normal"
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[object, object, T]]]:
    """Send every call of the decorated async function through `load_shedder`; it raises LoadSheddingError."""
    caller = Caller(priority=priority)

    def decorator(func: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[object, object, T]]:
        wrapper = callables.decorate(func, partial(load_shedder.execute_as, caller), "load shedding")
        wrapper.load_shedder = load_shedder  # type: ignore[attr-defined]
        return wrapper

    return decorator
