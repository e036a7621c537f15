"""The same on real servers and sockets: streams, clients that leave, errors, and paths as they come over the wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from aioresilience import Registry
from aioresilience.integrations.asgi.exchange import WATCH_AFTER
from aioresilience.integrations.fastapi import PolicyMiddleware, RetryMiddleware, TimeoutMiddleware
from tests.integrations.harness import until
from tests.integrations.servers import SERVERS, Wire, answer, serving

YAML = """
version: 1
policies:
  page: {bulkhead: 2, circuit_breaker: {failure_threshold: 1000}}
"""


class Service:
    """Endpoints that stop where a test wants them."""

    def __init__(self) -> None:
        self.registry = Registry.from_text(YAML)
        self.policy = self.registry["page"]
        self.go = asyncio.Event()
        self.reached: list[str] = []
        self.cancelled = 0
        names = ("quick", "slow", "stream", "raises", "breaks", "background", "pay", "health", "echo")
        self.app = Starlette(routes=[Route(f"/{name}", getattr(self, name), methods=["GET", "PUT"]) for name in names])
        self.app.add_middleware(PolicyMiddleware, registry=self.registry, policy="page")

    @property
    def free(self) -> int:
        return self.policy.bulkhead.available_slots()

    async def quick(self, request: Request) -> Response:
        return PlainTextResponse("quick")

    async def slow(self, request: Request) -> Response:
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return PlainTextResponse("slow")

    async def stream(self, request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            yield b"first"
            await self.go.wait()
            yield b"last"

        return StreamingResponse(parts())

    async def raises(self, request: Request) -> Response:
        raise ValueError("a secret")

    async def breaks(self, request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            yield b"first"
            raise ValueError("a secret")

        return StreamingResponse(parts())

    async def background(self, request: Request) -> Response:
        from starlette.background import BackgroundTask

        return PlainTextResponse("accepted", background=BackgroundTask(self.go.wait))

    async def pay(self, request: Request) -> Response:
        self.reached.append(request.url.path)
        return PlainTextResponse("paid")

    async def echo(self, request: Request) -> Response:
        self.reached.append(request.url.path)
        await self.go.wait()
        return Response(await request.body())

    async def health(self, request: Request) -> Response:
        return PlainTextResponse("healthy")


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_a_place_is_held_to_the_last_byte_of_a_stream(server: str):
    service = Service()
    async with serving(service.app, server) as port:
        wires = [await Wire.ask(port, "/stream") for _ in range(2)]
        for wire in wires:
            assert (await wire.head())[0] == 200
            assert await wire.part() == b"first"
        status, headers, body = await answer(port, "/quick")
        assert (status, headers["content-type"]) == (503, "application/problem+json")
        assert json.loads(body)["reason"] == "CAPACITY_FULL"
        assert (await answer(port, "/health"))[0] == 200
        service.go.set()
        assert [[await wire.part(), await wire.part()] for wire in wires] == [[b"last", b""]] * 2
        await until(lambda: service.free == 2)
        for wire in wires:
            wire.leave()


@pytest.mark.parametrize("path", ["/slow", "/stream"])
async def test_a_client_that_leaves_gives_its_place_back_at_once(server: str, path: str):
    service = Service()
    async with serving(service.app, server) as port:
        wire = await Wire.ask(port, path)
        if path == "/stream":
            await wire.head()
            await wire.part()
        await until(lambda: service.free == 1)
        wire.leave()
        await until(lambda: service.free == 2)
        counts = service.policy.circuit_breaker.counts
        assert (counts.neutral, counts.failed, counts.succeeded) == (1, 0, 0)
        assert service.cancelled == (path == "/slow")


async def test_a_body_that_comes_after_the_watch_began_arrives_whole(server: str):
    service = Service()
    async with serving(service.app, server) as port:
        wire = await Wire.ask(port, "/echo", "PUT", headers=["Content-Length: 6"])
        await until(lambda: service.reached)
        await asyncio.sleep(2 * WATCH_AFTER)
        service.go.set()
        for part in (b"abc", b"def"):
            await asyncio.sleep(0.02)  # the app waits for it by now
            await wire.say(part)
        assert (await wire.head())[0] == 200
        assert await wire.body(6) == b"abcdef"
        wire.leave()
        await until(lambda: service.free == 2)


async def test_a_client_that_leaves_while_it_uploads(server: str):
    service = Service()
    seen: list[Any] = []

    async def upload(request: Request) -> Response:
        async for part in request.stream():
            seen.append(part)
        return PlainTextResponse("stored")

    service.app.router.routes.append(Route("/upload", upload, methods=["PUT"]))
    async with serving(service.app, server) as port:
        wire = await Wire.ask(port, "/upload", "PUT", headers=["Content-Length: 100"])
        wire._writer.write(b"x" * 10)
        await until(lambda: seen)
        wire.leave()
        await until(lambda: service.free == 2)
        assert service.policy.circuit_breaker.counts.neutral == 1


async def test_errors_before_and_within_an_answer(server: str):
    service = Service()
    async with serving(service.app, server) as port:
        status, _, body = await answer(port, "/raises")
        assert (status, b"secret" in body) == (500, False)
        wire = await Wire.ask(port, "/breaks")
        assert (await wire.head())[0] == 200
        assert b"\r\n0\r\n" not in await wire.rest()  # broken off, not ended
        wire.leave()
        await until(lambda: service.policy.circuit_breaker.counts.failed == 2)
        assert service.free == 2


async def test_a_background_task_holds_no_place(server: str):
    service = Service()
    async with serving(service.app, server) as port:
        wires = [await Wire.ask(port, "/background") for _ in range(4)]
        for wire in wires:
            status, headers = await wire.head()
            assert (status, await wire.body(int(headers["content-length"]))) == (200, b"accepted")
        assert service.free == 2
        service.go.set()
        for wire in wires:
            wire.leave()


async def test_a_timeout_is_answered_and_the_connection_goes_on(server: str):
    service = Service()
    async with serving(TimeoutMiddleware(service.app, 0.3), server) as port:
        wire = await Wire.ask(port, "/slow")
        status, headers = await wire.head()
        assert (status, await wire.body(int(headers["content-length"]))) == (
            408,
            b'{"detail":"Request exceeded timeout"}',
        )
        await wire.again("/quick")
        assert (await wire.head())[0] == 200
        wire.leave()
        await until(lambda: service.free == 2)


async def test_many_at_once_under_a_cap(server: str):
    service = Service()
    async with serving(service.app, server) as port:
        held = [await Wire.ask(port, "/slow") for _ in range(2)]
        await until(lambda: service.free == 0)
        answers = await asyncio.gather(*(answer(port, "/quick") for _ in range(100)))
        assert {status for status, _, _ in answers} == {503}
        service.go.set()
        assert [(await wire.head())[0] for wire in held] == [200, 200]
        for wire in held:
            wire.leave()
        await until(lambda: service.free == 2)


async def test_head_and_options_are_guarded_and_without_a_body(server: str):
    service = Service()
    service.policy.circuit_breaker.force_open("shown here")
    async with serving(service.app, server) as port:
        status, headers, body = await answer(port, "/quick", "HEAD")
        assert (status, headers["content-type"], body) == (503, "application/problem+json", b"")
        assert (await answer(port, "/quick", "OPTIONS"))[0] == 503
        assert (await answer(port, "/health", "HEAD"))[0] == 200


PATHS = [
    "/pay", "/p%61y", "/pay%0A", "/pay/", "//pay", "/health/../pay", "/health%2F..%2Fpay", "/%2Fpay", "/pay%00",
    "/pay?x=/health", "/pay;/health", "/./pay", "/pay%0a%0a",
]  # fmt: skip


async def test_no_spelling_of_a_path_gets_past_its_route(server: str):
    service = Service()
    registry = Registry.from_text("{version: 1, policies: {pay: {circuit_breaker: {failure_threshold: 1}}}}")
    registry["pay"].circuit_breaker.force_open("shown here")
    guarded = PolicyMiddleware(service.app, registry, routes={"GET /pay": "pay"})
    async with serving(guarded, server) as port:
        statuses = {path: (await answer(port, path))[0] for path in PATHS}
    assert service.reached == []
    assert {path: statuses[path] for path in ("/pay", "/p%61y", "/pay%0A", "/pay?x=/health")} == {
        "/pay": 503, "/p%61y": 503, "/pay%0A": 503, "/pay?x=/health": 503,
    }  # fmt: skip


async def test_a_request_is_answered_again_with_its_body(server: str):
    bodies: list[bytes] = []

    async def flaky(request: Request) -> Response:
        bodies.append(await request.body())
        return Response(bodies[-1], 503 if len(bodies) < 3 else 200)

    app = RetryMiddleware(Starlette(routes=[Route("/", flaky, methods=["PUT"])]), initial_delay=0.001)
    body = b"x" * 50_000
    async with serving(app, server) as port:
        assert (await answer(port, "/", "PUT", body))[0::2] == (200, body)
    assert bodies == [body] * 3
