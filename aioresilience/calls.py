"""One call on its way through the layers, and who makes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from aioresilience.callables import Worker
from aioresilience.clock import Clock
from aioresilience.events import Decision


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the key of keyed limits, the priority for shedding, when the request arrived (monotonic seconds)."""

    key: str | None = None
    priority: str = "normal"
    arrived: float | None = None


ANYONE: Final = Caller()

Trace = list[Decision]
"""What was decided about one call so far; made when there is something to note."""


class Call:
    """One call on its way through the layers; `started` is when the function began in the present attempt.

    `trace` is None until a pattern delays, refuses or repeats the call; `worker` is the thread that outlives a timeout
    which answered None.
    """

    __slots__ = ("args", "caller", "func", "kwargs", "started", "trace", "worker")

    def __init__(
        self,
        func: Callable[..., Awaitable[object]],
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        caller: Caller,
    ) -> None:
        self.func = func
        self.args = args
        self.kwargs = kwargs
        self.caller = caller
        self.started: float | None = None
        self.trace: Trace | None = None
        self.worker: Worker | None = None

    def noted(self) -> Trace:
        """Return the trace, made if need be."""
        trace = self.trace
        if trace is None:
            trace = self.trace = []
        return trace


Handler = Callable[[Call], Awaitable[object]]


def invoker(clock: Clock) -> Handler:
    """Return the innermost layer, which notes when the function starts."""
    monotonic = clock.monotonic

    def invoke(call: Call) -> Awaitable[object]:
        call.started = monotonic()
        return call.func(*call.args, **call.kwargs)

    return invoke
