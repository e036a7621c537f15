"""What the shop depends on: a small HTTP/1.1 server on loopback, with faults to order, and the client for it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, urlsplit

HOST: Final = "127.0.0.1"
REASONS: Final[Mapping[int, str]] = {200: "OK", 503: "Service Unavailable"}


@dataclass(frozen=True, slots=True)
class Health:
    """How a service answers: usually after `delay` seconds; shares of the answers come late, fail or never come."""

    delay: float = 0.03
    late: float = 0.0
    late_delay: float = 0.8
    failing: float = 0.0
    resets: float = 0.0


FINE: Final = Health()
SLOW: Final = Health(late=0.3)
DOWN: Final = Health(failing=0.7, resets=0.3)


class UpstreamError(Exception):
    """An answer that is an error of the server."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status} {REASONS.get(status, '')}".strip())
        self.status = status


class Upstream:
    """Three services behind one port: /payments, /quotes and /search, each as well as `health` says."""

    def __init__(self) -> None:
        self.health = {"payments": FINE, "quotes": FINE, "search": Health(delay=0.2)}
        self.arrivals: dict[str, list[float]] = {name: [] for name in self.health}
        """When requests came in, in monotonic seconds."""
        self.port = 0
        self._random = random.Random(20)  # the same faults in every run
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.port}"

    async def __aenter__(self) -> Upstream:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *reason: object) -> None:
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                head = await reader.readuntil(b"\r\n\r\n")
                await self._answer(head.split(b" ", 2)[1].decode(), writer)
        finally:
            writer.close()

    async def _answer(self, target: str, writer: asyncio.StreamWriter) -> None:
        url = urlsplit(target)
        name = url.path.strip("/")
        self.arrivals[name].append(time.monotonic())
        health, draw = self.health[name], self._random.random()
        asked = parse_qs(url.query).get("delay")
        await asyncio.sleep(float(asked[0]) if asked else self._delay(health))
        if draw < health.resets:
            writer.transport.abort()
            return
        status = 503 if draw < health.resets + health.failing else 200
        body = b'{"from": "%s"}' % name.encode()
        writer.write(
            b"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
            % (status, REASONS[status].encode(), len(body), body)
        )
        await writer.drain()

    def _delay(self, health: Health) -> float:
        return health.late_delay if self._random.random() < health.late else health.delay


async def get(port: int, target: str) -> bytes:
    """Return the body of an answer; raises UpstreamError for a 5xx, ConnectionError where none came."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(f"GET {target} HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head:
        raise ConnectionResetError("the connection was closed without an answer")
    status = int(head.split(b" ", 2)[1])
    if status >= 500:
        raise UpstreamError(status)
    return body
