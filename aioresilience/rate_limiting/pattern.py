"""The rate limiter of a policy."""

from __future__ import annotations

import math
from typing import ClassVar, Final, Self

from aioresilience.calls import Caller
from aioresilience.clock import Clock
from aioresilience.events import EventType, PatternType, RateLimitEvent, ResilienceEvent, audience
from aioresilience.exceptions import (
    ExceptionConfig,
    RateLimitExceededError,
    RateLimitReason,
    RejectionError,
    ResilienceError,
)
from aioresilience.failures import REJECTED, Outcome
from aioresilience.guard import Guard
from aioresilience.rate_limiting.buckets import KEYLESS, OVERFLOW, SHARED, AnyBuckets, Buckets, Census
from aioresilience.rate_limiting.config import RateLimiterConfig, rate_text
from aioresilience.rate_limiting.limit import Limit, Ticket, build

SPARE_PLACES: Final = 100
_NEVER: Final[dict[EventType, float]] = {}


class MissingKeyError(ResilienceError, TypeError):
    """A limit per key was used without a key."""

    pattern_type = "rate_limiter"
    neutral = True


class RateLimit(Guard[RateLimiterConfig]):
    """Limits how many calls start in a time, for the policy or for each key, rejecting or waiting.

    Denied calls consume nothing, and a rejection by a pattern further in gives the permit back. Caps are exact for any
    number of loops and threads.
    """

    key = "rate_limiter"
    config_type = RateLimiterConfig
    pattern_type = PatternType.RATE_LIMITER
    reasons = RateLimitReason
    error_type = RateLimitExceededError
    _limit: Final[Limit]
    told = frozenset()
    splits = True
    on_backend: ClassVar[bool] = False
    """Whether a server counts."""

    def __init__(
        self,
        name: str | None = None,
        config: RateLimiterConfig | None = None,
        exceptions: ExceptionConfig | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        if config is None:
            raise TypeError("a rate limiter needs a rate: RateLimit(config=RateLimiterConfig(rate='100/minute'))")
        self._require_backend(config)
        super().__init__(name, config, exceptions=exceptions, clock=clock)
        self.overflowed = 0
        """Calls that went to the bucket which new keys share while the table is full."""
        self.keyless = 0
        """Calls without a key, where a reload brought in keys."""
        self._keys_came_later = False
        self._told = _NEVER
        self._census = Census(config.max_limiters)
        self._limit = Limit(self._build(config), self.clock, self.events, by_key=config.scope == "key")
        self._census.tables.append(self._limit.table)

    def _require_backend(self, config: RateLimiterConfig) -> None:
        if config.backend is not None and not self.on_backend:
            raise ValueError(
                f"rate_limiter.backend: {config.backend!r} is a name in a file; in Python pass the backend itself: "
                f"FleetRateLimit(config=…, backend=Backend('{config.backend}', BackendConfig(url=…)))"
            )

    def _build(self, config: RateLimiterConfig) -> AnyBuckets:
        return build(config.algorithm, config.rate, config.capacity, self._census, by_key=config.scope == "key")

    def admit(self, caller: Caller) -> object | None:
        """Take a permit if there is one and nobody waits for it."""
        limit = self._limit
        meter = limit.meter
        if meter is not None:
            charge = meter.take(SHARED, limit.monotonic())
            if charge is None:
                return self._admit_slowly(SHARED, caller)
            if audience.steady and self.listening():
                self._allowed((meter, SHARED, charge), None)
            return meter, SHARED, charge
        key: str | None = SHARED
        if limit.by_key:
            key = caller.key
            if key.__class__ is not str:  # none, or a subclass, which may run code of its own when it is hashed
                key = self._bucket(caller)
        if key is None or limit.lines:
            return self._admit_slowly(key, caller)
        table = limit.table
        charge = table.take(key, limit.monotonic())
        if charge is None:
            return self._admit_slowly(key, caller)
        if audience.steady and self.listening():
            self._allowed((table, key, charge), caller.key)
        return table, key, charge

    def _admit_slowly(self, key: str | None, caller: Caller) -> Ticket | None:
        """Admit where somebody waits, the table of keys is full, or the buckets are being replaced."""
        if key is None:
            return None
        ticket = self._limit.take(key)
        if ticket is None:
            ticket = self._in_overflow(key)
        if ticket is not None and self.listening():
            self._allowed(ticket, caller.key)
        return ticket

    def _bucket(self, caller: Caller) -> str | None:
        """Return the bucket of a caller under key scope, None where it must have a key and has none."""
        key = caller.key
        if key is None:
            return self._without_key() if self._keys_came_later else None
        return str(key)

    def _without_key(self) -> str:
        self.keyless += 1
        self._note(EventType.KEY_MISSING)
        return KEYLESS

    def _in_overflow(self, key: str) -> Ticket | None:
        limit = self._limit
        if not self._limit.by_key or not limit.table.crowded_out(key, self.clock.monotonic()):
            return None
        self.overflowed += 1
        self._note(EventType.KEY_OVERFLOW)
        return limit.take(OVERFLOW)

    def _place(self, caller: Caller) -> str:
        """Return the bucket that a refused call was refused by; raises MissingKeyError."""
        if not self._limit.by_key:
            return SHARED
        key = KEYLESS if caller.key is None and self._keys_came_later else caller.key
        if key is None:
            raise MissingKeyError(
                f"rate limiter {self.name!r} limits each key by itself (scope: key), and this call has none: "
                f"bind one, as in policy.bind(key=user_id).call(func), or say key= in the decorator",
                self.name, self.type_name, policy=self.policy,
            )  # fmt: skip
        key = str(key)
        return OVERFLOW if self._limit.table.crowded_out(key, self.clock.monotonic()) else key

    def settle(self, ticket: object, outcome: Outcome, started: float | None) -> None:
        """Give the permit back if a pattern further in refused the call."""
        if outcome is REJECTED:
            self._limit.give_back(ticket)  # type: ignore[arg-type]  # our own ticket

    @property
    def waits(self) -> bool:
        """Whether a call that finds no permit waits for one."""
        return bool(self.config.wait)

    async def wait(self, caller: Caller) -> object:
        """Wait for a permit, no longer than configured; not at all where the deadline would cut the wait."""
        key, limit, longest = self._place(caller), self._limit, self.config.wait
        if not longest or not limit.in_time(key):
            raise self._refuse(key, caller, limit.delay(key))
        ticket = await limit.wait(key, self.clock.monotonic() + longest, self._line_length(longest))
        if ticket is None:
            raise self._refuse(key, caller, limit.delay(key))
        if self.listening():
            self._allowed(ticket, caller.key)
        return ticket

    def _line_length(self, wait: float) -> int:
        """Return how many may wait: as many as the wait can serve, and some whom only refunds or a reload could."""
        return int(wait * self._limit.table.per_second) + SPARE_PLACES

    def refusal(self, caller: Caller) -> RejectionError:
        """Say that the permits are spent, and when the next one is due."""
        try:
            key = self._place(caller)
            return self._refuse(key, caller, self._limit.delay(key))
        except MissingKeyError as error:  # under observe, which must not stop the call
            return self.reject(RateLimitReason.RATE_LIMIT_EXCEEDED, str(error))

    def _refuse(self, key: str, caller: Caller, delay: float | None) -> RejectionError:
        limit = rate_text(self.config.rate)
        details: dict[str, object] = {"key": caller.key} if self._limit.by_key else {}
        whose = " (shared by new keys: the table of keys is full)" if key == OVERFLOW else ""
        return self.reject(
            self._reason(key),
            f"rate limiter {self.name!r}: {limit} exceeded{whose}",
            delay,
            limit=limit,
            **details,
        )

    def _reason(self, key: str) -> RateLimitReason:
        if key == OVERFLOW:
            return RateLimitReason.QUOTA_EXCEEDED
        windowed = self.config.algorithm == "sliding_window"
        return RateLimitReason.WINDOW_EXHAUSTED if windowed else RateLimitReason.RATE_LIMIT_EXCEEDED

    def takes(self, config: RateLimiterConfig) -> bool:
        """Tell whether this instance may go on under the config: whoever counts stays the same."""
        return config.backend == self.config.backend

    def succeed(self, old: RateLimit) -> None:
        """Take over from a limiter that counted elsewhere or for others too, with what it knows to be spent."""
        by_key, before = self._limit.by_key, old._limit
        with before.table.census.lock:  # others may go on with the old one
            if by_key == before.by_key:
                self._limit.replace(self._build(self.config), lambda new, _, now: old.bequeath(new, now))
            else:
                carry = Buckets.split if by_key else Buckets.join
                self._limit.replace(self._build(self.config), lambda new, _, now: carry(new, before.table, now))

    def bequeath(self, heir: AnyBuckets, now: float) -> None:
        """Charge other buckets with the share that is spent here."""
        heir.inherit(self._limit.table, now)

    def spent(self) -> dict[str, int]:
        """Return how many permits of each key this process has spent, as far as they have not been refilled."""
        table, now = self._limit.table, self.clock.monotonic()
        with self._census.lock:
            shares = {key: table.share(entry, now) for key, entry in table.live(now)}
        return {key: math.ceil(share * table.burst - 1e-6) for key, share in shares.items()}

    def retune(self, config: RateLimiterConfig) -> None:
        """Keep the spent share of every bucket, rescaled; another algorithm or scope starts charged with it.

        Never raises, since it runs in the middle of a reload.
        """
        old = self.config
        super().retune(config)
        self._census.limit = config.max_limiters
        if _shape(old) == _shape(config):
            return
        with self._limit.lock:
            self._replace(config)
        if self.listening():
            self._say_changed(old, config)

    def _replace(self, config: RateLimiterConfig) -> None:
        """Replace the buckets; whichever scope another thread sees just now, it finds what is spent."""
        limit, table, by_key = self._limit, self._build(config), config.scope == "key"
        if by_key and not limit.by_key:
            limit.replace(table, Buckets.split)
            self._keys_came_later = limit.by_key = True
        elif limit.by_key and not by_key:
            limit.by_key = False
            limit.replace(table, Buckets.join)
        else:
            limit.replace(table, Buckets.inherit)

    def _kept(self, old: RateLimiterConfig, new: RateLimiterConfig) -> str:
        """Say what a change of algorithm or scope has left of the state."""
        return "the spent share"

    def _say_changed(self, old: RateLimiterConfig, new: RateLimiterConfig) -> None:
        changes: dict[str, object] = {
            field: f"{getattr(old, field)} -> {getattr(new, field)}"
            for field in ("algorithm", "scope")
            if getattr(old, field) != getattr(new, field)
        }
        if changes:
            self._publish(EventType.STATE_RESTARTED, changes | {"kept": self._kept(old, new)})
        limits: dict[str, object] = {"old_limit": rate_text(old.rate), "old_burst": old.capacity, "burst": new.capacity}
        self._publish(EventType.LIMIT_UPDATED, limits)

    def brought_in(self, before: object) -> None:
        """Let calls without a key share a bucket, where they needed none before."""
        needed = isinstance(before, RateLimit) and before._limit.by_key and not before._keys_came_later
        self._keys_came_later = self._keys_came_later or not needed

    def twin(self, name: str) -> Self:
        """Return a limiter with buckets of its own."""
        twin = super().twin(name)
        twin._limit.emitter = self.events
        twin._keys_came_later = self._keys_came_later
        return twin

    def holds_back(self, now: float) -> bool:
        """Tell whether anything of what it allows is spent."""
        return not self._limit.table.rests(now) and self._census.spent(now)

    def left(self, caller: Caller) -> tuple[int, float]:
        """Return how many permits the caller has left in this process, and the seconds until there is one."""
        key, now = self._place(caller), self.clock.monotonic()
        left = self._limit.table.remaining(key, now)
        return left, 0.0 if left else self._limit.delay(key)

    def status(self) -> dict[str, object]:
        """Return the limit, what is left of it, who waits, and the counts."""
        config, now, limit = self.config, self.clock.monotonic(), self._limit
        left = {} if limit.by_key else {"remaining": limit.table.remaining(SHARED, now)}
        return (
            super().status()
            | left
            | {
                "algorithm": config.algorithm,
                "rate": rate_text(config.rate),
                "burst": config.capacity,
                "scope": config.scope,
                "backend": config.backend,
                "backend_in_use": "local",
                "degraded": 0,
                "live_keys": self._census.live(now) if limit.by_key else 0,
                "max_limiters": config.max_limiters,
                "waiting": limit.waiting,
                "overflowed": self.overflowed,
                "keyless": self.keyless,
            }
        )

    def fact(self, moment: str, error: BaseException | None = None) -> ResilienceEvent | None:
        """Build the event of a refused call; `admit` tells of the others, since it knows their key."""
        if moment != "rejected" or not isinstance(error, RejectionError):
            return None
        key = error.metadata.get("key")
        user = None if key is None else str(key)
        return self._event(EventType.REQUEST_REJECTED, user, 0, {"retry_after": error.retry_after})

    def _allowed(self, ticket: Ticket, key: str | None) -> None:
        table, bucket, _ = ticket
        left = table.remaining(bucket, self.clock.monotonic())
        self.events.publish(self._event(EventType.REQUEST_ALLOWED, key if self._limit.by_key else None, left, {}))

    def _event(self, kind: EventType, key: str | None, remaining: int, metadata: dict[str, object]) -> RateLimitEvent:
        return RateLimitEvent(
            self.pattern_type,
            kind,
            self.name,
            metadata=metadata,
            user_id=key,
            limit=rate_text(self.config.rate),
            current_count=self.config.capacity - remaining,
            remaining=remaining,
        )

    def _publish(self, kind: EventType, metadata: dict[str, object]) -> None:
        limit = rate_text(self.config.rate)
        self.events.publish(RateLimitEvent(self.pattern_type, kind, self.name, metadata=metadata, limit=limit))

    def _note(self, kind: EventType) -> None:
        """Tell of a bucket that is shared for want of a better one, once in a horizon; the counters have every call."""
        now = self.clock.monotonic()
        if self.listening() and now >= self._told.get(kind, now):
            self._told = {**self._told, kind: now + self._limit.table.horizon}
            self._publish(kind, {"overflowed": self.overflowed, "keyless": self.keyless})


def _shape(config: RateLimiterConfig) -> tuple[object, ...]:
    return config.rate, config.capacity, config.algorithm, config.scope
