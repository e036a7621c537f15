"""limits: the moving window, which is exact."""

from __future__ import annotations

from limits import parse
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter


async def make(url: str, name: str):
    storage = RedisStorage(f"async+{url}", implementation="redispy", max_connections=2000)
    limiter, item = MovingWindowRateLimiter(storage), parse("1000000/second")

    async def close() -> None:
        return None

    return lambda: limiter.hit(item, "key"), close
