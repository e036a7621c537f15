"""0.2's `RedisRateLimiter`: its names, and what it promised: never more than the permits within any period."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from aioresilience import RedisRateLimiter
from aioresilience.testing import EventLog
from tests.redis.servers import Server, free_port


@pytest.fixture
async def limiter() -> AsyncIterator[RedisRateLimiter]:
    one = RedisRateLimiter(f"test-{uuid.uuid4().hex[:8]}")
    yield one
    await one.close()


async def test_it_admits_the_permits_and_no_more(limiter, one_server: Server):
    await limiter.init_redis(one_server.url)
    results = await asyncio.gather(*[limiter.check_rate_limit("user", "10/hour") for _ in range(50)])
    assert results == [True] * 10 + [False] * 40
    assert await limiter.check_rate_limit("another", "10/hour")
    assert await limiter.check_rate_limit("user", "20/hour"), "another rate is another limit"


async def test_two_of_a_name_share_the_limit(limiter, one_server: Server):
    other = RedisRateLimiter(limiter.name)
    await limiter.init_redis(redis_url=one_server.url)
    await other.init_redis(redis_url=one_server.url)
    try:
        results = [await one.check_rate_limit("k", "5/hour") for one in (limiter, other) * 4]
        assert results.count(True) == 5
    finally:
        await other.close()


async def test_a_client_says_where_the_server_is_and_stays_the_callers(limiter, one_server: Server):
    client = redis.asyncio.Redis.from_url(one_server.url)
    await limiter.init_redis(redis_client=client)
    assert limiter.redis_client is client
    assert await limiter.check_rate_limit("k", "1/hour")
    await limiter.close()
    assert await client.ping()
    await client.aclose()


async def test_something_else_than_a_client_is_a_mistake(limiter):
    with pytest.raises(TypeError, match="redis_url"):
        await limiter.init_redis(redis_client=object())  # type: ignore[arg-type]


async def test_the_variable_says_where_the_server_is(limiter, one_server: Server, monkeypatch):
    monkeypatch.setenv("REDIS_URL", one_server.url)
    await limiter.init_redis()
    assert limiter.get_stats()["connected"]


async def test_stats_have_the_keys_of_0_2(limiter, one_server: Server):
    assert limiter.get_stats() == {"name": limiter.name, "type": "redis", "connected": False, "degraded": 0}
    await limiter.init_redis(one_server.url)
    assert limiter.get_stats()["connected"] is True
    await limiter.close()
    assert limiter.get_stats()["connected"] is False
    await limiter.close()


async def test_before_init_it_says_what_to_do(limiter):
    with pytest.raises(RuntimeError, match="init_redis"):
        await limiter.check_rate_limit("k", "1/hour")


@pytest.mark.parametrize("rate", ["", "10", "0/second", "ten/second", "1/fortnight"])
async def test_a_malformed_rate_is_an_error(limiter, one_server: Server, rate):
    await limiter.init_redis(one_server.url)
    with pytest.raises(ValueError, match="not a rate"):
        await limiter.check_rate_limit("k", rate)


async def test_a_server_that_is_not_there_is_an_error_and_then_a_limit_of_this_process(limiter):
    with pytest.raises(ConnectionError, match="does not answer"):
        await limiter.init_redis(f"redis://app:hunter2@127.0.0.1:{free_port()}/0")
    with EventLog("backend_degraded") as log:
        results = [await limiter.check_rate_limit("k", "3/hour") for _ in range(5)]
        assert len(await log.wait_for("backend_degraded", 5)) == 5
    assert results == [True] * 3 + [False] * 2
    assert limiter.get_stats() == {"name": limiter.name, "type": "redis", "connected": False, "degraded": 5}


async def test_two_spellings_of_a_rate_are_one_limit(limiter, one_server: Server):
    await limiter.init_redis(one_server.url)
    assert [await limiter.check_rate_limit("k", rate) for rate in ("1/hour", "01/hour")] == [True, False]
