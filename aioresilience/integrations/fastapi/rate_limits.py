"""0.2's rate limits for requests, per client."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from aioresilience.integrations.asgi.callers import ClientAddress
from aioresilience.integrations.extras import extra
from aioresilience.integrations.fastapi.base import made

with extra("fastapi", "Starlette"):
    from starlette.exceptions import HTTPException
    from starlette.requests import HTTPConnection, Request


class ChecksRates(Protocol):
    """What LocalRateLimiter and RedisRateLimiter have in common."""

    async def check_rate_limit(self, key: str, rate: str) -> bool:
        """Take a permit of the key; False when there is none."""


def get_client_ip(request: HTTPConnection, trusted_proxies: Iterable[str] = ()) -> str:
    """Return the client's address, "unknown" where the server gives none.

    `X-Forwarded-For` counts only where a trusted proxy (an address, a network, or "unix") sends it.
    """
    return _addresses(tuple(trusted_proxies))(request.scope)


@functools.lru_cache(maxsize=64)
def _addresses(trusted_proxies: tuple[str, ...]) -> ClientAddress:
    return ClientAddress(trusted_proxies)


def rate_limit_dependency(
    rate_limiter: ChecksRates,
    rate: str,
    error_message: str = "Rate limit exceeded",
    status_code: int = 429,
    retry_after: int = 60,
    key_func: Callable[[Request], object] | None = None,
) -> Callable[[Request], Awaitable[None]]:
    """Make a dependency that refuses a client's requests beyond the rate, such as "100/minute".

    The key is the client's address, or what `key_func(request)` gives, which may be async.
    """

    async def check_rate_limit(request: Request) -> None:
        key = get_client_ip(request) if key_func is None else str(await made(key_func(request)))
        if not await rate_limiter.check_rate_limit(key, rate):
            raise HTTPException(status_code, f"{error_message}: {rate}", {"Retry-After": str(retry_after)})

    # FastAPI reads the annotation as text, and looks for its name beside the function.
    check_rate_limit.__annotations__ = {"request": Request, "return": None}
    return check_rate_limit
