"""0.2's limiter: many keys, each asked for with its rate."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final
from weakref import WeakKeyDictionary

from aiolimiter import AsyncLimiter

from aioresilience.clock import SYSTEM_CLOCK, Clock
from aioresilience.events import EventEmitter, EventType, PatternType, RateLimitEvent
from aioresilience.exceptions import ExceptionConfig, ExceptionHandler, RateLimitExceededError, RateLimitReason
from aioresilience.rate_limiting.buckets import OVERFLOW, Census
from aioresilience.rate_limiting.config import RateLimitConfig, rate_text, read_rate
from aioresilience.rate_limiting.gcra import Gcra
from aioresilience.rate_limiting.limit import Limit, Ticket
from aioresilience.units import Rate

MAX_RATES: Final = 100
IDLE: Final = 60.0
"""Seconds: beyond `MAX_RATES`, rates are forgotten that rest so long after their buckets have drained."""

Handed = dict[str, AsyncLimiter]


class LocalRateLimiter:
    """Limits by key and rate, in this process; the same key at another rate is another limit.

    `check_rate_limit` and `acquire` spend from one state, exact for any number of loops and threads. Keys are bounded
    by `max_limiters`; no live limit is ever dropped: beyond the bound, new keys of a rate share one limit.
    """

    def __init__(
        self,
        config: RateLimitConfig | None = None,
        exceptions: ExceptionConfig | None = None,
        *,
        name: str | None = None,
        service_name: str | None = None,
        max_limiters: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.config = _config(config or RateLimitConfig(), service_name if name is None else name, max_limiters)
        self.name = self.config.name
        self.max_limiters = self.config.max_limiters
        self.clock: Clock = clock or SYSTEM_CLOCK
        self.events = EventEmitter(self.name)
        self.overflowed = 0
        """Checks that went to the limit which new keys share."""
        self._handler = None if exceptions is None else ExceptionHandler.of(exceptions, self.name, "rate_limiter")
        self._census = Census(self.max_limiters)
        self._limits: dict[str, Limit] = {}
        self._handed: WeakKeyDictionary[asyncio.AbstractEventLoop, Handed] = WeakKeyDictionary()

    async def check_rate_limit(self, key: str, rate: str) -> bool:
        """Take a permit of `key` at a rate such as "100/minute"; False when there is none.

        Raises ValueError for a rate that cannot be read.
        """
        limit = self._limit(rate)
        ticket = self._take(limit, _text(key))
        if ticket is None:
            await self._refused(limit, key, rate)
            return False
        self._allowed(ticket, key, rate)
        return True

    async def acquire(self, key: str, rate: str) -> None:
        """Take a permit of `key` at a rate such as "100/minute"; raise RateLimitExceededError when there is none.

        Raises ValueError for a rate that cannot be read.
        """
        limit = self._limit(rate)
        ticket = self._take(limit, _text(key))
        if ticket is None:
            raise await self._refused(limit, key, rate)
        self._allowed(ticket, key, rate)

    async def get_limiter(self, key: str, rate: str) -> AsyncLimiter:
        """Return an aiolimiter `AsyncLimiter` of `key` for the running loop, made on first use.

        It counts by itself: neither `check_rate_limit` nor `acquire` sees what is spent there. Use it at once, as
        in `async with await limiter.get_limiter(key, rate):`; when `max_limiters` are held, idle ones are
        forgotten, and where none is idle new keys of a rate share one.
        """
        parsed = read_rate(_rate(rate))
        handed = self._handed.setdefault(asyncio.get_running_loop(), {})
        rate = rate_text(parsed)
        name = f"{key}:{rate}"
        if name not in handed and len(handed) >= self.max_limiters:
            _forget_idle(handed)
            if len(handed) >= self.max_limiters:
                name = f"{OVERFLOW}:{rate}"
        if name not in handed:
            handed[name] = AsyncLimiter(parsed.permits, parsed.period)
        return handed[name]

    def _limit(self, rate: str) -> Limit:
        limit = self._limits.get(_rate(rate))
        return self._new_limit(rate) if limit is None else limit

    def _new_limit(self, rate: str) -> Limit:
        parsed = read_rate(rate)
        with self._census.lock:
            self._forget_rates()
            limit = self._limits.get(rate) or self._known(parsed)
            if limit is None:
                table = Gcra(parsed, parsed.permits, self._census)
                self._census.tables.append(table)
                limit = Limit(table, self.clock, self.events)
            self._limits = self._limits | {rate: limit}
            return limit

    def _known(self, rate: Rate) -> Limit | None:
        """Return the limit that another spelling of the rate has made."""
        return next((limit for limit in self._limits.values() if limit.table.rate == rate), None)

    def _forget_rates(self) -> None:
        if len(self._limits) < MAX_RATES:
            return
        now = self.clock.monotonic() - IDLE
        kept = {text: limit for text, limit in self._limits.items() if limit.lines or not limit.table.rests(now)}
        self._limits = kept
        self._census.tables = list(dict.fromkeys(limit.table for limit in kept.values()))

    def _bucket(self, limit: Limit, key: str) -> str:
        if not limit.table.crowded_out(key, self.clock.monotonic()):
            return key
        self.overflowed += 1
        self._publish(EventType.KEY_OVERFLOW, None, None, 0, 0)
        return OVERFLOW

    def _take(self, limit: Limit, key: str) -> Ticket | None:
        ticket = limit.take(key)
        if ticket is None and (bucket := self._bucket(limit, key)) != key:
            ticket = limit.take(bucket)
        return ticket

    def _allowed(self, ticket: Ticket, key: str, rate: str) -> None:
        if self.events.has_listeners():
            table, bucket, _ = ticket
            left = table.remaining(bucket, self.clock.monotonic())
            self._publish(EventType.REQUEST_ALLOWED, key, rate, left, table.burst)

    async def _refused(self, limit: Limit, key: str, rate: str) -> BaseException:
        """Tell of a refusal; return the error of those who raise it."""
        bucket = OVERFLOW if limit.table.crowded_out(_text(key), self.clock.monotonic()) else _text(key)
        error = RateLimitExceededError(
            f"rate limiter {self.name!r}: {rate} exceeded",
            self.name, "rate_limiter", RateLimitReason.RATE_LIMIT_EXCEEDED,
            retry_after=limit.delay(bucket), key=key, rate=rate,
        )  # fmt: skip
        self._publish(EventType.REQUEST_REJECTED, key, rate, 0, limit.table.burst)
        handler = self._handler
        if handler is None:
            return error
        context = handler.context(RateLimitReason.RATE_LIMIT_EXCEEDED, key=key, rate=rate)
        await handler.notify(context)
        return handler.build(context, message=str(error), default=error)

    def _publish(self, kind: EventType, key: str | None, rate: str | None, left: int, burst: int) -> None:
        if self.events.has_listeners():
            user = None if key is None else _text(key)
            event = RateLimitEvent(
                PatternType.RATE_LIMITER, kind, self.name, metadata={"overflowed": self.overflowed},
                user_id=user, limit=rate, current_count=burst - left, remaining=left,
            )  # fmt: skip
            self.events.publish(event)

    @property
    def limiters(self) -> dict[str, AsyncLimiter | None]:
        """The live limits as "key:rate", with the AsyncLimiter where `get_limiter` handed one out."""
        found: dict[str, AsyncLimiter | None] = dict.fromkeys(self._names())
        for handed in list(self._handed.values()):
            found.update(handed)
        return found

    def _names(self) -> Iterator[str]:
        now = self.clock.monotonic()
        for table in list(self._census.tables):
            with self._census.lock:
                yield from [f"{key}:{rate_text(table.rate)}" for key, _ in table.live(now)]

    def get_stats(self) -> dict[str, object]:
        """Return the name, the number of live limits and its bound."""
        return {
            "name": self.name,
            "active_limiters": len(self.limiters),
            "max_limiters": self.max_limiters,
            "type": "local",
        }


RateLimiter = LocalRateLimiter
"""The name that 0.2 gave it too."""


def _config(config: RateLimitConfig, name: str | None, max_limiters: int | None) -> RateLimitConfig:
    return RateLimitConfig(
        name=config.name if name is None else name,
        max_limiters=config.max_limiters if max_limiters is None else max_limiters,
    )


def _rate(rate: object) -> str:
    if not isinstance(rate, str):
        raise ValueError(f"a rate is a text such as '100/minute', not {rate!r}")
    return rate


def _text(key: object) -> str:
    return key if isinstance(key, str) and key.__class__ is str else str(key)


def _forget_idle(handed: Handed) -> None:
    """Forget those that have drained, which equal new ones."""
    for name in [name for name, limiter in handed.items() if limiter.has_capacity(limiter.max_rate)]:
        del handed[name]
