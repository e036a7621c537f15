"""Exception handlers: what refuses or cuts a call within an endpoint becomes an answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final

from aioresilience.exceptions import FallbackFailedError, OperationTimeoutError, RejectionError
from aioresilience.integrations.extras import extra
from aioresilience.integrations.problems import MEDIA_TYPE, problem_of

with extra("fastapi", "Starlette"):
    from starlette.applications import Starlette
    from starlette.requests import HTTPConnection
    from starlette.responses import JSONResponse, Response
    from starlette.websockets import WebSocket

Handler = Callable[[HTTPConnection, Exception], Awaitable[Response | None]]

_SCHEMA: Final = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "reason": {"type": "string"},
    },
}

TRY_AGAIN_LATER: Final = 1013
"""The code that closes a WebSocket (registered with IANA)."""


async def answer_problem(connection: HTTPConnection, error: Exception) -> Response | None:
    """Answer with problem+json and a true Retry-After; close a WebSocket with 1013, "try again later"."""
    if isinstance(connection, WebSocket):
        await connection.close(TRY_AGAIN_LATER)
        return None
    problem = problem_of(error)
    if problem is None:
        raise error
    return JSONResponse(problem.content(), problem.status, problem.headers(), MEDIA_TYPE)


def problem_responses() -> dict[int | str, dict[str, Any]]:
    """Return what the OpenAPI document says of refusals and overruns, for `FastAPI(responses=...)`."""
    return {
        int(status): {"description": status.phrase, "content": {MEDIA_TYPE: {"schema": _SCHEMA}}}
        for status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)
    }


def problem_handlers() -> dict[type[Exception], Handler]:
    """Return the handlers for `FastAPI(exception_handlers=...)`: refusals, overruns and failed fallbacks."""
    return dict.fromkeys((RejectionError, OperationTimeoutError, FallbackFailedError), answer_problem)


def add_problem_handlers(app: Starlette) -> None:
    """Register the handlers with an app."""
    for kind, handler in problem_handlers().items():
        app.add_exception_handler(kind, handler)  # type: ignore[arg-type]  # Starlette types it by the connection
