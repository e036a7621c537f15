"""What the middlewares of 0.2 have in common."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Iterable

from aioresilience.exceptions import RejectionError
from aioresilience.integrations.asgi.answers import json_answer
from aioresilience.integrations.asgi.middleware import AdmissionMiddleware, Gate
from aioresilience.integrations.asgi.types import App, Receive, Scope
from aioresilience.integrations.extras import extra
from aioresilience.integrations.problems import rejection_in
from aioresilience.pattern import AnyPattern
from aioresilience.policy import Entrance

with extra("fastapi", "Starlette"):
    from starlette.requests import Request


class PatternMiddleware(AdmissionMiddleware):
    """Lets requests in through one pattern, and answers those that it refuses."""

    def __init__(
        self, app: App, pattern: AnyPattern, exclude_paths: Iterable[str] | None, cancel_on_disconnect: bool
    ) -> None:
        super().__init__(app, exclude_paths, cancel_on_disconnect=cancel_on_disconnect)
        self._gate = Gate([pattern])

    def entrance(self, scope: Scope, path: str) -> Entrance:
        """Return that of the pattern."""
        return self._gate.entrance()

    async def answer(self, error: Exception, scope: Scope, receive: Receive) -> App | None:
        """Answer a refusal; raise anything else."""
        rejection = rejection_in(error)
        return None if rejection is None else await self.refuse(rejection, Request(scope, receive))

    @abstractmethod
    async def refuse(self, rejection: RejectionError, request: Request) -> App:
        """Return what a refused request is answered."""


async def made(value: object) -> object:
    """Return what a factory of the user gave, awaited where it is awaitable."""
    return await value if inspect.isawaitable(value) else value


def as_answer(value: object, status: int) -> App:
    """Return a response as it is, and anything else as JSON."""
    return value if callable(value) else json_answer(value, status)
