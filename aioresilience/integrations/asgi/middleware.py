"""The middleware that all others are made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Final

from aioresilience.calls import ANYONE, Caller
from aioresilience.clock import SYSTEM_CLOCK
from aioresilience.failures import EVERY_EXCEPTION
from aioresilience.integrations.asgi.exchange import Exchange
from aioresilience.integrations.asgi.types import App, Receive, Scope, Send
from aioresilience.integrations.paths import NOT_GUARDED, Paths, route_path
from aioresilience.pattern import AnyPattern, Context
from aioresilience.policy import Entrance

ANSWERS: Final = Context(classify=EVERY_EXCEPTION.of_answers())
"""What a pattern without a policy makes of answers: from 500 on they are failures."""


class AdmissionMiddleware(ABC):
    """Lets HTTP requests in through an admission, which ends with the last byte of the answer.

    Everything else passes untouched: WebSockets, the lifespan, and the excluded paths, which are exact. An app that
    runs on when its client has left is cancelled; with `cancel_on_disconnect=False` it keeps what it holds to its end.
    """

    def __init__(
        self, app: App, exclude_paths: Iterable[str] | None = None, *, cancel_on_disconnect: bool = True
    ) -> None:
        self.app = app
        self._excluded = Paths(NOT_GUARDED if exclude_paths is None else exclude_paths).paths
        self._cancel = cancel_on_disconnect
        self._prepares = type(self).prepare is not AdmissionMiddleware.prepare
        self._knows_callers = type(self).caller is not AdmissionMiddleware.caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        path = route_path(scope) if scope["type"] == "http" else None
        entrance = None if path is None or path in self._excluded else self.entrance(scope, path)
        if entrance is None:
            await self.app(scope, receive, send)
            return
        caller = self.caller(scope) if self._knows_callers else ANYONE
        exchange = Exchange(entrance, caller, receive, send, self._cancel)
        if self._prepares:
            self.prepare(exchange, scope)
        try:
            if not exchange.arrive():
                await exchange.stay()
            await self.app(scope, exchange.receive, exchange.send)
        except BaseException as error:
            instead = await exchange.raised(error)
        else:
            exchange.returned()
            return
        if instead is not None:
            await self._answer_instead(instead, scope, receive, exchange.send)

    async def _answer_instead(self, error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self.answer(error, scope, receive)
            if answer is None:
                raise error
            await answer(scope, receive, send)
        finally:
            del error  # this frame is in its traceback, and must not keep it alive

    @abstractmethod
    def entrance(self, scope: Scope, path: str) -> Entrance | None:
        """Return what the request is to go through, None to let it pass; `path` is that within the app."""

    def caller(self, scope: Scope) -> Caller:
        """Return who makes a request; by itself, anyone."""
        return ANYONE

    def prepare(self, exchange: Exchange, scope: Scope) -> None:  # noqa: B027  # most have nothing to set up
        """Set up an exchange before it runs; by itself nothing is set up."""

    @abstractmethod
    async def answer(self, error: Exception, scope: Scope, receive: Receive) -> App | None:
        """Return what is answered to a request that was refused or cut; None raises the error."""


OPEN: Final = Entrance((), ANSWERS, SYSTEM_CLOCK)
"""Nothing to pass."""


class Gate:
    """Patterns without a policy, and the admissions under them, current whatever is retuned."""

    __slots__ = ("_entrance", "_patterns")

    def __init__(self, patterns: Sequence[AnyPattern]) -> None:
        self._patterns = tuple(patterns)
        self._entrance = self._make()

    def _make(self) -> Entrance:
        clock = self._patterns[0].clock if self._patterns else SYSTEM_CLOCK
        return Entrance(self._patterns, ANSWERS, clock)

    def entrance(self) -> Entrance:
        """Return what to go through at present."""
        entrance = self._entrance
        if not entrance.is_current():
            entrance = self._entrance = self._make()
        return entrance
