"""Django under ASGI: requests under the policies of a registry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any

from aioresilience.calls import Caller
from aioresilience.integrations.extras import extra
from aioresilience.integrations.paths import NOT_GUARDED, Paths
from aioresilience.integrations.problems import MEDIA_TYPE, Problem
from aioresilience.integrations.serving import PolicyFinder, cut, refused
from aioresilience.policy import Admission

with extra("django", "Django"):
    from asgiref.sync import markcoroutinefunction
    from django.conf import settings  # type: ignore[import-untyped]
    from django.http import (  # type: ignore[import-untyped]
        HttpRequest,
        HttpResponseBase,
        JsonResponse,
        StreamingHttpResponse,
    )

GetResponse = Callable[[HttpRequest], Awaitable[HttpResponseBase]]


class PolicyMiddleware:
    """A middleware for `MIDDLEWARE`, told what to do by the setting `AIORESILIENCE`.

    The setting is a dict with `policy` for all requests, or `routes` such as {"POST /pay": "payments"}; and, if
    wanted, `registry`, `exclude_paths`, and `key` and `priority`, which are called with the request. What is held is
    held until the view has answered, of a streaming response to its last part. Async only, as under ASGI; a refused
    request is answered with problem+json. Raises as `aioresilience.integrations.asgi.PolicyMiddleware` does.
    """

    async_capable = True
    sync_capable = False

    def __init__(self, get_response: GetResponse) -> None:
        options: dict[str, Any] = dict(getattr(settings, "AIORESILIENCE", {}))
        self._get_response = get_response
        self._finder = PolicyFinder(
            options.pop("registry", None), options.pop("policy", None), options.pop("routes", None)
        )
        self._excluded = Paths(options.pop("exclude_paths", NOT_GUARDED))
        self._key: Callable[[HttpRequest], str | None] = options.pop("key", lambda request: None)
        self._priority: Callable[[HttpRequest], str] = options.pop("priority", lambda request: "normal")
        if options:
            raise ValueError(f"unknown in the setting AIORESILIENCE: {', '.join(sorted(options))}")
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer one request."""
        path = request.path_info
        policy = None if path in self._excluded else self._finder.find(request.method or "GET", path)
        if policy is None:
            return await self._get_response(request)
        admission = policy.serve(Caller(self._key(request), self._priority(request)))
        try:
            await admission.enter()
        except Exception as error:
            return _answer(refused(error))
        try:
            response = await self._get_response(request)
        except BaseException as error:
            problem = cut(admission, error)
            if problem is None:
                raise
            return _answer(problem)
        return _until_closed(response, admission)


def _until_closed(response: HttpResponseBase, admission: Admission) -> HttpResponseBase:
    """End the admission with the answer: now, or with the last part of a stream."""
    if not isinstance(response, StreamingHttpResponse):
        admission.answered(response.status_code)
        return response
    status, content = response.status_code, response.streaming_content
    parts = _async_parts(content, admission, status) if response.is_async else _parts(content, admission, status)
    response.streaming_content = parts
    response._resource_closers.append(lambda: admission.leave(GeneratorExit()))  # whose stream nobody read to its end
    return response


async def _async_parts(content: AsyncIterator[bytes], admission: Admission, status: int) -> AsyncIterator[bytes]:
    try:
        async for part in content:
            yield part
    except BaseException as error:
        admission.leave(error)
        raise
    admission.answered(status)


def _parts(content: Iterable[bytes], admission: Admission, status: int) -> Iterator[bytes]:
    try:
        yield from content
    except BaseException as error:
        admission.leave(error)
        raise
    admission.answered(status)


def _answer(problem: Problem) -> JsonResponse:
    response = JsonResponse(
        problem.content(), status=problem.status, headers=problem.headers(), content_type=MEDIA_TYPE
    )
    response["Content-Length"] = str(len(response.content))
    return response
