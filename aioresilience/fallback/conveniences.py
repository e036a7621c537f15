"""Fallbacks as decorators, in chains, and around a single call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import ParamSpec, TypeVar

from aioresilience import callables
from aioresilience.clock import Clock
from aioresilience.exceptions import ExceptionConfig
from aioresilience.fallback.config import FallbackConfig, Substitute
from aioresilience.fallback.pattern import FallbackHandler

P = ParamSpec("P")
T = TypeVar("T")
Kinds = tuple[type[BaseException], ...]


def _chained(fallbacks: Sequence[object], kinds: Kinds | None) -> FallbackConfig:
    chain = tuple(Substitute(call=one) if callable(one) else Substitute(value=one) for one in fallbacks)
    return FallbackConfig(chain=chain, fallback_on_exceptions=kinds)


class ChainedFallback(FallbackHandler):
    """Tries functions (or values) in turn until one succeeds; each function gets the call's arguments.

    They are given one by one, or as one list.
    """

    def __init__(
        self,
        fallbacks: object = (),
        *more: object,
        fallback_on_exceptions: Kinds | None = (Exception,),
        name: str | None = None,
        config: FallbackConfig | None = None,
        exceptions: ExceptionConfig | None = None,
        clock: Clock | None = None,
    ) -> None:
        if config is None:
            given = tuple(fallbacks) if isinstance(fallbacks, (list, tuple)) else (fallbacks,)
            config = _chained((*given, *more), fallback_on_exceptions)
        super().__init__(config, exceptions, name=name, clock=clock)


def fallback(
    fallback_value: object,
    fallback_on_exceptions: Kinds | None = (Exception,),
    reraise_on_fallback_failure: bool = True,
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[object, object, T]]]:
    """Answer failed calls of the decorated async function with a value, or with what a function returns."""
    config = FallbackConfig(
        fallback=fallback_value,
        fallback_on_exceptions=fallback_on_exceptions,
        reraise_on_fallback_failure=reraise_on_fallback_failure,
    )

    def decorator(func: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[object, object, T]]:
        return with_fallback_handler(FallbackHandler(config, name=callables.name_of(func)))(func)

    return decorator


def chained_fallback(
    *fallbacks: object, fallback_on_exceptions: Kinds | None = (Exception,)
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[object, object, T]]]:
    """Answer failed calls of the decorated async function with the first of `fallbacks` that succeeds."""
    config = _chained(fallbacks, fallback_on_exceptions)

    def decorator(func: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[object, object, T]]:
        return with_fallback_handler(ChainedFallback(config=config, name=callables.name_of(func)))(func)

    return decorator


def with_fallback_handler(
    handler: FallbackHandler,
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[object, object, T]]]:
    """Send every call of the decorated async function through `handler`."""

    def decorator(func: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[object, object, T]]:
        wrapper = callables.decorate(func, handler.execute, "fallback")
        wrapper.fallback_handler = handler  # type: ignore[attr-defined]
        return wrapper

    return decorator


async def with_fallback(
    func: Callable[..., Awaitable[T]], fallback_value: object, *args: object, **kwargs: object
) -> T:
    """Call `func` with the arguments; answer a failure with a value, or with what a function returns."""
    handler = FallbackHandler(FallbackConfig(fallback=fallback_value), name="with_fallback")
    return await handler.execute(func, *args, **kwargs)
