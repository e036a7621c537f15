"""pyrate-limiter: its bucket on Redis, not waiting."""

from __future__ import annotations

import redis.asyncio as redis
from pyrate_limiter import Limiter, Rate, RedisBucket


async def make(url: str, name: str):
    client = redis.Redis.from_url(url, max_connections=2000)
    bucket = await RedisBucket.init([Rate(1_000_000, 1000)], client, "key")
    limiter = Limiter(bucket)
    return lambda: limiter.try_acquire_async("key", blocking=False), client.aclose
