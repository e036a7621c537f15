"""The transport of httpx and of httpx2, which differ in name only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol, Self

from aioresilience.clock import Clock
from aioresilience.integrations.outbound.body import Body
from aioresilience.integrations.outbound.choosing import EXTENSION, Chooser, Target, Wish, target
from aioresilience.integrations.outbound.sending import Sending, is_idempotent, milliseconds_left, wants_retry
from aioresilience.policy import Policy
from aioresilience.registry import Registry
from aioresilience.scope import Timeline, current_deadline

NO_WISH: Final = Wish()
UPGRADED: Final = 101
"""The connection goes on as another protocol, such as a WebSocket, for as long as both like."""
KeyOf = Callable[[Any], str | None]


class Transport(Protocol):
    """What sends a request: a transport of httpx or httpx2."""

    async def handle_async_request(self, request: Any) -> Any:  # noqa: ANN401  # of either library
        """Send a request and return its response, whose body is not read yet."""

    async def aclose(self) -> None:
        """Close every connection."""

    async def __aenter__(self) -> Any:  # noqa: ANN401  # itself
        """Open what needs to be opened."""


class Once:
    """A request's body that cannot be made again, such as a generator or a file: notes when reading it began."""

    def __init__(self, stream: Any) -> None:  # noqa: ANN401  # of either library
        self._stream = stream
        self.begun = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.begun = True
        async for chunk in self._stream:
            yield chunk

    async def aclose(self) -> None:
        """Let go of what is read from."""
        await self._stream.aclose()


@dataclass(frozen=True, slots=True)
class Library:
    """The classes of httpx or httpx2 that are needed here; `body` is `Body` as that library's stream."""

    transport: Callable[[], Transport]
    request: type[Any]
    response: type[Any]
    in_memory: type[Any]
    body: type[Body]
    once: type[Once]


@dataclass(frozen=True, slots=True)
class Options:
    """What a transport was built with, beside how it finds policies."""

    key: KeyOf | None
    deadline_header: str | None
    deadline_covers_body: bool


class PolicyTransport:
    """Makes requests under policies: that of `policy=`, else the one that the file's `routes` name for the request.

    One request may say otherwise: `extensions={"resilience": "payments"}`, or a mapping with any of policy, key,
    priority, idempotent. Without `registry` the default one is meant. `transport` sends; unset, it is a new
    `AsyncHTTPTransport`. `key` gives the key of keyed limits for a request, `deadline_header` names a header that
    forwards the milliseconds left. A deadline covers the body as well, unless `deadline_covers_body` is false.
    """

    library: ClassVar[Library]

    def __init__(
        self,
        registry: Registry | None = None,
        *,
        policy: str | Policy | None = None,
        transport: Transport | None = None,
        key: KeyOf | None = None,
        deadline_header: str | None = None,
        deadline_covers_body: bool = True,
    ) -> None:
        self._inner = self.library.transport() if transport is None else transport
        self._chooser = Chooser(registry, policy)
        self._options = Options(key, deadline_header, deadline_covers_body)
        self._line: Timeline | None = None

    async def handle_async_request(self, request: Any) -> Any:  # noqa: ANN401  # of either library
        """Send a request under its policy; raises what the policy raises, a RejectionError among others."""
        said = request.extensions.get(EXTENSION)
        wish, goes_to = self._chooser.wish(said), _target(request)
        policy = self._chooser.policy(goes_to, said, wish)
        if policy is None:
            return await self._inner.handle_async_request(request)
        exchange = _Exchange(self.library, self._inner, request, policy, self._options, self._line_of(policy.clock))
        return await exchange.run(goes_to, wish or NO_WISH)

    def _line_of(self, clock: Clock) -> Timeline:
        """Return the timers that the bodies of all responses share, one a loop."""
        if self._line is None or self._line.clock is not clock:
            self._line = Timeline(clock=clock)
        return self._line

    async def __aenter__(self) -> Self:
        """Open the transport that sends."""
        await self._inner.__aenter__()
        return self

    async def aclose(self) -> None:
        """Close the transport that sends."""
        await self._inner.aclose()


def _target(request: Any) -> Target:  # noqa: ANN401  # of either library
    url = request.url
    return target(request.method, url.scheme, url.raw_host.decode("ascii"), url.port, url.path)


class _Exchange:
    """One request of a client and the responses to its attempts, of which at most one is open."""

    __slots__ = ("_body", "_inner", "_library", "_line", "_once", "_options", "_policy", "_request")

    def __init__(
        self, library: Library, inner: Transport, request: Any, policy: Policy, options: Options,  # noqa: ANN401
        line: Timeline,
    ) -> None:  # fmt: skip
        self._library = library
        self._inner = inner
        self._policy = policy
        self._options = options
        self._line = line
        self._body: Body | None = None
        self._request = request
        self._once: Any = None
        if not isinstance(request.stream, library.in_memory):
            self._once = library.once(request.stream)
        if self._once is not None or options.deadline_header is not None:
            self._request = _copy(library, request, self._once)

    async def run(self, goes_to: Target, wish: Wish) -> Any:  # noqa: ANN401  # of either library
        """Make the request under its policy; whatever ends it otherwise closes what is open."""
        key = wish.key
        if key is None and self._options.key is not None:
            key = self._options.key(self._request)
        idempotent = is_idempotent(goes_to.method, self._request.headers, self._policy, wish.idempotent)
        sending = Sending(idempotent, self._can_send, self._when_closed)
        bound = self._policy.bind(key=key, priority=wish.priority, host=goes_to.origin, exchange=sending)
        try:
            result = await bound.open(self._attempt)
        except BaseException:
            await self._drop()
            raise
        return await self._answered(result)

    async def _attempt(self) -> Any:  # noqa: ANN401  # of either library
        await self._drop()  # what an earlier attempt got: from here on this one counts
        if self._options.deadline_header is not None:
            self._forward_deadline(self._options.deadline_header)
        response = await self._inner.handle_async_request(self._request)
        if response.is_closed:  # made of content that is there, as mock transports do: nothing is open
            return response
        covered = self._options.deadline_covers_body and response.status_code != UPGRADED
        deadline = current_deadline() if covered else None
        body = self._body = self._library.body(response.stream, deadline, self._line, self._policy.name)
        response.stream = body
        if wants_retry(self._policy, response):
            await body.prefetch()
        return response

    def _forward_deadline(self, header: str) -> None:
        left = milliseconds_left(self._policy)
        if left is not None:
            self._request.headers[header] = left

    async def _drop(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            await body.aclose()

    def _can_send(self) -> bool:
        return self._once is None or not self._once.begun

    def _when_closed(self, result: object, callback: Callable[[], object]) -> bool:
        """Wait for the end of the present body; what a fallback answered has none."""
        body, same = self._body, getattr(result, "stream", None) is self._body
        return body is not None and same and body.when_closed(callback)

    async def _answered(self, result: object) -> object:
        """Return a response as it is; what a fallback gave in its place is made one."""
        if isinstance(result, self._library.response):
            if getattr(result, "stream", None) is not self._body:
                await self._drop()
            return result
        await self._drop()
        return self._library.response(200 if result is not None else 204, **_content(result))


def _content(value: object) -> dict[str, Any]:
    marked: dict[str, Any] = {"extensions": {EXTENSION: "fallback"}}
    if value is None:
        return marked
    return marked | ({"content": value} if isinstance(value, (str, bytes)) else {"json": value})


def _copy(library: Library, request: Any, stream: object) -> Any:  # noqa: ANN401  # of either library
    """Copy a request, so that what is added to it for one attempt is not the caller's to find."""
    return library.request(
        request.method, request.url, headers=request.headers, extensions=request.extensions,
        stream=request.stream if stream is None else stream,
    )  # fmt: skip
