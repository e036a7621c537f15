"""aiohttp: a client middleware that makes every request under its policy; needs the extra `aiohttp`."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from typing import Final

from aioresilience.clock import Timer
from aioresilience.integrations.extras import extra
from aioresilience.integrations.outbound import Chooser, Sending, Target, Wish
from aioresilience.integrations.outbound.body import PREFETCHED, overrun
from aioresilience.integrations.outbound.choosing import target
from aioresilience.integrations.outbound.sending import is_idempotent, milliseconds_left, wants_retry
from aioresilience.integrations.outbound.transport import UPGRADED
from aioresilience.policy import Policy
from aioresilience.registry import Registry
from aioresilience.scope import current_deadline

with extra("aiohttp", "aiohttp 3.12 or later"):
    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, Payload

__all__ = ["ResilienceMiddleware"]

KeyOf = Callable[[ClientRequest], str | None]


class ResilienceMiddleware:
    """Makes the requests of an `aiohttp.ClientSession` under policies; give it as `middlewares=(…,)`.

    The policy is that of `policy=`, else the one that the file's `routes` name for the request. Another policy for one
    request is a middleware of its own: `session.get(url, middlewares=(ResilienceMiddleware(policy="payments"),))`,
    with `idempotent` where the request may, or must not, be carried out twice. Without `registry` the default one is
    meant. `deadline_header` names a header that forwards the milliseconds left. A deadline covers the body as well,
    unless `deadline_covers_body` is false.
    """

    def __init__(
        self,
        registry: Registry | None = None,
        *,
        policy: str | Policy | None = None,
        key: KeyOf | None = None,
        priority: str = "normal",
        idempotent: bool | None = None,
        deadline_header: str | None = None,
        deadline_covers_body: bool = True,
    ) -> None:
        self._chooser = Chooser(registry, policy)
        self._key = key
        self._wish: Final = Wish(None, None, priority, idempotent)
        self.deadline_header = deadline_header
        self.deadline_covers_body = deadline_covers_body

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Send a request under its policy; raises what the policy raises, a RejectionError among others."""
        goes_to = _target(request)
        policy = self._chooser.policy(goes_to, None, None)
        if policy is None:
            return await handler(request)
        exchange = _Exchange(self, request, handler, policy)
        idempotent = is_idempotent(goes_to.method, request.headers, policy, self._wish.idempotent)
        bound = policy.bind(
            key=None if self._key is None else self._key(request), priority=self._wish.priority, host=goes_to.origin,
            exchange=Sending(idempotent, exchange.can_send, exchange.when_closed),
        )  # fmt: skip
        return await exchange.answered(bound.open(exchange.attempt))


def _target(request: ClientRequest) -> Target:
    url = request.url
    return target(request.method, url.scheme, url.raw_host or "", url.port, url.path)


class _Exchange:
    """One request of a session and the responses to its attempts, of which at most one is open."""

    __slots__ = ("_handler", "_middleware", "_policy", "_request", "_response")

    def __init__(
        self, middleware: ResilienceMiddleware, request: ClientRequest, handler: ClientHandlerType, policy: Policy
    ) -> None:
        self._middleware = middleware
        self._request = request
        self._handler = handler
        self._policy = policy
        self._response: ClientResponse | None = None

    async def attempt(self) -> ClientResponse:
        """Send the request; what an earlier attempt got is let go of."""
        self._drop()
        header = self._middleware.deadline_header
        left = None if header is None else milliseconds_left(self._policy)
        if header is not None and left is not None:
            self._request.headers[header] = left
        response = self._response = await self._handler(self._request)
        if self._middleware.deadline_covers_body and response.status != UPGRADED:
            self._bound(response)
        if wants_retry(self._policy, response) and (response.content_length or PREFETCHED + 1) <= PREFETCHED:
            await response.read()  # its connection is free while the retry waits, and it stays readable
        return response

    def _bound(self, response: ClientResponse) -> None:
        """Let whoever reads the body past the deadline get its error."""
        deadline, connection, reference = current_deadline(), response.connection, weakref.ref(response)
        if deadline is None or connection is None:
            return
        name = self._policy.name

        def expire() -> None:
            late = reference()
            if late is not None:
                late.content.set_exception(overrun(name))
                late.close()

        timer: Timer = self._policy.clock.call_at(asyncio.get_running_loop(), deadline, expire)
        connection.add_callback(timer.cancel)

    def _drop(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.release()

    def can_send(self) -> bool:
        """Tell whether the body can be sent again."""
        body = self._request.body
        return not isinstance(body, Payload) or not body.consumed

    def when_closed(self, result: object, callback: Callable[[], object]) -> bool:
        """Wait until the present response gives its connection back."""
        response = self._response
        if response is None or result is not response or response.connection is None:
            return False
        response.connection.add_callback(lambda: _ignore(callback()))
        return True

    async def answered(self, call: Awaitable[object]) -> ClientResponse:
        """Return the response; whatever ends the call otherwise closes what is open."""
        try:
            result = await call
        except BaseException:
            self._drop()
            raise
        if isinstance(result, ClientResponse):
            if result is not self._response:
                self._drop()
            return result
        self._drop()
        raise TypeError(
            f"policy {self._policy.name!r} answered {type(result).__name__} in place of a ClientResponse, which cannot "
            f"be made from a fallback or of raise_on_timeout: false; catch the error at the call instead"
        )


def _ignore(result: object) -> None:
    """Give a callback the form that aiohttp asks for."""
