"""aiohttp's server, Django under ASGI, and Flask with a loop for every request."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import django
import flask
import pytest
from aiohttp import web
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path

from aioresilience import Registry, UnknownPolicyError
from aioresilience.integrations import aiohttp_server
from aioresilience.integrations.django import PolicyMiddleware
from aioresilience.integrations.flask import protect
from tests.integrations.harness import until
from tests.integrations.servers import Wire, answer, serving

YAML = """
version: 1
policies:
  page: {bulkhead: 1, circuit_breaker: {failure_threshold: 1000}}
  quick: {timeout: 50ms}
  client: {rate_limiter: {rate: 1/minute, scope: key}}
"""


ASKED = ("/raises", "/absent", "/nowhere", "/quick?status=503", "/quick")


class Doings:
    """What the views of all three do, and the policy around them."""

    def __init__(self) -> None:
        self.registry = Registry.from_text(YAML)
        self.places = self.registry["page"].bulkhead
        self.counts = self.registry["page"].circuit_breaker.counts
        self.go = asyncio.Event()

    @property
    def free(self) -> int:
        return self.places.available_slots()


async def still_refused(port: int) -> None:
    status, headers, body = await answer(port, "/quick")
    assert (status, headers["content-type"]) == (503, "application/problem+json")
    assert json.loads(body)["reason"] == "CAPACITY_FULL"


# aiohttp


@contextlib.asynccontextmanager
async def aiohttp_serving(doings: Doings, **options: Any) -> AsyncIterator[int]:
    app = web.Application()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first")
        await doings.go.wait()
        await response.write(b"last")
        return response

    async def slow(request: web.Request) -> web.Response:
        await doings.go.wait()
        return web.Response()

    async def raises(request: web.Request) -> web.Response:
        raise ValueError("a secret")

    async def absent(request: web.Request) -> web.Response:
        raise web.HTTPNotFound

    async def quick(request: web.Request) -> web.Response:
        return web.Response(status=int(request.query.get("status", 200)))

    async def talk(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive()
        return socket

    for view in (stream, slow, raises, absent, quick, talk):
        app.router.add_get(f"/{view.__name__}", view)
    app.router.add_get("/health", quick)
    aiohttp_server.add_policies(app, doings.registry, **{"policy": "page", **options})
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        site = web.SockSite(runner, listening)
        await site.start()
        try:
            yield listening.getsockname()[1]
        finally:
            await runner.cleanup()


async def test_aiohttp_holds_a_place_to_the_end_of_a_stream():
    doings = Doings()
    async with aiohttp_serving(doings) as port:
        wire = await Wire.ask(port, "/stream")
        assert (await wire.head())[0] == 200
        assert await wire.part() == b"first"
        await still_refused(port)
        assert (await answer(port, "/health"))[0] == 200
        doings.go.set()
        assert [await wire.part(), await wire.part()] == [b"last", b""]
        await until(lambda: doings.free == 1)
        wire.leave()


@pytest.mark.parametrize("path", ["/slow", "/stream"])
async def test_aiohttp_gives_the_place_of_a_client_that_leaves_back(path: str):
    doings = Doings()
    async with aiohttp_serving(doings) as port:
        wire = await Wire.ask(port, path)
        await until(lambda: doings.free == 0)
        wire.leave()
        await until(lambda: doings.free == 1)
        assert (doings.counts.neutral, doings.counts.failed) == (1, 0)


async def test_aiohttp_counts_by_status():
    doings = Doings()
    async with aiohttp_serving(doings) as port:
        statuses = [
            (await answer(port, p))[0] for p in ("/raises", "/absent", "/nowhere", "/quick?status=503", "/quick")
        ]
        assert statuses == [500, 404, 404, 503, 200]
        assert (doings.counts.failed, doings.counts.succeeded) == (2, 3)
        assert doings.free == 1


async def test_aiohttp_cuts_what_takes_too_long():
    doings = Doings()
    async with aiohttp_serving(doings, policy="quick") as port:
        status, _, body = await answer(port, "/slow")
        assert (status, json.loads(body)["reason"]) == (504, "TIMEOUT_EXCEEDED")
        wire = await Wire.ask(port, "/stream")
        assert (await wire.head())[0] == 200
        assert b"HTTP/1.1" not in await wire.rest()  # broken off, not answered twice
        wire.leave()


async def test_aiohttp_routes_and_keys():
    doings = Doings()
    options: dict[str, Any] = {
        "policy": None,
        "routes": {"GET /quick": "client"},
        "key": lambda request: request.remote,
    }
    async with aiohttp_serving(doings, **options) as port:
        assert [(await answer(port, "/quick"))[0] for _ in range(2)] == [200, 429]
        assert (await answer(port, "/absent"))[0] == 404
        refused = await answer(port, "/quick")
        assert 45 < int(refused[1]["retry-after"]) <= 60


async def test_aiohttp_holds_a_place_to_the_end_of_a_websocket():
    doings = Doings()
    upgrade = [
        "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]  # fmt: skip
    async with aiohttp_serving(doings) as port:
        wire = await Wire.ask(port, "/talk", headers=upgrade)
        assert (await wire.head())[0] == 101
        await still_refused(port)
        wire.leave()
        await until(lambda: doings.free == 1)


def test_aiohttp_refuses_a_policy_that_is_none():
    with pytest.raises(UnknownPolicyError, match="did you mean 'page'"):
        aiohttp_server.add_policies(web.Application(), Doings().registry, policy="pgae")


# Django

DOINGS: list[Doings] = []


async def dj_stream(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        yield b"first"
        await DOINGS[-1].go.wait()
        yield b"last"

    return StreamingHttpResponse(parts())


async def dj_slow(request: HttpRequest) -> HttpResponse:
    await DOINGS[-1].go.wait()
    return HttpResponse()


async def dj_raises(request: HttpRequest) -> HttpResponse:
    raise ValueError("a secret")


async def dj_absent(request: HttpRequest) -> HttpResponse:
    raise Http404


async def dj_quick(request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=int(request.GET.get("status", 200)))


def dj_plain(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(iter([b"a", b"b"]))


urlpatterns = [
    path("stream", dj_stream), path("slow", dj_slow), path("raises", dj_raises), path("absent", dj_absent),
    path("quick", dj_quick), path("health", dj_quick), path("plain", dj_plain),
]  # fmt: skip


@contextlib.asynccontextmanager
async def django_serving(doings: Doings, **options: Any) -> AsyncIterator[int]:
    if not settings.configured:
        settings.configure(
            SECRET_KEY="for the tests", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, LOGGING_CONFIG=None,
            MIDDLEWARE=[f"{PolicyMiddleware.__module__}.{PolicyMiddleware.__qualname__}"],
        )  # fmt: skip
        sys.modules.setdefault(__name__, sys.modules[Doings.__module__])
        django.setup()
    DOINGS.append(doings)
    with override_settings(AIORESILIENCE={"registry": doings.registry, "policy": "page", **options}):
        async with serving(get_asgi_application(), "uvicorn-h11") as port:
            yield port


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous iterators")
async def test_django_holds_a_place_to_the_end_of_a_stream():
    doings = Doings()
    async with django_serving(doings) as port:
        wire = await Wire.ask(port, "/stream")
        assert (await wire.head())[0] == 200
        assert await wire.part() == b"first"
        await still_refused(port)
        assert (await answer(port, "/health"))[0] == 200
        doings.go.set()
        assert [await wire.part(), await wire.part()] == [b"last", b""]
        await until(lambda: doings.free == 1)
        assert (await answer(port, "/plain"))[0] == 200
        await until(lambda: doings.free == 1)
        assert doings.counts.succeeded == 2
        wire.leave()


@pytest.mark.parametrize("path", ["/slow", "/stream"])
async def test_django_gives_the_place_of_a_client_that_leaves_back(path: str):
    doings = Doings()
    async with django_serving(doings) as port:
        wire = await Wire.ask(port, path)
        await until(lambda: doings.free == 0)
        await asyncio.sleep(0.05)
        wire.leave()
        await until(lambda: doings.free == 1)
        assert (doings.counts.neutral, doings.counts.failed) == (1, 0)


async def test_django_counts_by_status_and_cuts_what_takes_too_long():
    doings = Doings()
    async with django_serving(doings) as port:
        statuses = [
            (await answer(port, p))[0] for p in ("/raises", "/absent", "/nowhere", "/quick?status=503", "/quick")
        ]
        assert statuses == [500, 404, 404, 503, 200]
        assert (doings.counts.failed, doings.counts.succeeded) == (2, 3)
    async with django_serving(
        doings, policy=None, routes={"/slow": "quick", "/quick": "client"}, key=lambda r: "one"
    ) as port:
        status, _, body = await answer(port, "/slow")
        assert (status, json.loads(body)["reason"]) == (504, "TIMEOUT_EXCEEDED")
        assert [(await answer(port, "/quick"))[0] for _ in range(2)] == [200, 429]


async def test_django_refuses_a_setting_that_is_none():
    with pytest.raises(ValueError, match="unknown in the setting AIORESILIENCE: polcy"):
        async with django_serving(Doings(), polcy="page"):
            pass


# Flask


@pytest.fixture
def flask_app() -> tuple[flask.Flask, Doings, dict[str, Any]]:
    app, doings, does = flask.Flask(__name__), Doings(), {}

    @app.get("/")
    @protect("page", registry=doings.registry)
    async def page() -> Any:
        return await does["this"]()

    @app.get("/quick")
    @protect("quick", registry=doings.registry)
    async def quick() -> Any:
        await asyncio.sleep(60)

    @app.get("/client/<who>")
    @protect("client", registry=doings.registry, key=lambda request: request.view_args["who"])
    async def client(who: str) -> str:
        return who

    return app, doings, does


def test_flask_counts_by_status(flask_app: Any):
    app, doings, does = flask_app
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.log_exception = lambda error: None

    def asked(result: Any) -> int:
        async def this() -> Any:
            if isinstance(result, Exception):
                raise result
            return result

        does["this"] = this
        return app.test_client().get("/").status_code

    async def absent() -> None:
        flask.abort(404)

    assert [asked(r) for r in ("ok", ("no", 503), ({"a": 1}, 404), ValueError("a secret"))] == [200, 503, 404, 500]
    does["this"] = absent
    assert app.test_client().get("/").status_code == 404
    assert (doings.counts.succeeded, doings.counts.failed) == (3, 2)
    assert doings.free == 1
    gc.collect()  # asgiref keeps the thread of a request for as long as there is an error that was raised on it


def test_flask_answers_refusals_and_overruns(flask_app: Any):
    app, _, _ = flask_app
    client = app.test_client()
    assert [client.get(f"/client/{who}").status_code for who in ("ada", "bob", "ada")] == [200, 200, 429]
    refused = client.get("/client/bob")
    assert refused.content_type == "application/problem+json"
    assert 45 < int(refused.headers["Retry-After"]) <= 60
    assert refused.get_json(force=True)["reason"] == "RATE_LIMIT_EXCEEDED"
    cut = client.get("/quick")
    assert (cut.status_code, cut.get_json(force=True)["reason"]) == (504, "TIMEOUT_EXCEEDED")


def test_flask_holds_a_place_across_loops_and_threads(flask_app: Any):
    app, doings, does = flask_app
    entered, go = threading.Event(), threading.Event()

    async def this() -> str:
        entered.set()
        while not go.is_set():
            await asyncio.sleep(0.001)
        return "ok"

    does["this"] = this
    with ThreadPoolExecutor(9) as threads:
        first = threads.submit(lambda: app.test_client().get("/").status_code)
        assert entered.wait(10)
        others = [threads.submit(lambda: app.test_client().get("/").status_code) for _ in range(8)]
        assert [other.result(10) for other in others] == [503] * 8
        go.set()
        assert first.result(10) == 200
    assert doings.free == 1


def test_flask_holds_a_place_until_a_stream_is_closed(flask_app: Any):
    app, doings, does = flask_app

    async def this() -> flask.Response:
        return flask.Response(iter([b"a", b"b"]))

    does["this"] = this
    response = app.test_client().get("/", buffered=False)
    assert doings.free == 0
    assert app.test_client().get("/").status_code == 503
    assert response.data == b"ab"
    response.close()
    assert doings.free == 1
    assert doings.counts.succeeded == 1


@pytest.mark.parametrize(("method", "failed", "neutral"), [("GET", 1, 0), ("HEAD", 0, 0), ("LEAVE", 0, 1)])
def test_flask_counts_a_stream_by_how_it_ends(flask_app: Any, method: str, failed: int, neutral: int):
    app, doings, does = flask_app
    closed: list[str] = []

    class Parts:
        def __iter__(self) -> Any:
            yield b"a"
            raise ValueError("broken off")

        def close(self) -> None:
            closed.append("closed")

    async def this() -> flask.Response:
        return flask.Response(Parts())

    does["this"] = this
    client = app.test_client()
    response = client.get("/", buffered=False) if method != "HEAD" else client.head("/", buffered=False)
    if method == "GET":
        with pytest.raises(ValueError, match="broken off"):
            response.get_data()
    response.close()
    counts = doings.counts
    assert (counts.failed, counts.neutral, counts.succeeded) == (failed, neutral, 1 - failed - neutral)
    assert (doings.free, closed) == (1, ["closed"])


def test_flask_takes_async_views_only():
    with pytest.raises(TypeError, match="can only be applied to async functions"):

        @protect("page")  # type: ignore[arg-type]
        def plain() -> str:
            return "ok"


@pytest.mark.parametrize(
    ("module", "library", "extra"),
    [("aiohttp_server", "aiohttp", "aiohttp"), ("django", "django", "django"), ("flask", "flask", "flask")],
)
def test_a_missing_library_is_an_error_that_names_its_extra(module: str, library: str, extra: str):
    hide = f"import sys; sys.modules[{library!r}] = None\nimport aioresilience.integrations.{module}"
    run = subprocess.run([sys.executable, "-c", hide], capture_output=True, text=True)
    assert f"pip install 'aioresilience[{extra}]'" in run.stderr
