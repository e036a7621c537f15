"""One request under one pattern: when it ends, how it counts, who is told."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import weakref
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect, Request as StarletteRequest
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from aioresilience import (
    AdaptiveConcurrencyConfig,
    AdaptiveConcurrencyLimiter,
    BackpressureConfig,
    BackpressureManager,
    BasicLoadShedder,
    Bulkhead,
    BulkheadConfig,
    CircuitBreaker,
    CircuitConfig,
    LoadSheddingConfig,
    current_deadline,
)
from aioresilience.integrations.asgi.listener import Listener
from aioresilience.integrations.fastapi import (
    AdaptiveConcurrencyMiddleware,
    BackpressureMiddleware,
    BulkheadMiddleware,
    CircuitBreakerMiddleware,
    LoadSheddingMiddleware,
    ResilienceMiddleware,
    TimeoutMiddleware,
)
from tests.integrations.harness import Handler, Request, answering, get, until
from tests.sweep import sweep


def bulkhead(places: int = 1, waiting: int = 0) -> Bulkhead:
    return Bulkhead("requests", BulkheadConfig(max_concurrent=places, max_waiting=waiting))


def circuit(failures: int = 1) -> CircuitBreaker:
    return CircuitBreaker("requests", CircuitConfig(failure_threshold=failures))


async def test_a_place_is_held_to_the_last_byte_of_a_stream():
    places, app = bulkhead(), Handler()
    request = Request(BulkheadMiddleware(app, places)).start()
    app.go.set()
    await app.began.wait()
    assert places.available_slots() == 0
    assert (await get(BulkheadMiddleware(app, places))).status == 503
    app.between.set()
    await request.done()
    assert places.available_slots() == 1
    assert request.body == b"firstlast"


async def test_what_runs_after_the_last_byte_holds_nothing_and_is_not_cut():
    places, ran = bulkhead(), asyncio.Event()

    async def background() -> None:
        assert places.available_slots() == 1
        assert (await get(guarded)).status == 200
        await asyncio.sleep(0.7)  # longer than the timeout around, and the server has said that the client is gone
        assert current_deadline() is None
        ran.set()

    async def endpoint(request: StarletteRequest) -> PlainTextResponse:
        first = not ran.is_set() and "task" not in ran.__dict__
        ran.__dict__["task"] = True
        return PlainTextResponse("ok", background=BackgroundTask(background) if first else None)

    app = Starlette(routes=[Route("/", endpoint)])
    guarded = ResilienceMiddleware(app, bulkhead=places, timeout=0.6)
    await get(guarded)
    assert ran.is_set()


@pytest.mark.parametrize("began", [False, True])
async def test_a_client_that_leaves_ends_a_handler_that_does_not_listen(began: bool):
    places, app = bulkhead(), Handler()
    request = Request(BulkheadMiddleware(app, places)).start()
    if began:
        app.go.set()
        await app.began.wait()
    await app.entered.wait()
    request.leave()
    await request.done()
    assert app.outcome == "cancelled"
    assert places.available_slots() == 1
    assert (places.counts.neutral, places.counts.failed) == (1, 0)


async def test_a_client_that_leaves_may_be_outlived():
    places, app = bulkhead(), Handler()
    request = Request(BulkheadMiddleware(app, places, cancel_on_disconnect=False)).start()
    await app.entered.wait()
    request.leave()
    await asyncio.sleep(0.1)
    assert places.available_slots() == 0
    app.go.set()
    app.between.set()
    await request.done()
    assert app.outcome == "finished"
    assert places.available_slots() == 1
    assert places.counts.neutral == 1


async def test_an_app_that_hears_of_the_disconnect_ends_by_itself():
    places, heard = bulkhead(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        heard.set()
        await asyncio.sleep(0)  # a cancel would come here

    request = Request(BulkheadMiddleware(app, places)).start()
    await asyncio.sleep(0.1)
    request.leave()
    await request.done()
    assert heard.is_set()
    assert places.counts.neutral == 1


async def test_an_app_that_begins_to_listen_late_misses_nothing():
    got: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.1)  # meanwhile it is watched
        got.extend([await receive(), await receive()])
        await asyncio.sleep(0.1)
        got.append(await receive())
        await answering()(scope, receive, send)

    request = Request(BulkheadMiddleware(app, bulkhead()), method="POST", body=[b"one", b"two", b"three"])
    await request.done()
    assert [message["body"] for message in got] == [b"one", b"two", b"three"]
    assert request.status == 200


async def test_a_body_that_comes_late_is_heard_though_it_is_watched_for():
    arrives, asked, got = asyncio.Event(), asyncio.Event(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.wait_for(asked.wait(), 30)  # meanwhile it is watched, and nothing has come yet
        got.append(await receive())
        await answering()(scope, receive, send)

    request = Request(BulkheadMiddleware(app, bulkhead()), method="POST", body=[b"late"])

    async def receive() -> Any:
        asked.set()
        await arrives.wait()
        return await request.receive()

    running = asyncio.ensure_future(request.app(request.scope, receive, request.send))
    await asyncio.wait_for(asked.wait(), 30)
    for _ in range(3):
        await asyncio.sleep(0)  # until the app waits for its body
    arrives.set()
    await asyncio.wait_for(running, 30)
    assert [message["body"] for message in got] == [b"late"]
    assert request.status == 200


async def test_a_watch_that_ends_before_it_began_is_in_nobodys_way():
    async def receive() -> Any:
        return {"type": "http.disconnect"}

    listener = Listener(receive, lambda: None)
    listener.listen()
    listener.stop()  # before the loop has turned
    assert await asyncio.wait_for(listener.receive(), 30) == {"type": "http.disconnect"}


async def test_a_server_that_cannot_receive_is_the_apps_to_meet():
    async def receive() -> Any:
        raise RuntimeError("the server's own trouble")

    listener = Listener(receive, lambda: None)
    listener.listen()
    await asyncio.sleep(0.01)
    with pytest.raises(RuntimeError, match="trouble"):
        await listener.receive()


async def test_a_client_that_leaves_while_it_waits_gives_up_its_turn():
    places, app = bulkhead(places=1, waiting=5), Handler()
    guarded = BulkheadMiddleware(app, places)
    first, second, third = (Request(guarded).start() for _ in range(3))
    await until(lambda: places.machine.queue.waiting == 2)
    second.leave()
    await second.done()
    assert places.machine.queue.waiting == 1
    assert second.status is None
    app.go.set()
    app.between.set()
    await first.done()
    await third.done()
    assert third.status == 200
    assert places.available_slots() == 1


async def test_a_send_that_the_client_no_longer_takes_is_neutral():
    breaker = circuit()

    async def parts() -> Any:
        while True:
            yield b"part"
            await asyncio.sleep(0)

    async def endpoint(request: StarletteRequest) -> StreamingResponse:
        return StreamingResponse(parts())

    app = Starlette(routes=[Route("/", endpoint)])
    request = Request(CircuitBreakerMiddleware(app, breaker), breaks=True, version="2.4").start()
    await until(lambda: len(request.sent) > 3)
    request.leave()
    with pytest.raises(ClientDisconnect):
        await request.done()
    assert (breaker.counts.neutral, breaker.counts.failed) == (1, 0)


@pytest.mark.parametrize("status", [500, 502, 503, 599])
async def test_an_answer_from_500_on_passes_unchanged_and_is_a_failure(status: int):
    breaker = circuit(failures=2)
    app = answering(status, b"the app's own words", [(b"x-app", b"1")])
    request = await get(CircuitBreakerMiddleware(app, breaker))
    assert (request.status, request.body, request.headers) == (status, b"the app's own words", {"x-app": "1"})
    assert breaker.counts.failed == 1


@pytest.mark.parametrize("status", [200, 301, 404, 429, 499])
async def test_any_other_answer_is_a_success(status: int):
    breaker = circuit()
    assert (await get(CircuitBreakerMiddleware(answering(status), breaker))).status == status
    assert breaker.counts.succeeded == 1


async def test_a_5xx_is_a_failure_whatever_exceptions_the_circuit_counts():
    breaker = CircuitBreaker("requests", CircuitConfig(failure_threshold=1, failure_exceptions=(KeyError,)))
    await get(CircuitBreakerMiddleware(answering(500), breaker))
    assert breaker.counts.failed == 1


async def test_an_error_before_the_answer_is_a_failure_and_is_raised():
    breaker, app = circuit(), Handler()
    app.error = ValueError("mine")
    app.go.set()
    request = Request(CircuitBreakerMiddleware(app, breaker))
    with pytest.raises(ValueError, match="mine"):
        await request.done()
    assert request.sent == []
    assert breaker.counts.failed == 1


async def test_an_error_within_the_answer_is_a_failure_and_is_raised():
    breaker, app = circuit(), Handler()
    app.late_error = ValueError("mine")
    app.go.set()
    app.between.set()
    request = Request(CircuitBreakerMiddleware(app, breaker))
    with pytest.raises(ValueError, match="mine"):
        await request.done()
    assert request.status == 200
    assert breaker.counts.failed == 1


async def test_an_error_after_the_answer_is_raised_and_counts_no_more():
    breaker = circuit()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answering()(scope, receive, send)
        raise ValueError("a background task of mine")

    with pytest.raises(ValueError, match="background"):
        await get(CircuitBreakerMiddleware(app, breaker))
    assert (breaker.counts.succeeded, breaker.counts.failed) == (1, 0)


@pytest.mark.parametrize("begins", [False, True])
async def test_an_answer_that_is_never_whole_is_a_failure(begins: bool):
    breaker = circuit()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if begins:
            await send({"type": "http.response.start", "status": 200, "headers": []})

    await get(CircuitBreakerMiddleware(app, breaker))
    assert breaker.counts.failed == 1


async def test_trailers_are_the_last_byte_where_they_are_announced():
    places = bulkhead()
    free: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
        await send({"type": "http.response.body", "body": b""})
        free.append(places.available_slots())
        await send({"type": "http.response.trailers", "headers": [], "more_trailers": True})
        free.append(places.available_slots())
        await send({"type": "http.response.trailers", "headers": []})
        free.append(places.available_slots())

    await get(BulkheadMiddleware(app, places))
    assert free == [0, 0, 1]


async def test_a_path_that_the_server_sends_is_a_whole_answer():
    places = bulkhead()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.pathsend", "path": "/etc/hostname"})
        assert places.available_slots() == 1

    await get(BulkheadMiddleware(app, places))


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
async def test_what_is_not_http_passes_untouched(kind: str):
    seen: list[Any] = []

    async def app(*args: Any) -> None:
        seen.extend(args)

    breaker = circuit()
    breaker.force_open("shown here")
    scope, receive, send = {"type": kind, "path": "/"}, object(), object()
    await CircuitBreakerMiddleware(app, breaker)(scope, receive, send)  # type: ignore[arg-type]
    assert seen == [scope, receive, send]
    assert seen[0] is scope
    assert seen[1:] == [receive, send]


async def test_context_variables_pass_both_ways():
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(variable.get())
        variable.set("from within")
        await answering()(scope, receive, send)

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        variable.set("from without")
        await BulkheadMiddleware(TimeoutMiddleware(app), bulkhead())(scope, receive, send)
        seen.append(variable.get())

    await get(outer)
    assert seen == ["from without", "from within"]


async def test_a_thousand_requests_at_once_under_a_cap_of_ten():
    places = bulkhead(10)
    active = peak = 0
    go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal active, peak
        active += 1
        peak = max(peak, active)
        await go.wait()
        active -= 1
        await answering()(scope, receive, send)

    guarded = BulkheadMiddleware(app, places)
    requests = [Request(guarded).start() for _ in range(1_000)]
    await until(lambda: sum(request.status == 503 for request in requests) == 990)
    go.set()
    for request in requests:
        await request.done()
    assert peak == 10
    assert sorted({request.status for request in requests}) == [200, 503]
    assert places.available_slots() == 10


async def test_a_middleware_on_basehttpmiddleware_inside_changes_nothing():
    places = bulkhead()

    class Inner(BaseHTTPMiddleware):
        async def dispatch(self, request: Any, call_next: Any) -> Any:
            return await call_next(request)

    async def parts() -> Any:
        for _ in range(3):
            assert places.available_slots() == 0
            yield b"part"

    async def endpoint(request: StarletteRequest) -> StreamingResponse:
        return StreamingResponse(parts())

    app = Starlette(routes=[Route("/", endpoint)])
    app.add_middleware(Inner)
    request = await get(BulkheadMiddleware(app, places))
    assert request.body == b"part" * 3
    assert places.available_slots() == 1


@pytest.mark.parametrize("began", [False, True])
async def test_an_error_is_not_kept_alive(began: bool):
    breaker, gone = circuit(failures=9), []

    class MineError(Exception):
        pass

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if began:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        error = MineError("mine")
        gone.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    guarded = BulkheadMiddleware(CircuitBreakerMiddleware(app, breaker), bulkhead())
    request = Request(guarded)
    gc.disable()
    try:
        with contextlib.suppress(MineError):
            await guarded(request.scope, request.receive, request.send)
        assert gone[0]() is None
    finally:
        gc.enable()


STACKS: dict[str, Any] = {
    "circuit_breaker": lambda app: CircuitBreakerMiddleware(app, circuit()),
    "bulkhead": lambda app: BulkheadMiddleware(app, bulkhead()),
    "load_shedder": lambda app: LoadSheddingMiddleware(app, BasicLoadShedder(LoadSheddingConfig(max_requests=1))),
    "backpressure": lambda app: BackpressureMiddleware(
        app, BackpressureManager(BackpressureConfig(max_pending=2, high_water_mark=1, low_water_mark=0))
    ),
    "adaptive_concurrency": lambda app: AdaptiveConcurrencyMiddleware(
        app, AdaptiveConcurrencyLimiter("requests", AdaptiveConcurrencyConfig(initial_limit=1, min_limit=1))
    ),
    "timeout": lambda app: TimeoutMiddleware(app, 5.0),
    "all": lambda app: ResilienceMiddleware(
        app, load_shedder=BasicLoadShedder(LoadSheddingConfig(max_requests=1)), bulkhead=bulkhead(),
        circuit_breaker=circuit(), timeout=5.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STACKS)
async def test_cancelled_at_any_step_nothing_is_held(name: str):
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(3):
            await send({"type": "http.response.body", "body": b"part", "more_body": True})
        await send({"type": "http.response.body", "body": b"last"})
        await asyncio.sleep(0)

    guarded = STACKS[name](app)

    async def request() -> None:
        await guarded(made.scope, made.receive, made.send)

    made = Request(guarded)

    def anew() -> Any:
        nonlocal made
        made = Request(guarded)
        return request()

    async def another_is_served() -> None:
        assert (await get(guarded)).status == 200

    await sweep(anew, lambda: None, settle=another_is_served)
