"""An ASGI server of our own, without sockets: one request, told and heard message by message."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

DISCONNECT = {"type": "http.disconnect"}


class Request:
    """One request to an app. `await request.done()` runs it to its end; `start` and `leave` run it by hand.

    `body` is a list of parts; what the app sends is in `sent`. After the last byte `receive` says that the client has
    left, as servers do. With `breaks` set, `send` raises OSError for a client that has left (ASGI, spec 2.4).
    """

    def __init__(
        self, app: Any, path: str = "/", method: str = "GET", *, headers: Iterable[tuple[str, str]] = (),
        body: Iterable[bytes] = (b"",), client: tuple[str, int] | None = ("127.0.0.1", 40_000), root_path: str = "",
        breaks: bool = False, version: str = "2.3",
    ) -> None:  # fmt: skip
        self.app = app
        self.scope: dict[str, Any] = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": version}, "http_version": "1.1",
            "method": method, "scheme": "http", "path": root_path + path, "raw_path": (root_path + path).encode(),
            "query_string": b"", "root_path": root_path, "client": client, "server": ("127.0.0.1", 80), "state": {},
            "headers": [(name.lower().encode(), value.encode()) for name, value in [("host", "service"), *headers]],
        }  # fmt: skip
        parts = list(body)
        self._parts = deque(
            {"type": "http.request", "body": part, "more_body": number < len(parts)}
            for number, part in enumerate(parts, 1)
        )
        self._over = asyncio.Event()
        self._breaks = breaks
        self.gone = False
        self.sent: list[dict[str, Any]] = []
        self.task: asyncio.Task[None] | None = None

    async def receive(self) -> dict[str, Any]:
        await asyncio.sleep(0)
        if self._parts and not self.gone:
            return self._parts.popleft()
        await self._over.wait()
        return dict(DISCONNECT)

    async def send(self, message: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        if self.gone and self._breaks:
            raise OSError("the client has left")
        self.sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._over.set()

    def start(self) -> Request:
        self.task = asyncio.ensure_future(self.app(self.scope, self.receive, self.send))
        return self

    def leave(self) -> None:
        """Disconnect."""
        self.gone = True
        self._over.set()

    async def done(self) -> Request:
        """Run to the end of the app; raises what it raises."""
        if self.task is None:
            self.start()
        assert self.task is not None
        await asyncio.wait_for(self.task, 30)
        return self

    @property
    def status(self) -> int | None:
        return next((m["status"] for m in self.sent if m["type"] == "http.response.start"), None)

    @property
    def headers(self) -> dict[str, str]:
        pairs = next((m.get("headers", ()) for m in self.sent if m["type"] == "http.response.start"), ())
        return {bytes(name).decode().lower(): bytes(value).decode() for name, value in pairs}

    @property
    def body(self) -> bytes:
        return b"".join(m.get("body", b"") for m in self.sent if m["type"] == "http.response.body")

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def get(app: Any, path: str = "/", method: str = "GET", **more: Any) -> Request:
    """Make a request, and return it when the app has returned."""
    return await Request(app, path, method, **more).done()


async def until(true: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for something to become true; an AssertionError when it does not."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never became true"
        await asyncio.sleep(0.005)


def answering(status: int = 200, body: bytes = b"ok", headers: Iterable[tuple[bytes, bytes]] = ()) -> Any:
    """Return an app that answers at once."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": body})

    return app


class Handler:
    """An app that stops where it is told to, so that a test sees what is held there."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.entered = asyncio.Event()
        self.go = asyncio.Event()
        self.between = asyncio.Event()
        self.began = asyncio.Event()
        self.outcome: str | None = None
        self.error: Exception | None = None
        self.late_error: Exception | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.entered.set()
        try:
            await self.go.wait()
            if self.error is not None:
                raise self.error
            await send({"type": "http.response.start", "status": self.status, "headers": []})
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
            self.began.set()
            await self.between.wait()
            if self.late_error is not None:
                raise self.late_error
            await send({"type": "http.response.body", "body": b"last"})
            self.outcome = "finished"
        except asyncio.CancelledError:
            self.outcome = "cancelled"
            raise


class Lifespan:
    """`async with Lifespan(app) as state`: starts the app, and stops it at the end; raises what failed the start."""

    def __init__(self, app: Any) -> None:
        self.state: dict[str, Any] = {}
        self._heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": self.state}
        self._run = lambda: app(scope, self._heard.get, self._said.put)

    async def __aenter__(self) -> dict[str, Any]:
        self._task = asyncio.ensure_future(self._run())
        await self._heard.put({"type": "lifespan.startup"})
        if (await self._said.get())["type"] != "lifespan.startup.complete":
            await self._task
        return self.state

    async def __aexit__(self, *error: object) -> None:
        await self._heard.put({"type": "lifespan.shutdown"})
        assert (await self._said.get())["type"] == "lifespan.shutdown.complete"
        await self._task


class Socket:
    """A WebSocket to an app: `heard` is put to it, `said` comes from it."""

    def __init__(self, app: Any, path: str = "/") -> None:
        self.heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        scope = {
            "type": "websocket", "asgi": {"version": "3.0"}, "path": path, "raw_path": path.encode(), "root_path": "",
            "scheme": "ws", "query_string": b"", "headers": [(b"host", b"service")], "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80), "subprotocols": [], "state": {},
        }  # fmt: skip
        self.heard.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.ensure_future(app(scope, self.heard.get, self.said.put))
