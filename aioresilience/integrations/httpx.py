"""httpx: an async transport that makes every request under its policy; needs the extra `httpx`."""

from __future__ import annotations

from aioresilience.integrations.extras import extra
from aioresilience.integrations.outbound.body import Body
from aioresilience.integrations.outbound.transport import Library, Once, PolicyTransport

with extra("httpx"):
    import httpx

__all__ = ["ResilienceTransport"]


class _Body(Body, httpx.AsyncByteStream):
    """The body of a response."""


class _Once(Once, httpx.AsyncByteStream):
    """The body of a request that cannot be made again."""


class ResilienceTransport(PolicyTransport, httpx.AsyncBaseTransport):
    """Makes the requests of an `httpx.AsyncClient` under policies; takes what `PolicyTransport` takes."""

    library = Library(httpx.AsyncHTTPTransport, httpx.Request, httpx.Response, httpx.ByteStream, _Body, _Once)
