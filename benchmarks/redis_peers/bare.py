"""redis-py alone: the round trip of a script that does nothing."""

from __future__ import annotations

import redis.asyncio as redis


async def make(url: str, name: str):
    client = redis.Redis.from_url(url, max_connections=2000)
    sha = await client.script_load("return 1")
    return lambda: client.evalsha(sha, 1, "key"), client.aclose
