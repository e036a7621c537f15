"""A real server on loopback that behaves as it is told, and every client behind one face."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
import httpx
import httpx2
from aiohttp import web

from aioresilience import Registry
from aioresilience.integrations import aiohttp_client, httpx as our_httpx, httpx2 as our_httpx2


class Server:
    """Answers `/status/503,200` with one status after the other, `/stream` with chunks; notes what it saw."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, bytes]] = []
        self.headers: list[dict[str, str]] = []
        self.more: dict[str, str] = {}
        self.turns: Counter[str] = Counter()
        self.go_on = asyncio.Event()
        self.broken = False
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.seen.append((request.method, request.path, body))
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        what, _, rest = request.path[1:].partition("/")
        if self.broken:
            request.transport.abort()
            return web.Response()
        if what == "status":
            codes = [int(code) for code in rest.split(",")]
            code = codes[min(self.turns[request.path], len(codes) - 1)]
            self.turns[request.path] += 1
            return web.Response(status=code, text=f"status {code}", headers=self.more)
        if what == "hang":
            await self.go_on.wait()
        if what == "ws":
            return await echo(request)
        if what in ("stream", "chunked"):
            return await self.stream(request, int(rest or 200))
        return web.json_response({"got": body.decode(), "path": request.path})

    async def stream(self, request: web.Request, status: int) -> web.StreamResponse:
        if self.turns[request.path]:
            status = 200
        self.turns[request.path] += 1
        response = web.StreamResponse(status=status)
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(b"first ")
        if request.path.startswith("/stream"):
            await self.go_on.wait()
        await response.write(b"last")
        await response.write_eof()
        return response


async def echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


@contextlib.asynccontextmanager
async def serving(server: Server, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Server]:
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", server.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    await site.start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        server.go_on.set()
        await runner.cleanup()


class Httpx:
    """httpx or httpx2."""

    def __init__(self, library, ours) -> None:
        self.library, self.ours = library, ours
        self.inner = None

    @contextlib.asynccontextmanager
    async def using(self, registry: Registry | None, *, connections: int = 20, **options):
        limits = self.library.Limits(max_connections=connections)
        self.inner = self.library.AsyncHTTPTransport(limits=limits)
        transport = self.ours.ResilienceTransport(registry, transport=self.inner, **options)
        async with self.library.AsyncClient(transport=transport, timeout=20) as self.client:
            yield self

    async def send(self, method: str, url: str, *, body=None, headers=None) -> tuple[int, str]:
        response = await self.client.request(method, url, content=body, headers=headers)
        return response.status_code, response.text

    async def open(self, url: str):
        return await self.client.send(self.client.build_request("GET", url), stream=True)

    async def read(self, response) -> str:
        return (await response.aread()).decode()

    async def close(self, response) -> None:
        await response.aclose()

    def busy(self) -> int:
        """Count what carries a request: httpcore 1.0.9 forgets what is cancelled before it does.

        Such a connection stays in its pool as new, without ours as well, see
        https://github.com/encode/httpcore/issues/1093.
        """
        return sum("ACTIVE" in one.info() for one in self.inner._pool.connections)


class Aiohttp:
    """aiohttp's ClientSession."""

    @contextlib.asynccontextmanager
    async def using(self, registry: Registry | None, *, connections: int = 20, **options):
        middleware = aiohttp_client.ResilienceMiddleware(registry, **options)
        connector = aiohttp.TCPConnector(limit=connections)
        async with aiohttp.ClientSession(middlewares=(middleware,), connector=connector) as self.session:
            yield self

    async def send(self, method: str, url: str, *, body=None, headers=None) -> tuple[int, str]:
        async with self.session.request(method, url, data=body, headers=headers) as response:
            return response.status, await response.text()

    async def open(self, url: str):
        return await self.session.get(url)

    async def read(self, response) -> str:
        return await response.text()

    async def close(self, response) -> None:
        response.close()

    def busy(self) -> int:
        return len(self.session.connector._acquired)


def client_of(library: str) -> Httpx | Aiohttp:
    """Return a client of the library."""
    if library == "aiohttp":
        return Aiohttp()
    return Httpx(httpx, our_httpx) if library == "httpx" else Httpx(httpx2, our_httpx2)
