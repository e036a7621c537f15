"""aiohttp's server: requests under the policies of a registry."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Final

from aioresilience.calls import Caller
from aioresilience.integrations.extras import extra
from aioresilience.integrations.paths import NOT_GUARDED, Paths
from aioresilience.integrations.problems import MEDIA_TYPE, Problem
from aioresilience.integrations.serving import PolicyFinder, refused
from aioresilience.policy import Admission
from aioresilience.registry import Registry

with extra("aiohttp"):
    from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_answers: Final[ContextVar[list[web.StreamResponse]]] = ContextVar("aioresilience_answers")
"""The answers to a request that have begun: one, or none yet."""


def add_policies(
    app: web.Application,
    registry: Registry | None = None,
    *,
    policy: str | None = None,
    routes: Mapping[str, str] | None = None,
    exclude_paths: Iterable[str] = NOT_GUARDED,
    key: Callable[[web.Request], str | None] | None = None,
    priority: Callable[[web.Request], str] | None = None,
) -> None:
    """Put an app's requests under policies: `policy` for all, or `routes={"POST /pay": "payments"}` for those named.

    What is held is held until the handler returns: to the last byte of a stream that the handler writes, to the end of
    a WebSocket. A client that leaves is noticed where the server runs with `handler_cancellation=True`, and is neutral.
    A refused request is answered with problem+json. Raises as `PolicyMiddleware` does.
    """
    finder, excluded = PolicyFinder(registry, policy, routes), Paths(exclude_paths)

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        found = None if request.path in excluded else finder.find(request.method, request.path)
        if found is None:
            return await handler(request)
        caller = Caller(None if key is None else key(request), "normal" if priority is None else priority(request))
        return await _guarded(found.serve(caller), request, handler)

    app.middlewares.append(guard)
    app.on_response_prepare.append(_note)


async def _note(request: web.Request, response: web.StreamResponse) -> None:
    if (answers := _answers.get(None)) is not None:
        answers.append(response)


async def _guarded(admission: Admission, request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        await admission.enter()
    except Exception as error:
        return _answer(refused(error))
    began: list[web.StreamResponse] = []
    _answers.set(began)
    try:
        response = await handler(request)
    except web.HTTPException as answer:  # a way to answer, in aiohttp
        admission.answered(answer.status)
        raise
    except BaseException as error:
        gone = request.transport is None or request.transport.is_closing()
        left = admission.leave(asyncio.CancelledError() if gone and isinstance(error, OSError) else error)
        try:
            if left is None or left is error or isinstance(left, asyncio.CancelledError):
                raise
            if began or not isinstance(left, Exception):
                raise left from error
            return _answer(refused(left))
        finally:
            del left  # this frame is in its traceback, and must not keep it alive
    admission.answered(response.status)
    return response


def _answer(problem: Problem) -> web.Response:
    body = json.dumps(problem.content()).encode()
    return web.Response(body=body, status=problem.status, headers=problem.headers(), content_type=MEDIA_TYPE)
