"""Flask: async views under a policy, each request on a loop of its own."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import ParamSpec

from aioresilience import callables
from aioresilience.calls import Caller
from aioresilience.integrations.extras import extra
from aioresilience.integrations.problems import MEDIA_TYPE, Problem
from aioresilience.integrations.serving import cut, refused
from aioresilience.policy import Admission
from aioresilience.registry import Registry, get_registry
from aioresilience.registry.names import declare

with extra("flask", "Flask"):
    from flask import Response, current_app, request as current_request
    from flask.wrappers import Request
    from werkzeug.exceptions import HTTPException

P = ParamSpec("P")


def protect(
    name: str,
    *,
    key: Callable[[Request], str | None] | None = None,
    priority: Callable[[Request], str] | None = None,
    registry: Registry | None = None,
) -> Callable[[Callable[P, Awaitable[object]]], Callable[P, Coroutine[object, object, Response]]]:
    """Put an async view under a policy; stands below the route's own decorator.

    What is held is held until the view has answered, of a streamed response until the server closes it. The outcome is
    the status; a refused request is answered with problem+json. `key` and `priority` are called with the request.
    Without `registry` the default one is meant; `configure` checks the name.
    """
    declare(name, registry)

    def decorator(view: Callable[P, Awaitable[object]]) -> Callable[P, Coroutine[object, object, Response]]:
        callables.require_async(view, f"@protect({name!r})")

        @callables.wraps(view)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> Response:
            request: Request = current_request._get_current_object()  # type: ignore[attr-defined]  # a proxy
            caller = Caller(None if key is None else key(request), "normal" if priority is None else priority(request))
            admission = (get_registry() if registry is None else registry).get(name).serve(caller)
            try:
                await admission.enter()
            except Exception as error:
                return _answer(refused(error))
            return await _answered(admission, lambda: view(*args, **kwargs))

        return guarded

    return decorator


async def _answered(admission: Admission, view: Callable[[], Awaitable[object]]) -> Response:
    try:
        response: Response = current_app.make_response(await view())  # type: ignore[arg-type]  # what Flask can make of
    except HTTPException as answer:  # a way to answer, in Flask
        admission.answered(answer.code or 500)
        raise
    except BaseException as error:
        problem = cut(admission, error)
        if problem is None:
            raise
        return _answer(problem)
    if response.is_streamed:
        _until_closed(response, admission)
    else:
        admission.answered(response.status_code)
    return response


def _until_closed(response: Response, admission: Admission) -> None:
    """End the admission with a stream; one that breaks off is a failure, one that nobody read to its end neutral."""
    parts = response.response
    if not response.direct_passthrough:  # the server itself may send a file, and would not know it any more
        response.call_on_close(getattr(parts, "close", lambda: None))  # a generator that never began closes nothing
        response.response = _parts(parts, admission)  # type: ignore[assignment]  # all text or all bytes
    response.call_on_close(lambda: admission.answered(response.status_code))


def _parts(parts: Iterable[str | bytes], admission: Admission) -> Iterator[str | bytes]:
    try:
        yield from parts
    except BaseException as error:
        admission.leave(error)
        raise


def _answer(problem: Problem) -> Response:
    return Response(json.dumps(problem.content()), problem.status, problem.headers(), content_type=MEDIA_TYPE)
