"""aioresilience of this tree: a function decorated with a policy of one limit, leased or not, or `RedisRateLimiter`."""

from __future__ import annotations

import itertools

from aioresilience import Policy, RedisRateLimiter
from aioresilience.backends import Backend, BackendConfig
from aioresilience.rate_limiting import FleetRateLimit, RateLimiterConfig


async def nothing() -> None:
    return None


async def make(url: str, name: str):
    if name == "RedisRateLimiter":
        limiter = RedisRateLimiter("bench")
        await limiter.init_redis(url)
        return lambda: limiter.check_rate_limit("key", "1000000/second"), limiter.close
    backend = Backend("bench", BackendConfig(url=url, timeout=5.0, slow=5.0))
    each = name == "a key each"
    config = RateLimiterConfig(
        rate="1000000/second", lease="auto" if name == "leased" else None, scope="key" if each else "policy"
    )
    policy = Policy("bench", [FleetRateLimit("bench", config, backend=backend)])
    if not each:
        return policy(nothing), backend.aclose
    keys = itertools.cycle([f"user-{number}" for number in range(1000)])
    return lambda: policy.bind(key=next(keys)).call(nothing), backend.aclose
