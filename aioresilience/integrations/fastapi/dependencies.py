"""Endpoints under a policy, as a dependency."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from aioresilience.calls import Caller
from aioresilience.integrations.extras import extra
from aioresilience.policy import Admission
from aioresilience.registry import Registry, get_registry
from aioresilience.registry.names import declare

with extra("fastapi"):
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, HTTPConnection
    from starlette.websockets import WebSocketDisconnect

Dependency = Callable[[HTTPConnection], AsyncIterator[None]]

_CLIENTS_DOING = (RequestValidationError, ClientDisconnect, WebSocketDisconnect)
"""What says nothing about us."""


def protect(
    name: str,
    *,
    key: Callable[[HTTPConnection], str | None] | None = None,
    priority: Callable[[HTTPConnection], str] | None = None,
    registry: Registry | None = None,
) -> Dependency:
    """Make a dependency that puts an endpoint under a policy: `Depends(protect("payments"))`.

    What is held is held to the last byte of the answer, for a WebSocket to its end. The outcome is what the endpoint
    raises: an HTTPException counts by its status. `key` and `priority` are called with the connection. Without
    `registry` the default one is meant; `configure` checks the name.
    """
    declare(name, registry)

    async def admit(connection: HTTPConnection) -> AsyncIterator[None]:
        policy = (get_registry() if registry is None else registry).get(name)
        found = None if key is None else key(connection)
        admission = policy.serve(Caller(found, "normal" if priority is None else priority(connection)))
        await admission.enter()
        try:
            yield
        except BaseException as error:
            left = _leave(admission, error)
            try:
                if left is error:
                    raise
                raise left from error
            finally:
                del left  # this frame is in its traceback, and must not keep it alive
        admission.leave()

    # FastAPI reads the annotation as text, and looks for its name beside the function.
    admit.__annotations__ = {"connection": HTTPConnection}
    return admit


def _leave(admission: Admission, error: BaseException) -> BaseException:
    if isinstance(error, HTTPException):
        admission.answered(error.status_code)
    elif isinstance(error, _CLIENTS_DOING):
        admission.leave(GeneratorExit())
    else:
        return admission.leave(error) or error
    return error
