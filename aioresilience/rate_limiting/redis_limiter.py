"""0.2's limiter on Redis: many keys, each asked for with its rate, never more than the permits within any period."""

from __future__ import annotations

import os
from typing import Final, Protocol

from aioresilience.backends import Backend, BackendConfig, config_of
from aioresilience.backends.checks import FOREIGN, WRONG_TYPE
from aioresilience.clock import SYSTEM_CLOCK
from aioresilience.events import EventEmitter, EventType, PatternType, RateLimitEvent
from aioresilience.rate_limiting.config import RateLimitConfig, RateLimiterConfig, rate_text, read_rate
from aioresilience.rate_limiting.local import LocalRateLimiter
from aioresilience.rate_limiting.remote import RemoteLimit

DEFAULT_URL: Final = "redis://127.0.0.1:6379/0"
MAX_RATES: Final = 1000


class AnyClient(Protocol):
    """A client of the library redis, of any kind; where it points to is taken, not its connections."""

    @property
    def connection_pool(self) -> object:
        """What holds the address and the credentials."""


class RedisRateLimiter:
    """Limits by key and rate in all processes together; the same key at another rate is another limit.

    While the server is away each process limits by itself, every such decision counted in `degraded` and told.
    """

    def __init__(self, name: str = "default") -> None:
        self.name = name
        self.redis_client: AnyClient | None = None
        self.backend: Backend | None = None
        self.events = EventEmitter(name)
        self.degraded = 0
        """Decisions that were made without the server."""
        self._local = LocalRateLimiter(RateLimitConfig(name=name))
        self._limits: dict[str, RemoteLimit] = {}

    async def init_redis(self, redis_url: str | None = None, redis_client: AnyClient | None = None) -> None:
        """Say where the server is: a url, else a client's own address, else the variable REDIS_URL, else this host.

        Raises ValueError for a url that cannot be read, MissingExtraError without the client library, ConnectionError
        where the server does not answer; `check_rate_limit` then limits in this process until it does.
        """
        if redis_url is None and redis_client is not None:
            config = config_of(redis_client)
        else:
            config = BackendConfig(url=redis_url or os.environ.get("REDIS_URL") or DEFAULT_URL)
        await self.close()
        self.redis_client = redis_client
        self.backend = Backend(self.name, config)
        if not await self.backend.answers():
            raise ConnectionError(f"rate limiter {self.name!r}: the server does not answer ({self.backend.reason})")

    async def check_rate_limit(self, key: str, rate: str) -> bool:
        """Take a permit of `key` at a rate such as "100/minute"; False when there is none.

        Raises ValueError for a rate that cannot be read, RuntimeError before `init_redis`.
        """
        limit = self._limits.get(rate) or self._limit(rate)
        place = limit.place(str(key), by_key=True)
        answer = await limit.ask(place, key) if limit.backend.available else None
        if answer is None or answer is FOREIGN:
            reason = limit.backend.reason if answer is None else WRONG_TYPE
            return await self._without_server(key, rate, limit.backend.name, reason)
        if self.events.has_listeners():
            kind = EventType.REQUEST_ALLOWED if answer.granted else EventType.REQUEST_REJECTED
            self._publish(kind, key, rate, answer.remaining, {"retry_after": answer.retry_after})
        return answer.granted

    def _limit(self, rate: str) -> RemoteLimit:
        if self.backend is None:
            raise RuntimeError(f"rate limiter {self.name!r} knows no server yet: await init_redis() first")
        parsed = read_rate(rate)
        config = RateLimiterConfig(rate=parsed, algorithm="sliding_window")
        limit = RemoteLimit(self.backend, f"{self.name}/{rate_text(parsed)}", config, SYSTEM_CLOCK)
        if len(self._limits) >= MAX_RATES:
            self._limits.clear()
        self._limits[rate] = limit
        return limit

    async def _without_server(self, key: str, rate: str, backend: str, reason: str | None) -> bool:
        self.degraded += 1
        if self.events.has_listeners():
            about: dict[str, object] = {"backend": backend, "reason": reason, "in_use": "local"}
            self._publish(EventType.BACKEND_DEGRADED, key, rate, 0, about)
        return await self._local.check_rate_limit(key, rate)

    def _publish(self, kind: EventType, key: str, rate: str, left: int, metadata: dict[str, object]) -> None:
        permits = read_rate(rate).permits
        event = RateLimitEvent(
            PatternType.RATE_LIMITER, kind, self.name, metadata=metadata,
            user_id=str(key), limit=rate, current_count=permits - left, remaining=left,
        )  # fmt: skip
        self.events.publish(event)

    async def close(self) -> None:
        """Close the connections; a client that was given stays open. `init_redis` opens them again."""
        backend, self.backend, self.redis_client = self.backend, None, None
        self._limits.clear()
        if backend is not None:
            await backend.aclose()

    def get_stats(self) -> dict[str, object]:
        """Return the name, whether the server answers, and how often it was done without."""
        backend = self.backend
        return {
            "name": self.name,
            "type": "redis",
            "connected": backend is not None and backend.available,
            "degraded": self.degraded,
        }
