"""httpx2: an async transport that makes every request under its policy; needs the extra `httpx2`."""

from __future__ import annotations

from aioresilience.integrations.extras import extra
from aioresilience.integrations.outbound.body import Body
from aioresilience.integrations.outbound.transport import Library, Once, PolicyTransport

with extra("httpx2"):
    import httpx2

__all__ = ["ResilienceTransport"]


class _Body(Body, httpx2.AsyncByteStream):
    """The body of a response."""


class _Once(Once, httpx2.AsyncByteStream):
    """The body of a request that cannot be made again."""


class ResilienceTransport(PolicyTransport, httpx2.AsyncBaseTransport):
    """Makes the requests of an `httpx2.AsyncClient` under policies; takes what `PolicyTransport` takes."""

    library = Library(httpx2.AsyncHTTPTransport, httpx2.Request, httpx2.Response, httpx2.ByteStream, _Body, _Once)
