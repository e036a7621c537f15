"""Real servers on loopback, in the test's own loop, and a client that can be rude."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterable
from typing import Any

import hypercorn.asyncio
import hypercorn.config
import uvicorn

SERVERS = ("uvicorn-h11", "uvicorn-httptools", "hypercorn")


@contextlib.asynccontextmanager
async def serving(app: Any, server: str) -> AsyncIterator[int]:
    """Serve an app; give its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        run = _hypercorn if server == "hypercorn" else _uvicorn
        async with run(app, server.removeprefix("uvicorn-"), listening):
            yield listening.getsockname()[1]


@contextlib.asynccontextmanager
async def _uvicorn(app: Any, http: str, listening: socket.socket) -> AsyncIterator[None]:
    config = uvicorn.Config(
        app, http=http, ws="none", log_level="critical", access_log=False, timeout_graceful_shutdown=1
    )  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]  # they are pytest's
    task = asyncio.ensure_future(server.serve(sockets=[listening]))
    async with asyncio.timeout(30):
        while not server.started:
            await asyncio.sleep(0.005)
    try:
        yield
    finally:
        server.should_exit = True
        await task


@contextlib.asynccontextmanager
async def _hypercorn(app: Any, http: str, listening: socket.socket) -> AsyncIterator[None]:
    config = hypercorn.config.Config()
    config.bind = [f"fd://{os.dup(listening.fileno())}"]
    config.loglevel = "CRITICAL"
    config.graceful_timeout = 1
    stop = asyncio.Event()
    task = asyncio.ensure_future(hypercorn.asyncio.serve(app, config, shutdown_trigger=stop.wait))  # type: ignore[arg-type]
    try:
        yield
    finally:
        stop.set()
        await task


class Wire:
    """One connection, spoken by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def ask(
        cls, port: int, path: str = "/", method: str = "GET", body: bytes = b"", headers: Iterable[str] = ()
    ) -> Wire:
        """Connect and send a request."""
        wire = cls(*await asyncio.open_connection("127.0.0.1", port))
        await wire.again(path, method, body, headers)
        return wire

    async def again(self, path: str = "/", method: str = "GET", body: bytes = b"", headers: Iterable[str] = ()) -> None:
        """Send a request on the same connection."""
        length = [f"Content-Length: {len(body)}"] if body else []
        lines = [f"{method} {path} HTTP/1.1", "Host: service", *length, *headers, "", ""]
        self._writer.write("\r\n".join(lines).encode("latin-1") + body)
        await self._writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        """Read status and headers."""
        text = (await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 30)).decode("latin-1")
        status, *lines = text.strip().split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return int(status.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}

    async def part(self) -> bytes:
        """Read one chunk of a chunked body; empty at its end."""
        size = int((await asyncio.wait_for(self._reader.readuntil(b"\r\n"), 30)).strip(), 16)
        return (await asyncio.wait_for(self._reader.readexactly(size + 2), 30))[:-2]

    async def body(self, length: int) -> bytes:
        """Read a body of known length."""
        return await asyncio.wait_for(self._reader.readexactly(length), 30)

    async def rest(self) -> bytes:
        """Read until the server closes."""
        return await asyncio.wait_for(self._reader.read(), 30)

    async def say(self, part: bytes) -> None:
        """Send a part of a body."""
        self._writer.write(part)
        await self._writer.drain()

    def leave(self) -> None:
        """Reset the connection."""
        self._writer.transport.abort()


async def answer(
    port: int, path: str = "/", method: str = "GET", body: bytes = b""
) -> tuple[int, dict[str, str], bytes]:
    """Make a request; return status, headers and body."""
    wire = await Wire.ask(port, path, method, body, ["Connection: close"])
    status, headers = await wire.head()
    found = await wire.rest()
    wire.leave()
    return status, headers, found
