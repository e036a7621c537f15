"""Endpoints under policies: the dependency, the exception handlers, the lifespan."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, Query, Response, WebSocket
from fastapi.responses import StreamingResponse
from starlette.websockets import WebSocketDisconnect

from aioresilience import ConfigError, Registry, UnknownPolicyError, get_registry, resilient
from aioresilience.calls import ANYONE
from aioresilience.integrations.fastapi import (
    add_problem_handlers,
    get_client_ip,
    problem_handlers,
    problem_responses,
    protect,
    resilience_lifespan,
)
from aioresilience.registry import names
from aioresilience.testing import VirtualClock
from tests.integrations.harness import Lifespan, Request, Socket, get, until

YAML = """
version: 1
policies:
  page: {bulkhead: 1, circuit_breaker: {failure_threshold: 100}}
  client: {rate_limiter: {rate: 1/minute, scope: key}}
  quick: {timeout: 20ms}
  broken: {circuit_breaker: {failure_threshold: 1}}
"""


OWN = Registry.from_text(YAML)
Guarded = Annotated[None, Depends(protect("page", registry=OWN))]


class Service:
    """An app whose endpoint does what the test says."""

    def __init__(self, policy: str = "page", **more: Any) -> None:
        self.registry = Registry.from_text(YAML, clock=VirtualClock())
        self.does: Any = None
        self.app = FastAPI(exception_handlers=problem_handlers())  # type: ignore[arg-type]
        dependency = protect(policy, registry=self.registry, **more)
        self.policy = self.registry[policy]

        @self.app.get("/", dependencies=[Depends(dependency)])
        async def endpoint(number: Annotated[int, Query()] = 1) -> Any:
            return await self.does()


@pytest.mark.parametrize(
    ("error", "counts", "status"),
    [
        (HTTPException(404), "succeeded", 404),
        (HTTPException(503), "failed", 503),
        (None, "succeeded", 200),
    ],
)
async def test_an_http_exception_counts_by_its_status(error: Any, counts: str, status: int):
    service = Service()

    async def does() -> str:
        assert service.policy.bulkhead.available_slots() == 0
        if error is not None:
            raise error
        return "ok"

    service.does = does
    assert (await get(service.app)).status == status
    assert getattr(service.policy.circuit_breaker.counts, counts) == 1
    assert service.policy.bulkhead.available_slots() == 1


async def test_an_error_is_a_failure_and_a_bad_request_is_none():
    service = Service()

    async def does() -> None:
        raise ValueError("mine")

    service.does = does
    with pytest.raises(ValueError, match="mine"):
        await get(service.app)
    assert service.policy.circuit_breaker.counts.failed == 1
    request = Request(service.app)
    request.scope["query_string"] = b"number=none"
    assert (await request.done()).status == 422
    assert service.policy.circuit_breaker.counts.failed == 1
    assert service.policy.bulkhead.available_slots() == 1


async def test_a_place_is_held_to_the_last_byte():
    service, go = Service(), asyncio.Event()

    async def parts() -> Any:
        yield b"first"
        await go.wait()
        yield b"last"

    async def does() -> StreamingResponse:
        return StreamingResponse(parts())

    service.does = does
    request = Request(service.app).start()
    await until(lambda: request.body == b"first")
    refused = await get(service.app)
    assert (refused.status, refused.json["reason"]) == (503, "CAPACITY_FULL")
    go.set()
    await request.done()
    assert service.policy.bulkhead.available_slots() == 1


async def test_a_client_that_leaves_a_stream_gives_its_place_back():
    service = Service()

    async def parts() -> Any:
        yield b"first"
        await asyncio.Event().wait()

    async def does() -> StreamingResponse:
        return StreamingResponse(parts())

    service.does = does
    request = Request(service.app).start()
    await until(lambda: request.body == b"first")
    request.leave()
    await request.done()
    assert service.policy.bulkhead.available_slots() == 1
    assert service.policy.circuit_breaker.counts.failed == 0


async def test_what_takes_too_long_is_cut_and_504():
    service, cut, began = Service("quick"), asyncio.Event(), asyncio.Event()

    async def does() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cut.set()

    service.does = does
    request = Request(service.app).start()
    await began.wait()
    clock = service.registry.clock
    assert isinstance(clock, VirtualClock)
    await clock.advance(0.03)
    await request.done()
    assert (request.status, request.json["detail"]) == (504, "The answer was not ready in time.")
    assert cut.is_set()


async def test_a_key_comes_from_the_connection():
    service = Service("client", key=get_client_ip)

    async def does() -> str:
        return "ok"

    service.does = does
    statuses = [(await get(service.app, client=(who, 1))).status for who in ("a", "b", "a")]
    assert statuses == [200, 200, 429]
    refused = await get(service.app, client=("b", 1))
    assert refused.headers["retry-after"] == "60"
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json == {
        "type": "about:blank", "title": "Too Many Requests", "status": 429,
        "detail": "Too many requests in this time.", "reason": "RATE_LIMIT_EXCEEDED",
    }  # fmt: skip


async def test_a_websocket_holds_its_place_to_its_end():
    registry = Registry.from_text(YAML)
    app = FastAPI()
    add_problem_handlers(app)
    places = registry["page"].bulkhead

    @app.websocket("/", dependencies=[Depends(protect("page", registry=registry))])
    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        while True:
            await websocket.receive_text()

    first = Socket(app)
    assert (await asyncio.wait_for(first.said.get(), 15))["type"] == "websocket.accept"
    assert places.available_slots() == 0
    second = Socket(app)
    assert await asyncio.wait_for(second.said.get(), 15) == {"type": "websocket.close", "code": 1013, "reason": ""}
    await second.task
    first.heard.put_nowait({"type": "websocket.disconnect", "code": 1001})
    with contextlib.suppress(WebSocketDisconnect):
        await first.task
    assert places.available_slots() == 1
    assert (places.counts.failed, places.counts.neutral) == (0, 1)


async def test_the_dependency_may_stand_in_an_annotation():
    app = FastAPI()

    @app.get("/")
    async def endpoint(guard: Guarded) -> int:
        return OWN["page"].bulkhead.available_slots()

    assert (await get(app)).json == 0
    assert OWN["page"].bulkhead.available_slots() == 1


async def test_a_refusal_within_an_endpoint_is_a_problem_too():
    app, registry = FastAPI(), Registry.from_text(YAML)
    add_problem_handlers(app)
    registry["broken"].circuit_breaker.force_open("a secret of ours")

    @app.get("/")
    async def endpoint() -> None:
        await registry["broken"].call(asyncio.sleep, 0)

    request = await get(app)
    assert (request.status, request.json["reason"]) == (503, "CIRCUIT_OPEN")
    assert "retry-after" not in request.headers  # forced: nobody knows
    assert b"secret" not in request.body
    assert b"broken" not in request.body


async def test_a_dependency_names_a_policy_that_the_start_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(names, "_default", set())
    protect("pgae")
    file = tmp_path / "resilience.yaml"
    file.write_text(YAML)
    with pytest.raises(UnknownPolicyError, match="did you mean 'page'"):
        async with Lifespan(FastAPI(lifespan=resilience_lifespan(file))):
            pass


async def test_the_lifespan_loads_watches_and_hands_out_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(names, "_default", set())
    file = tmp_path / "resilience.yaml"
    file.write_text("{version: 1, policies: {page: {rate_limiter: 1/minute}}}")
    app = FastAPI(lifespan=resilience_lifespan(file))

    @app.get("/", dependencies=[Depends(protect("page"))])
    async def endpoint() -> str:
        return "ok"

    add_problem_handlers(app)
    async with Lifespan(app) as state:
        registry = state["resilience"]
        assert registry is get_registry()
        assert [(await get(app)).status for _ in range(2)] == [200, 429]
        file.write_text("{version: 1, policies: {page: {rate_limiter: 1000/second}}}")
        await until(lambda: registry.generation == 2)
        await until(lambda: registry["page"].rate_limiter.left(ANYONE)[0] > 0)
        assert (await get(app)).status == 200
        assert registry.status()["watcher"]["alive"]
    assert not registry.status()["watcher"]["alive"]


async def test_the_openapi_document_tells_of_problems():
    app = FastAPI(responses=problem_responses())

    @app.get("/")
    async def endpoint() -> str:
        return "ok"

    told = app.openapi()["paths"]["/"]["get"]["responses"]
    assert [list(told[status]["content"]) for status in ("429", "503", "504")] == [["application/problem+json"]] * 3


async def test_the_lifespan_of_the_app_runs_within():
    steps = []

    @contextlib.asynccontextmanager
    async def own(app: FastAPI) -> Any:
        steps.append("up")
        yield {"mine": 1}
        steps.append("down")

    registry = Registry.from_text(YAML)
    app = FastAPI(lifespan=resilience_lifespan(registry, watch=False, inner=own))
    async with Lifespan(app) as state:
        assert state == {"resilience": registry, "mine": 1}
        assert not registry.status()["watcher"]["alive"]  # type: ignore[index]
    assert steps == ["up", "down"]


async def test_a_bad_file_fails_the_start(tmp_path: Path):
    file = tmp_path / "resilience.yaml"
    file.write_text("{version: 1, policies: {page: {bulkhaed: 1}}}")
    with pytest.raises(ConfigError, match="bulkhaed"):
        async with Lifespan(FastAPI(lifespan=resilience_lifespan(file))):
            pass


async def test_a_returned_response_is_judged_by_its_status_where_classify_names_it():
    registry = Registry.from_text(
        "{version: 1, policies: {p: {classify: {failure: {status: [503]}}, circuit_breaker: {failure_threshold: 9}}}}"
    )
    app = FastAPI()

    @app.get("/{status}", response_model=None)
    @resilient("p", registry=registry)
    async def endpoint(status: int) -> Response:
        return Response(status_code=status)

    assert [(await get(app, path)).status for path in ("/200", "/404", "/503")] == [200, 404, 503]
    counts = registry["p"].circuit_breaker.counts
    assert (counts.succeeded, counts.failed) == (2, 1)
