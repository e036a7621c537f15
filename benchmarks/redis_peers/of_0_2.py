"""aioresilience 0.2.1."""

from __future__ import annotations

from aioresilience.rate_limiting import RedisRateLimiter


async def make(url: str, name: str):
    limiter = RedisRateLimiter("bench")
    await limiter.init_redis(url)
    return lambda: limiter.check_rate_limit("key", "1000000/second"), limiter.close
