"""throttled-py: GCRA."""

from __future__ import annotations

from throttled.asyncio import RateLimiterType, RedisStore, Throttled, per_sec


async def make(url: str, name: str):
    throttle = Throttled(
        using=RateLimiterType.GCRA.value, quota=per_sec(1_000_000, burst=1_000_000),
        store=RedisStore(server=url, options={"CONNECTION_POOL_KWARGS": {"max_connections": 2000}}),
    )  # fmt: skip

    async def close() -> None:
        return None

    return lambda: throttle.limit("key"), close
