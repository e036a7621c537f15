"""Requests under policies of the file: which, how they count, what a refused one is told."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route

from aioresilience import (
    Bulkhead,
    EventType,
    Registry,
    UnknownPolicyError,
    configure,
    current_deadline,
    get_registry,
    global_bus,
)
from aioresilience.calls import Caller
from aioresilience.events.emitter import audience
from aioresilience.integrations.asgi import ClientAddress, PolicyMiddleware, PriorityHeader
from aioresilience.registry import names
from aioresilience.testing import VirtualClock
from tests.integrations.harness import Handler, Request, answering, get, until

YAML = """
version: 1
policies:
  page: {bulkhead: 1}
  payments: {rate_limiter: {rate: 2/minute, scope: key}}
  breaker: {circuit_breaker: {failure_threshold: 1, recovery_timeout: 10s, recovery_jitter: 0%}}
  choosy:
    classify: {failure: {status: [404]}, neutral: {status: [503]}}
    circuit_breaker: {failure_threshold: 1}
  quick: {deadline: 20ms, circuit_breaker: {failure_threshold: 1}}
  retried: {retry: 3, fallback: {value: 1}}
"""


@pytest.fixture
def registry() -> Registry:
    return Registry.from_text(YAML)


async def answer(scope: Any, receive: Any, send: Any) -> None:
    await answering()(scope, receive, send)


async def test_a_policy_for_all_requests(registry: Registry):
    app = Handler()
    guarded = PolicyMiddleware(app, registry, policy="page")
    first = Request(guarded).start()
    await app.entered.wait()
    refused = await get(guarded)
    assert (refused.status, refused.headers["content-type"]) == (503, "application/problem+json")
    assert refused.json == {
        "type": "about:blank", "title": "Service Unavailable", "status": 503,
        "detail": "Too many requests are being answered at once.", "reason": "CAPACITY_FULL",
    }  # fmt: skip
    assert (await get(PolicyMiddleware(answer, registry, policy="page"), "/health")).status == 200
    app.go.set()
    app.between.set()
    assert (await first.done()).status == 200


async def test_a_spent_rate_is_429_with_the_true_time():
    clock = VirtualClock()
    registry = Registry.from_text(YAML, clock=clock)
    app = PolicyMiddleware(answer, registry, policy="payments", key=ClientAddress(), rate_limit_headers=True)
    first, second, refused = [await get(app) for _ in range(3)]
    assert [first.status, second.status, refused.status] == [200, 200, 429]
    assert refused.headers["retry-after"] == "30"
    assert refused.json["reason"] == "RATE_LIMIT_EXCEEDED"
    assert refused.headers["ratelimit-policy"] == '"payments";q=2;w=60'
    assert [r.headers["ratelimit"] for r in (first, second, refused)] == [
        '"payments";r=1',
        '"payments";r=0;t=30',
        '"payments";r=0;t=30',
    ]
    await clock.advance(10.5)
    assert (await get(app)).headers["retry-after"] == "20"  # 19.5, rounded up
    assert (await get(app, client=("127.0.0.9", 1))).status == 200


async def test_the_rate_that_is_told_is_that_of_the_route_whatever_the_app_makes_of_the_scope():
    routes = [Mount("/api", routes=[Route("/quotes", lambda request: PlainTextResponse("ok"))])]
    registry = Registry.from_text(
        "{version: 1, policies: {api: {deadline: 20ms, rate_limiter: 9/minute}, other: {rate_limiter: 7/minute}}}"
    )
    named = {"GET /api/quotes": "api", "GET /quotes": "other"}
    app = PolicyMiddleware(Starlette(routes=routes), registry, routes=named, rate_limit_headers=True)
    assert (await get(app, "/api/quotes")).headers["ratelimit"] == '"api";r=8'

    async def hangs(scope: Any, receive: Any, send: Any) -> None:
        scope["root_path"] = "/api"
        await asyncio.Event().wait()

    late = await get(PolicyMiddleware(hangs, registry, routes=named, rate_limit_headers=True), "/api/quotes")
    assert (late.status, late.headers["ratelimit"]) == (504, '"api";r=7')


async def test_an_open_circuit_is_503_until_it_probes():
    clock = VirtualClock()
    registry = Registry.from_text(YAML, clock=clock)
    app = PolicyMiddleware(answering(500), registry, policy="breaker")
    assert (await get(app)).status == 500
    await clock.advance(0.1)
    refused = await get(app)
    assert (refused.status, refused.headers["retry-after"], refused.json["reason"]) == (503, "10", "CIRCUIT_OPEN")


async def test_a_deadline_cuts_the_handler_and_is_504():
    app, clock = Handler(), VirtualClock()
    registry = Registry.from_text(YAML, clock=clock)
    request = Request(PolicyMiddleware(app, registry, policy="quick")).start()
    await app.entered.wait()
    await clock.advance(0.03)
    await request.done()
    assert (request.status, request.json["reason"], app.outcome) == (504, "DEADLINE_EXCEEDED", "cancelled")
    assert registry["quick"].circuit_breaker.counts.failed == 1


async def test_a_deadline_within_the_answer_breaks_it_off():
    app, clock = Handler(), VirtualClock()
    registry = Registry.from_text(YAML, clock=clock)
    app.go.set()
    request = Request(PolicyMiddleware(app, registry, policy="quick")).start()
    await app.began.wait()
    await clock.advance(0.03)
    with pytest.raises(TimeoutError, match="deadline of 0"):
        await request.done()
    assert request.body == b"first"
    assert registry["quick"].circuit_breaker.counts.failed == 1


@pytest.mark.parametrize(("status", "counts"), [(404, "failed"), (503, "neutral"), (500, "failed"), (200, "succeeded")])
async def test_what_classify_names_wins(registry: Registry, status: int, counts: str):
    await get(PolicyMiddleware(answering(status), registry, policy="choosy"))
    assert getattr(registry["choosy"].circuit_breaker.counts, counts) == 1


async def test_routes_choose_the_policy(registry: Registry):
    registry["breaker"].circuit_breaker.force_open("shown here")
    app = PolicyMiddleware(answer, registry, routes={"POST /pay": "breaker", "GET /users/{id}": "breaker"})
    asked = [("POST", "/pay"), ("GET", "/pay"), ("HEAD", "/users/7"), ("GET", "/users/7"), ("GET", "/other")]
    assert [(await get(app, path, method)).status for method, path in asked] == [503, 200, 503, 503, 200]
    both = PolicyMiddleware(answer, registry, routes={"POST /pay": "page"}, policy="breaker")
    assert [(await get(both, path, method)).status for method, path in asked[:2]] == [200, 503]


async def test_no_spelling_of_a_path_reaches_the_handler_past_the_policy(registry: Registry):
    registry["breaker"].circuit_breaker.force_open("shown here")
    reached = []

    async def pay(request: StarletteRequest) -> PlainTextResponse:
        reached.append(request.url.path)
        return PlainTextResponse("paid")

    inner = Starlette(routes=[Route("/pay", pay), Mount("/sub", routes=[Route("/pay", pay)])])
    app = PolicyMiddleware(inner, registry, routes={"GET /pay": "breaker", "GET /sub/pay": "breaker"})
    odd = ["/pay/", "//pay", "/health/../pay", "/pay;x", "/sub//pay", "/PAY", "/./pay"]
    spellings = ["/pay", "/pay\n", "/sub/pay", "/sub/pay\n", *odd]
    for path, method, root in itertools.product(spellings, ("GET", "HEAD"), ("", "/api")):
        assert (await get(app, path, method, root_path=root)).status in (307, 404, 503), path
    assert reached == []


async def test_a_middleware_in_a_mounted_app_sees_the_paths_of_that_app(registry: Registry):
    registry["breaker"].circuit_breaker.force_open("shown here")
    inner = PolicyMiddleware(answer, registry, routes={"/pay": "breaker"})
    app = Starlette(routes=[Mount("/api", app=inner)])
    assert [(await get(app, path)).status for path in ("/api/pay", "/api/other", "/api/health")] == [503, 200, 200]


async def test_websockets_and_the_lifespan_pass_untouched(registry: Registry):
    seen: list[Any] = []

    async def app(*args: Any) -> None:
        seen.append(args)

    guarded = PolicyMiddleware(app, registry, policy="page")
    for kind in ("websocket", "lifespan"):
        args: Any = ({"type": kind, "path": "/"}, object(), object())
        await guarded(*args)
        assert seen[-1] == args


@pytest.mark.parametrize("more", [{}, {"routes": {}}])
def test_a_policy_or_routes_must_be_said(registry: Registry, more: Any):
    with pytest.raises(ValueError, match="say which policy"):
        PolicyMiddleware(answer, registry, **more)


def test_what_cannot_work_is_refused_when_it_is_built(registry: Registry):
    with pytest.raises(UnknownPolicyError, match="did you mean 'payments'"):
        PolicyMiddleware(answer, registry, policy="payment")
    with pytest.raises(TypeError, match=r"'retried' has fallback and retry, which cannot be applied"):
        PolicyMiddleware(answer, registry, routes={"/": "retried"})
    with pytest.raises(ValueError, match="a rule is"):
        PolicyMiddleware(answer, registry, routes={"pay": "page"})


async def test_a_retry_that_a_reload_brings_in_is_skipped_and_told(registry: Registry):
    app = PolicyMiddleware(answering(503), registry, policy="page")
    await get(app)
    registry.apply(YAML.replace("{bulkhead: 1}", "{bulkhead: 1, retry: 3}"))
    told: list[Any] = []
    registry["page"].retry.events.on(EventType.PATTERN_SKIPPED.value)(told.append)
    request = await get(app)
    assert request.status == 503
    assert len(request.sent) == 2
    await until(lambda: len(told) == 1)


async def test_the_next_request_is_under_the_document_of_then(registry: Registry):
    app = PolicyMiddleware(answer, registry, policy="payments", key=lambda scope: "one")
    assert [(await get(app)).status for _ in range(3)] == [200, 200, 429]
    registry.apply(YAML.replace("2/minute", "1000/second"))
    await until(lambda: registry["payments"].rate_limiter.left(Caller("one"))[0] > 0)
    assert (await get(app)).status == 200


async def test_the_default_registry_is_found_when_it_is_there(tmp_path: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(names, "_default", set())
    app = PolicyMiddleware(answer, policy="page")
    file = tmp_path / "resilience.yaml"
    file.write_text(YAML)
    configure(file)
    assert (await get(app)).status == 200
    assert get_registry()["page"].bulkhead.counts.succeeded == 1


async def test_keys_and_priorities_come_from_the_scope():
    registry = Registry.from_text("{version: 1, policies: {page: {rate_limiter: {rate: 1/minute, scope: key}}}}")
    proxied = ClientAddress(["10.0.0.0/8"])
    app = PolicyMiddleware(answer, registry, policy="page", key=proxied, priority=PriorityHeader(allow=True))

    async def status(forwarded: str, peer: str = "10.0.0.1") -> int | None:
        return (await get(app, headers=[("X-Forwarded-For", forwarded)], client=(peer, 1))).status

    assert [await status(of) for of in ("1.1.1.1", "1.1.1.2", "1.1.1.1", "9.9.9.9, 1.1.1.2")] == [200, 200, 429, 429]
    assert [await status("1.1.1.3", "8.8.8.8"), await status("1.1.1.4", "8.8.8.8")] == [200, 429]


async def test_each_key_has_its_own_circuit_in_a_partitioned_policy():
    registry = Registry.from_text(
        "{version: 1, policies: {page: {partition: {by: key}, circuit_breaker: {failure_threshold: 1}}}}"
    )
    app = PolicyMiddleware(answering(500), registry, policy="page", key=lambda scope: scope["client"][0])
    statuses = [(await get(app, client=(who, 1))).status for who in ("a", "a", "b", "b")]
    assert statuses == [500, 503, 500, 503]
    assert registry["page"].partitions.status()["in_use"] == 0


async def test_observing_refuses_nobody_and_counts():
    registry = Registry.from_text("{version: 1, policies: {page: {mode: observe, rate_limiter: 1/minute}}}")
    app = PolicyMiddleware(answer, registry, policy="page")
    assert [(await get(app)).status for _ in range(3)] == [200] * 3
    assert registry["page"].rate_limiter.counts.observed == 2


async def test_a_missing_key_is_an_error_of_the_service(registry: Registry):
    with pytest.raises(TypeError, match="this call has none"):
        await get(PolicyMiddleware(answer, registry, policy="payments"))


async def test_a_background_task_after_a_stream_has_no_deadline_of_the_request():
    clock = VirtualClock()
    registry = Registry.from_text("{version: 1, policies: {page: {deadline: 100ms}}}", clock=clock)
    seen: list[float | None] = []

    async def parts() -> Any:
        seen.append(current_deadline())
        yield b"a"

    async def background() -> None:
        await clock.advance(0.15)
        seen.append(current_deadline())

    async def endpoint(request: StarletteRequest) -> StreamingResponse:
        return StreamingResponse(parts(), background=BackgroundTask(background))

    request = await get(PolicyMiddleware(Starlette(routes=[Route("/", endpoint)]), registry, policy="page"))
    assert request.body == b"a"
    assert seen[0] is not None
    assert seen[1] is None
    assert registry["page"].deadline.counts.succeeded == 1


async def test_a_request_that_is_let_in_builds_no_event_for_who_hears_only_of_refusals(monkeypatch: pytest.MonkeyPatch):
    registry = Registry.from_text("{version: 1, policies: {page: {bulkhead: 1}}}")
    app, told, refused = PolicyMiddleware(answer, registry, policy="page"), [], []
    monkeypatch.setattr(audience, "steady", 0)  # whatever other tests still listen to
    monkeypatch.setattr(Bulkhead, "tell", lambda self, moment, error=None: told.append(moment))
    global_bus.add_handler(EventType.DECISION, refused.append)
    try:
        assert (await get(app)).status == 200
    finally:
        global_bus.remove_handler(EventType.DECISION, refused.append)
    assert (told, registry["page"].bulkhead.counts.succeeded) == ([], 1)
    global_bus.add_handler("*", refused.append)
    try:
        await get(app)
    finally:
        global_bus.remove_handler("*", refused.append)
    assert told == ["admitted", "succeeded"]
