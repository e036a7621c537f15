"""Cancelled, or left by the client, at every step of the loop: nothing stays behind, nothing is counted as failed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse

from aioresilience import Registry
from aioresilience.integrations.asgi import PolicyMiddleware
from aioresilience.integrations.fastapi import add_problem_handlers, protect
from tests.integrations.harness import Request, get, until
from tests.sweep import sweep

YAML = """
version: 1
policies:
  all:
    deadline: 30s
    load_shedder: {max_requests: 2}
    backpressure: {max_pending: 9, high_water_mark: 2, low_water_mark: 1}
    circuit_breaker: {failure_threshold: 1}
    rate_limiter: {rate: 1000000/second}
    adaptive_concurrency: {initial_limit: 2, min_limit: 1}
    bulkhead: {max_concurrent: 1, max_waiting: 1}
    timeout: 20s
"""
STEPS = 40


class Stack:
    """An app of several turns of the loop under every guard and bound, as a middleware or as a dependency."""

    def __init__(self, way: str) -> None:
        self.registry = Registry.from_text(YAML)
        self.policy = self.registry["all"]
        inner = FastAPI()
        dependencies = [Depends(protect("all", registry=self.registry))] if way == "dependency" else []
        inner.post("/", dependencies=dependencies)(self.endpoint)
        add_problem_handlers(inner)
        self.app = inner if way == "dependency" else PolicyMiddleware(inner, self.registry, policy="all")

    async def endpoint(self, body: dict[str, int]) -> StreamingResponse:
        async def parts() -> Any:
            for _ in range(3):
                yield b"part"
                await asyncio.sleep(0)

        await asyncio.sleep(0)
        return StreamingResponse(parts())

    def request(self, **more: Any) -> Request:
        json = [("content-type", "application/json")]
        return Request(self.app, method="POST", headers=json, body=[b'{"a"', b": 1}"], **more)

    def is_clean(self) -> None:
        policy = self.policy
        held = {
            "bulkhead": policy.bulkhead.machine.active,
            "waiting": policy.bulkhead.machine.queue.waiting,
            "load_shedder": policy.load_shedder.machine.active,
            "backpressure": policy.backpressure.machine.pending,
            "adaptive": policy.adaptive_concurrency.machine.active,
        }
        assert held == dict.fromkeys(held, 0)
        assert policy.circuit_breaker.counts.failed == 0
        counts = policy.bulkhead.counts
        assert counts.started == counts.succeeded + counts.neutral

    async def serves(self) -> None:
        answer = await self.request().done()
        assert (answer.status, answer.body) == (200, b"part" * 3)


@pytest.fixture(params=["middleware", "dependency"])
def stack(request: pytest.FixtureRequest) -> Stack:
    return Stack(str(request.param))


async def test_cancelled_at_any_step(stack: Stack):
    def make() -> Any:
        request = stack.request()
        return stack.app(request.scope, request.receive, request.send)

    await sweep(make, stack.is_clean, steps=STEPS, settle=stack.serves)


@pytest.mark.parametrize("breaks", [False, True])
async def test_left_by_the_client_at_any_step(stack: Stack, breaks: bool):
    for step in range(STEPS):
        request = stack.request(breaks=breaks, version="2.4" if breaks else "2.3").start()
        for _ in range(step):
            await asyncio.sleep(0)
        request.leave()
        await asyncio.wait([request.task], timeout=30)  # type: ignore[list-item]
        assert request.task.done()  # type: ignore[union-attr]
        if not request.task.cancelled():  # type: ignore[union-attr]
            request.task.exception()  # type: ignore[union-attr]  # ClientDisconnect is the app's to raise
        stack.is_clean()
        await stack.serves()


async def test_cancelled_at_any_step_while_another_is_served(stack: Stack):
    for step in range(STEPS):
        first, second = stack.request().start(), stack.request().start()
        for _ in range(step):
            await asyncio.sleep(0)
        second.task.cancel()  # type: ignore[union-attr]
        await asyncio.wait([second.task], timeout=30)  # type: ignore[list-item]
        assert (await first.done()).body == b"part" * 3
        for _ in range(3):
            await asyncio.sleep(0)
        stack.is_clean()


async def test_a_crowd_at_once_under_every_guard(stack: Stack):
    requests = [stack.request().start() for _ in range(300)]
    for request in requests:
        await request.done()
    assert {request.status for request in requests} == {200, 503}
    stack.is_clean()


async def test_both_ways_at_once_count_every_request():
    stack = Stack("middleware")
    assert (await get(stack.app, "/absent", "POST")).status == 404
    assert stack.policy.circuit_breaker.counts.succeeded == 1


async def test_a_thousand_at_once_with_late_bodies_while_the_policy_changes():
    registry = Registry.from_text("{version: 1, policies: {all: {load_shedder: {max_requests: 100}}}}")
    go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    guarded = PolicyMiddleware(app, registry, policy="all")
    body = [b"part"] * 3
    first = [Request(guarded, method="POST", body=body).start() for _ in range(1000)]
    await until(lambda: sum(request.status == 503 for request in first) == 900)
    registry.apply("{version: 1, policies: {all: {load_shedder: {max_requests: 150}, bulkhead: 20}}}")
    second = [Request(guarded, method="POST", body=body).start() for _ in range(100)]
    await until(lambda: sum(request.status == 503 for request in second) == 80)
    go.set()
    for request in first + second:
        await request.done()
    assert [sum(request.status == 200 for request in crowd) for crowd in (first, second)] == [100, 20]
    policy = registry["all"]
    assert (policy.load_shedder.machine.active, policy.bulkhead.machine.active) == (0, 0)
    assert (policy.load_shedder.counts.succeeded, policy.bulkhead.counts.succeeded) == (120, 20)
