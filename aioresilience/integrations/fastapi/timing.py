"""0.2's timeout for requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aioresilience.calls import ANYONE
from aioresilience.exceptions import OperationTimeoutError
from aioresilience.integrations.asgi.answers import json_answer
from aioresilience.integrations.asgi.exchange import Exchange
from aioresilience.integrations.asgi.middleware import OPEN, AdmissionMiddleware, Gate
from aioresilience.integrations.asgi.types import App, Receive, Scope
from aioresilience.integrations.extras import extra
from aioresilience.integrations.fastapi.base import as_answer, made
from aioresilience.policy import Admission, Entrance
from aioresilience.timeout import TimeoutConfig, TimeoutManager

with extra("fastapi", "Starlette"):
    from starlette.requests import Request


class TimeoutMiddleware(AdmissionMiddleware):
    """Cancels a handler whose answer has not begun after `timeout` seconds; how long the answer then takes is its own.

    `response_factory(timeout, request, elapsed)` gives another answer than the 408.
    """

    def __init__(
        self,
        app: App,
        timeout: float = 30.0,
        exclude_paths: Iterable[str] | None = None,
        error_message: str = "Request exceeded timeout",
        status_code: int = 408,
        response_factory: Callable[[float, Request, float], object] | None = None,
        *,
        cancel_on_disconnect: bool = True,
    ) -> None:
        super().__init__(app, exclude_paths, cancel_on_disconnect=cancel_on_disconnect)
        self.timeout = timeout
        self.error_message = error_message
        self.status_code = status_code
        self.response_factory = response_factory
        self._gate = Gate([TimeoutManager(TimeoutConfig(timeout=timeout), name="request")])

    def entrance(self, scope: Scope, path: str) -> Entrance:
        """Let everybody in."""
        return OPEN

    def prepare(self, exchange: Exchange, scope: Scope) -> None:
        """Bound the time until the answer begins."""
        exchange.first = Admission(self._gate.entrance(), ANYONE)

    async def answer(self, error: Exception, scope: Scope, receive: Receive) -> App | None:
        """Say that it took too long."""
        if not isinstance(error, OperationTimeoutError):
            return None
        if self.response_factory is None:
            return json_answer({"detail": self.error_message}, self.status_code)
        elapsed = error.metadata["elapsed"]
        assert isinstance(elapsed, float)
        response = self.response_factory(self.timeout, Request(scope, receive), elapsed)
        return as_answer(await made(response), self.status_code)
