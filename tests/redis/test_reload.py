"""What a reload does to a backend: the next check goes where the document says, and nothing is left open."""

from __future__ import annotations

import asyncio
import threading

import pytest

from aioresilience import RateLimitExceededError, Registry
from aioresilience.testing import EventLog, VirtualClock
from tests.redis.servers import Server, server

TEXT = """
version: 1
backends: {{main: {{type: redis, url: '{url}', prefix: '{prefix}', timeout: 10s, slow: 10s}}}}
policies: {{p: {{rate_limiter: {{rate: 10/hour, lease: 4, backend: main}}}}, q: {{rate_limiter: 3/hour}}}}
"""


async def ok() -> str:
    return "ok"


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("aioresilience-backend")]


async def test_another_address_holds_from_the_next_check_on_and_leases_go_back(one_server: Server):
    with server() as other:
        at_rest = VirtualClock()  # a lease lives for a second
        registry = Registry.from_text(TEXT.format(url=one_server.url, prefix="reload"), environ={}, clock=at_rest)
        try:
            policy = registry.get("p")
            limit = policy.rate_limiter
            await policy.call(ok)
            assert limit.status()["lease_left"] == 4
            result = await registry.aapply(TEXT.format(url=other.url, prefix="reload"))
            assert [str(change.path) for change in result.changes] == ["backends.main"]
            assert policy.rate_limiter is limit
            assert limit.status()["lease_left"] == 0
            await policy.call(ok)
            with other.client() as client:
                assert client.keys("reload:*gp*")
            with one_server.client() as client:
                [key] = client.keys("reload:*gp*")
                async with asyncio.timeout(30):
                    while float(client.get(key).split(":")[0]) > 1.01:
                        await asyncio.sleep(0.01)
        finally:
            await registry.aclose()


@pytest.mark.parametrize("moves", ["url", "prefix", "password"])
async def test_another_place_is_no_free_refill_and_another_password_is_no_other_place(one_server: Server, moves: str):
    with server() as other, EventLog() as log:
        text = TEXT.replace(", lease: 4", "")
        here = text.format(url=one_server.url, prefix=f"moves-{moves}")
        there = {
            "url": text.format(url=other.url, prefix=f"moves-{moves}"),
            "prefix": text.format(url=one_server.url, prefix="moved"),
            "password": here.replace("redis://", "redis://default:@"),
        }[moves]
        registry = Registry.from_text(here, environ={})
        try:
            policy = registry.get("p")
            for _ in range(6):
                await policy.call(ok)
            result = await registry.aapply(there)
            for _ in range(4):
                await policy.call(ok)
            with pytest.raises(RateLimitExceededError):
                await policy.call(ok)
            moved = moves != "password"
            assert ("counts anew" in str(result)) is moved
            if moved:
                await log.wait_for("state_restarted")
            else:
                assert not log.of("state_restarted")
        finally:
            await registry.aclose()


async def test_a_backend_that_the_document_drops_goes_on_for_a_retired_policy(one_server: Server):
    text = TEXT.format(url=one_server.url, prefix="retired")
    registry = Registry.from_text(text, environ={})
    try:
        policy = registry.get("p")
        await policy.call(ok)
        await registry.aapply("version: 1\nsettings: {shrink: allow}\npolicies: {q: {rate_limiter: 3/hour}}")
        async with asyncio.timeout(30):
            while _threads():
                await asyncio.sleep(0.01)
        await policy.call(ok)
        assert policy.rate_limiter.status()["degraded"] == 0
        assert registry.status()["backends"]["main"]["available"]
    finally:
        await registry.aclose()


async def test_building_and_closing_a_registry_that_nobody_called_starts_nothing(one_server: Server):
    registry = Registry.from_text(TEXT.format(url=one_server.url, prefix="idle"), environ={})
    registry.get("p")
    assert not _threads()
    await registry.aclose()


async def test_a_closed_backend_opens_again_at_the_next_call(one_server: Server):
    registry = Registry.from_text(TEXT.format(url=one_server.url, prefix="again"), environ={})
    for _ in range(3):
        await registry.get("p").call(ok)
        await registry.aclose()
    assert registry.get("p").rate_limiter.status()["degraded"] == 0
