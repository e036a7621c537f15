"""What handlers are told: frozen facts, fit for JSON."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from math import isfinite

from aioresilience.events.types import EventType, PatternType, event_named
from aioresilience.logging import describe

_DEPTH = 6


@dataclass(frozen=True, slots=True)
class Decision:
    """What one pattern did to a call other than let it through; `waited` is in seconds.

    `action` is rejected, delayed, retried, cut, failed, skipped, loop_stalled, or would_reject, would_cut, would_retry,
    would_answer; `reason` the name of the pattern's reason, or of the error's class for a retry.
    """

    pattern_type: str
    pattern_name: str
    action: str
    reason: str | None = None
    waited: float = 0.0

    def to_dict(self) -> dict[str, object]:
        """Return all fields, fit for JSON."""
        return asdict(self)


def plain(value: object, depth: int = _DEPTH) -> object:
    """Return what JSON can hold: enum members as lower-case names, errors as `Type: message`, the rest as text."""
    if isinstance(value, Enum):
        return value.name.lower()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if isfinite(value) else str(value)
    if isinstance(value, BaseException):
        return describe(value)
    if isinstance(value, Decision):
        return value.to_dict()
    if depth and isinstance(value, Mapping):
        return {str(plain(key, 0)): plain(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth - 1) for item in value]
    return _text(value)


def plain_fields(fact: object, names: Iterable[str]) -> dict[str, object]:
    """Return the named attributes of `fact` as `plain` values."""
    return {name: plain(getattr(fact, name)) for name in names}


def _text(value: object) -> str:
    try:
        return repr(value)
    except Exception:
        return f"<{type(value).__name__}>"


@dataclass(frozen=True, slots=True)
class ResilienceEvent:
    """Something that happened to a pattern; `timestamp` is in seconds since the epoch."""

    pattern_type: PatternType | str
    event_type: EventType | int | str
    pattern_name: str
    timestamp: float = field(default_factory=time.time)
    metadata: Mapping[str, object] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """Return all fields, fit for JSON."""
        row = plain_fields(self, [item.name for item in fields(self)])
        return row | {"event_type": plain(event_named(self.event_type))}


@dataclass(frozen=True, slots=True)
class CircuitBreakerEvent(ResilienceEvent):
    """A circuit breaker changed its state, or counted a call."""

    old_state: Enum | str | None = None
    new_state: Enum | str | None = None
    failure_count: int = 0
    success_count: int = 0


@dataclass(frozen=True, slots=True)
class RetryEvent(ResilienceEvent):
    """Another attempt will be made after `delay` seconds, or retrying came to an end with this attempt."""

    attempt: int = 0
    max_attempts: int = 0
    delay: float = 0.0
    error: BaseException | str | None = None


@dataclass(frozen=True, slots=True)
class TimeoutEvent(ResilienceEvent):
    """A bounded call ended in time or not; both durations are in seconds."""

    timeout_value: float = 0.0
    elapsed: float = 0.0


@dataclass(frozen=True, slots=True)
class BulkheadEvent(ResilienceEvent):
    """A slot was taken, given back or refused."""

    active_count: int = 0
    waiting_count: int = 0
    max_concurrent: int = 0
    max_waiting: int = 0


@dataclass(frozen=True, slots=True)
class FallbackEvent(ResilienceEvent):
    """A call failed, and perhaps something stood in for its result."""

    primary_error: BaseException | str | None = None
    fallback_value: object = None


@dataclass(frozen=True, slots=True)
class LoadShedderEvent(ResilienceEvent):
    """A call was accepted or shed, or the load level changed; `load_level` is a LoadLevel or a percentage."""

    active_requests: int = 0
    max_requests: int = 0
    load_level: float = 0.0
    reason: Enum | str | None = None


@dataclass(frozen=True, slots=True)
class RateLimitEvent(ResilienceEvent):
    """A rate limiter allowed or refused a call; `user_id` is the key it counts by."""

    user_id: str | None = None
    limit: int | str | None = None
    current_count: int = 0
    remaining: int = 0


@dataclass(frozen=True, slots=True)
class DecisionEvent(ResilienceEvent):
    """A pattern did not simply let a call through: `action` is rejected, delayed, cut, would_reject, …

    `waited` is in seconds; `key_hash` tells keys apart without naming them. `trace` is all that was decided about the
    call so far, this decision last.
    """

    policy: str | None = None
    key_hash: str | None = None
    action: str = "rejected"
    reason: Enum | str | None = None
    waited: float = 0.0
    trace: tuple[Decision, ...] = ()


@dataclass(frozen=True, slots=True)
class RegistryEvent(ResilienceEvent):
    """Something that happened to the registry: `name` is "reload_applied", "override_expired", …

    `generation` counts applied documents, `revision` is the hash of the effective one.
    """

    pattern_type: PatternType | str = field(default="registry", init=False)
    event_type: EventType | int | str = field(default="", init=False)
    pattern_name: str = field(default="registry", init=False)
    timestamp: float = field(default_factory=time.time, kw_only=True)
    metadata: Mapping[str, object] = field(default_factory=dict, kw_only=True)
    name: str
    generation: int = 0
    revision: str = ""
    details: Mapping[str, object] = field(default_factory=dict)
    message: str = ""

    def __post_init__(self) -> None:
        """Take the event type from the name."""
        object.__setattr__(self, "event_type", event_named(self.name))
