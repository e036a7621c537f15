"""One call on its way through the layers, and who makes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from aioresilience.callables import Worker
from aioresilience.clock import Clock
from aioresilience.events import Decision


class Exchange(Protocol):
    """What an HTTP client knows of the request that a call sends, and of the responses to it."""

    @property
    def idempotent(self) -> bool | None:
        """Whether the request may be carried out twice; None leaves it to the policy."""

    def can_send(self) -> bool:
        """Tell whether there is still something to send: a streamed body is gone once it was read."""

    def when_closed(self, result: object, callback: Callable[[], object]) -> bool:
        """Call back once a response that is still open is closed; False, and no call, for what is not open."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the key of keyed limits, the priority for shedding, when the request arrived (monotonic seconds).

    `host` is whom the call goes to, for policies that are partitioned by it.
    """

    key: str | None = None
    priority: str = "normal"
    arrived: float | None = None
    host: str | None = None
    exchange: Exchange | None = None


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

Exit = Callable[[BaseException | None], BaseException | None]
"""Ends what was begun around a block: takes the error that ended the block, returns the one to raise."""


def invoker(clock: Clock) -> Handler:
    """Return the innermost layer, which notes when the function starts."""
    monotonic = clock.monotonic

    def invoke(call: Call) -> Awaitable[object]:
        call.started = monotonic()
        return call.func(*call.args, **call.kwargs)

    return invoke
