"""0.2's retries of requests: around the app, and around one route."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from typing import Final, ParamSpec, TypeVar

from aioresilience import callables
from aioresilience.calls import ANYONE, Call, Handler, invoker
from aioresilience.failures import Classifier, Rule
from aioresilience.integrations.asgi.middleware import OPEN, AdmissionMiddleware
from aioresilience.integrations.asgi.replay import HeldAnswer, ReplayableBody
from aioresilience.integrations.asgi.types import App, Receive, Scope, Send
from aioresilience.integrations.paths import NOT_GUARDED, Paths, route_path
from aioresilience.pattern import Context
from aioresilience.policy import Entrance
from aioresilience.retry import RetryConfig, RetryPolicy, RetryStrategy

P = ParamSpec("P")
T = TypeVar("T")

RETRIED: Final = frozenset({500, 502, 503, 504})
IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""RFC 9110, 9.2.2."""


class _StatusRetry:
    """A retry that also looks at statuses: those listed are retried, other errors by status are not."""

    def __init__(self, retry: RetryPolicy, statuses: Iterable[int] | None) -> None:
        self.statuses = frozenset(RETRIED if statuses is None else statuses)
        listed = Rule(status=self.statuses)
        others = Rule(status=frozenset(range(400, 600)) - self.statuses)
        self._context = Context(classify=Classifier(failure=listed, neutral=others))
        self._retry = retry
        self._config = retry.config
        self._handler = self._make()

    def _make(self) -> Handler:
        return self._retry.wrap(invoker(self._retry.clock), self._context)

    async def call(self, func: Callable[..., Awaitable[object]], *args: object, **kwargs: object) -> object:
        """Call until it succeeds or the retry gives up; return or raise what came last."""
        if self._config is not self._retry.config:
            self._config, self._handler = self._retry.config, self._make()
        return await self._handler(Call(func, args, kwargs, ANYONE))


class _FinalError(BaseException):
    """An error that no further attempt can mend: the answer has begun, or the request cannot be read again."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class _Watched(AdmissionMiddleware):
    """Notices a client that leaves, and leaves all else to the app."""

    def entrance(self, scope: Scope, path: str) -> Entrance:
        """Let everybody in."""
        return OPEN

    async def answer(self, error: Exception, scope: Scope, receive: Receive) -> None:
        """Answer nothing."""


class RetryMiddleware:
    """Lets the app answer again when it raised or answered with a listed status.

    Idempotent methods only, unless `methods` names others. An answer that has begun is never retried, nor a request
    whose body is longer than `max_body` bytes; an error answer up to that length is held back meanwhile. For a client
    that has left nothing is tried again, and an app that does not listen for it is cancelled; with
    `cancel_on_disconnect=False` neither.
    """

    def __init__(
        self,
        app: App,
        retry_policy: RetryPolicy | None = None,
        exclude_paths: Iterable[str] | None = None,
        retry_on_status_codes: Iterable[int] | None = None,
        max_attempts: int = 3,
        initial_delay: float = 0.5,
        strategy: RetryStrategy = RetryStrategy.EXPONENTIAL,
        *,
        methods: Collection[str] = IDEMPOTENT,
        max_body: int = 65_536,
        cancel_on_disconnect: bool = True,
    ) -> None:
        config = RetryConfig(max_attempts=max_attempts, initial_delay=initial_delay, strategy=strategy)
        self.app = app
        self.retry_policy = retry_policy or RetryPolicy(config, name="request")
        self._retry = _StatusRetry(self.retry_policy, retry_on_status_codes)
        self._excluded = Paths(NOT_GUARDED if exclude_paths is None else exclude_paths)
        self._methods = frozenset(methods)
        self._max_body = max_body
        self._watched = _Watched(self._answer, (), cancel_on_disconnect=cancel_on_disconnect)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        await (self._watched if self._retries(scope) else self.app)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._retry.call(self._attempt, scope, ReplayableBody(receive, self._max_body), send)
        except _FinalError as final:
            raise final.error from final.error.__cause__
        assert isinstance(answer, HeldAnswer)
        await answer.release()

    def _retries(self, scope: Scope) -> bool:
        return scope["type"] == "http" and scope["method"] in self._methods and route_path(scope) not in self._excluded

    async def _attempt(self, scope: Scope, body: ReplayableBody, send: Send) -> HeldAnswer:
        answer = HeldAnswer(send, self._retry.statuses, self._max_body)
        try:
            await self.app(dict(scope), body.reader(), answer.send)
        except Exception as error:
            if answer.began or body.overflowed or body.gone:
                raise _FinalError(error) from error
            raise
        if body.overflowed or body.gone:
            await answer.release()
            answer.status_code = None  # nothing to be retried any more
        return answer


def retry_route(
    retry_policy: RetryPolicy | None = None,
    max_attempts: int = 3,
    initial_delay: float = 1.0,
    retry_on_status_codes: Iterable[int] | None = None,
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[object, object, T]]]:
    """Call a route's function again when it raised, or when a listed status came back or was raised.

    An HTTPException of another status is the route's answer, and not retried. The signature is kept.
    """
    config = RetryConfig(max_attempts=max_attempts, initial_delay=initial_delay)

    def decorator(func: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[object, object, T]]:
        retry = retry_policy or RetryPolicy(config, name=callables.name_of(func))
        call = _StatusRetry(retry, retry_on_status_codes).call
        return callables.decorate(func, call, "@retry_route")  # type: ignore[arg-type]  # it returns what func returns

    return decorator
