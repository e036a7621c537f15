"""A decorated method is a method, a decorated endpoint an endpoint: under every pattern and under all of them."""

from __future__ import annotations

import asyncio
import inspect
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI, Header

from aioresilience import Registry, RejectionError, resilient
from aioresilience.policy import BUILTIN, Policy
from aioresilience.scope import sleep
from aioresilience.testing import VirtualClock
from tests.contract.stacks import EVERY, GUARDS, at_rest, fill, key_of, make

PATTERN = pytest.mark.parametrize("cls", [*EVERY, None], ids=lambda cls: "all of them" if cls is None else cls.key)


def policy_of(cls, clock: VirtualClock) -> Policy:
    return Policy("mine", [make(one, clock) for one in (BUILTIN if cls is None else [cls])], clock=clock)


@PATTERN
async def test_a_decorated_method_is_a_method(cls):
    policy = policy_of(cls, VirtualClock())

    class Client:
        base = "base"

        def __init__(self, name: str) -> None:
            self.name = name

        @policy
        async def get(self, path: str, *, times: int = 1) -> str:
            """Get."""
            await asyncio.sleep(0)
            return f"{self.name}:{path}" * times

        @classmethod
        @policy
        async def of_class(cls) -> str:
            return cls.base

    one, other = Client("one"), Client("other")
    assert await one.get("/a", times=2) == "one:/aone:/a"
    assert await Client.get(other, "/b") == "other:/b"
    assert one.get.__self__ is one
    assert Client.get.__doc__ == "Get."
    assert inspect.iscoroutinefunction(one.get)
    for pattern in policy.patterns:
        at_rest(pattern)


async def test_a_static_method_runs_under_its_policy():
    policy = policy_of(None, VirtualClock())

    class Client:
        @staticmethod
        @policy
        async def get(path: str) -> str:
            return path

    assert await Client.get("/a") == await Client().get("/a") == "/a"


async def user(x_user: Annotated[str, Header()]) -> str:
    return x_user


def app_of(policy: Policy) -> FastAPI:
    app = FastAPI()

    @app.get("/items/{item}")
    @policy
    async def read(item: int, who: Annotated[str, Depends(user)], more: bool = False) -> dict[str, object]:
        await asyncio.sleep(0)
        return {"item": item, "who": who, "more": more}

    return app


def client_of(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service")


@PATTERN
async def test_a_decorated_endpoint_is_an_endpoint(cls):
    policy = policy_of(cls, VirtualClock())
    app = app_of(policy)
    async with client_of(app) as client:
        answer = await client.get("/items/7?more=true", headers={"X-User": "ada"})
        assert (answer.status_code, answer.json()) == (200, {"item": 7, "who": "ada", "more": True})
        assert (await client.get("/items/seven", headers={"X-User": "ada"})).status_code == 422
        assert (await client.get("/items/7")).status_code == 422, "its dependency is still asked for"
    names = [parameter["name"] for parameter in app.openapi()["paths"]["/items/{item}"]["get"]["parameters"]]
    assert sorted(names) == ["item", "more", "x-user"]
    for pattern in policy.patterns:
        at_rest(pattern)


@pytest.mark.parametrize("cls", [cls for cls in GUARDS if cls.key != "backpressure"], ids=key_of)
async def test_an_endpoint_behind_a_full_guard_raises_the_rejection(cls):
    clock = VirtualClock()
    policy = policy_of(cls, clock)
    tasks = await fill(policy.patterns[0], clock)
    async with client_of(app_of(policy)) as client:
        with pytest.raises(cls.error_type):
            await client.get("/items/7", headers={"X-User": "ada"})
    await clock.advance(60)
    await asyncio.gather(*tasks)
    at_rest(policy.patterns[0])


async def test_a_resilient_endpoint_and_method_follow_the_registry():
    text = "version: 1\npolicies:\n  api: {rate_limiter: 1/minute, bulkhead: 5, timeout: 1s}\n"
    clock = VirtualClock()
    registry = Registry.from_text(text, clock=clock, environ={})

    class Service:
        @resilient("api", registry=registry)
        async def answer(self, value: int) -> int:
            await sleep(0, clock)
            return value

    service = Service()
    assert await service.answer(3) == 3
    with pytest.raises(RejectionError) as caught:
        await service.answer(3)
    assert (caught.value.policy, caught.value.pattern_type) == ("api", "rate_limiter")
