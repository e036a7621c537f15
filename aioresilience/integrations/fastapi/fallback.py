"""0.2's fallback for requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from aioresilience.integrations.asgi.types import App, Message, Receive, Scope, Send
from aioresilience.integrations.extras import extra
from aioresilience.integrations.fastapi.base import as_answer, made
from aioresilience.integrations.paths import NOT_GUARDED, Paths, route_path
from aioresilience.logging import log_error

with extra("fastapi", "Starlette"):
    from starlette.requests import Request

LOGGER: Final = "aioresilience.integrations.fastapi"


class FallbackMiddleware:
    """Answers in the place of a handler that raised before its answer began; an error later than that is raised.

    `fallback_response` is a response or what JSON can say; `fallback_factory(request, error)` makes one, and may be
    async. Raises ValueError where neither is given.
    """

    def __init__(
        self,
        app: App,
        fallback_response: object = None,
        fallback_factory: Callable[[Request, Exception], object] | None = None,
        exclude_paths: Iterable[str] | None = None,
        catch_exceptions: tuple[type[Exception], ...] = (Exception,),
        status_code: int = 200,
        log_errors: bool = True,
    ) -> None:
        if fallback_response is None and fallback_factory is None:
            raise ValueError("a fallback needs fallback_response or fallback_factory")
        self.app = app
        self.fallback_response = fallback_response
        self.fallback_factory = fallback_factory
        self.catch_exceptions = catch_exceptions
        self.status_code = status_code
        self.log_errors = log_errors
        self._excluded = Paths(NOT_GUARDED if exclude_paths is None else exclude_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http" or route_path(scope) in self._excluded:
            await self.app(scope, receive, send)
            return
        began = False

        async def note(message: Message) -> None:
            nonlocal began
            began = began or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, note)
        except self.catch_exceptions as error:
            if began:
                raise
            answer = await self._instead(error, Request(scope, receive))
            await answer(scope, receive, send)

    async def _instead(self, error: Exception, request: Request) -> App:
        if self.log_errors:
            log_error(LOGGER, error, method=request.method, path=request.url.path)
        factory = self.fallback_factory
        value = self.fallback_response if factory is None else await made(factory(request, error))
        return as_answer(value, self.status_code)
