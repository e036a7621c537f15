"""Where a substitute result comes from: a value, copied where it could be changed, or a function."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable

from aioresilience import callables
from aioresilience.calls import Call
from aioresilience.clock import Clock
from aioresilience.exceptions import OperationTimeoutError, TimeoutReason
from aioresilience.fallback.config import FallbackConfig, Substitute
from aioresilience.scope import Timeline

Source = Callable[[Call], Awaitable[object]]


def sources(config: FallbackConfig, name: str, clock: Clock) -> tuple[Source, ...]:
    """Return what the fallback of that name tries in turn."""
    return tuple(_source(substitute, config.timeout, name, clock) for substitute in config.substitutes())


def _source(substitute: Substitute, timeout: float | None, name: str, clock: Clock) -> Source:
    if substitute.call is None:
        fresh = copier(substitute.value)
        return lambda call: _ready(fresh())
    func = callables.awaitable(substitute.call)
    if timeout is None:
        return lambda call: func(*call.args, **call.kwargs)
    return bounded(func, timeout, name, clock)


async def _ready(value: object) -> object:
    return value


def bounded(func: Callable[..., Awaitable[object]], timeout: float, name: str, clock: Clock) -> Source:
    """Return `func` for `timeout` seconds at most, after which it is cut and OperationTimeoutError raised."""
    line = Timeline(clock=clock)

    async def ask(call: Call) -> object:
        scope = line.open(timeout)
        try:
            result = await func(*call.args, **call.kwargs)
        except BaseException as error:
            if scope.leave(error):
                raise OperationTimeoutError(
                    f"a function of fallback {name!r} took longer than {timeout:g} s",
                    name, "fallback", TimeoutReason.TIMEOUT_EXCEEDED, timeout=timeout,
                ) from error  # fmt: skip
            raise
        scope.leave(None)
        return result

    return ask


def copier(value: object) -> Callable[[], object]:
    """Return what gives each caller its own copy of a mutable value, and an immutable one itself; told apart once.

    What cannot be copied is shared.
    """
    if type(value) is object or _copies_to_itself(value):
        return lambda: value
    return lambda: copy.deepcopy(value)


def _copies_to_itself(value: object) -> bool:
    try:
        return copy.deepcopy(value) is value
    except Exception:
        return True
