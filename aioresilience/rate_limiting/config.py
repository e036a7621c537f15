"""What a rate limiter can be told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal

from pydantic import BaseModel, Field, PlainSerializer, PlainValidator, ValidationInfo, WithJsonSchema, field_validator

from aioresilience import units
from aioresilience.fields import DURATION_SCHEMA, Count, Seconds
from aioresilience.pattern import PatternConfig
from aioresilience.units import Rate

MAX_PERMITS: Final = 10**9
MAX_PERIOD: Final = 1e9
"""Seconds, some thirty years: beyond that a limit is a ban."""

Algorithm = Literal["gcra", "sliding_window", "leaky_bucket"]
Scope = Literal["policy", "key"]


def read_rate(value: object) -> Rate:
    """Return the rate that `"100/minute"`, `{permits: 300, per: 5m}` or a Rate means; raises ValueError otherwise."""
    if isinstance(value, str):
        return _in_bounds(units.parse_rate(value))
    if isinstance(value, Rate):
        value = {"permits": value.permits, "per": value.period}
    if not isinstance(value, Mapping) or set(value) != {"permits", "per"}:
        raise ValueError("expected a rate such as '100/second', or {permits: 300, per: 5m}")
    permits = value["permits"]
    if isinstance(permits, bool) or not isinstance(permits, int) or permits < 1:
        raise ValueError(f"permits must be a whole number from 1, got {permits!r}")
    return _in_bounds(Rate(permits, units.seconds(value["per"])))


def _in_bounds(rate: Rate) -> Rate:
    if rate.permits > MAX_PERMITS:
        raise ValueError(f"a rate has at most {MAX_PERMITS} permits, got {rate.permits}; leave the limiter out instead")
    if not 0 < rate.period <= MAX_PERIOD:
        raise ValueError(f"the period of a rate is above 0 and at most {MAX_PERIOD:.0f} seconds, got {rate.period:g}")
    if rate.permits / rate.period > MAX_PERMITS:
        raise ValueError(f"a rate is at most {MAX_PERMITS} permits a second; leave the limiter out instead")
    return rate


def rate_text(rate: Rate) -> str:
    """Write a rate for people: `100/minute`, or `300 per 5m`."""
    try:
        return units.format_rate(rate)
    except ValueError:
        return f"{rate.permits} per {units.format_duration(rate.period)}"


_RATE_SCHEMA: Final = {
    "type": ["string", "object"],
    "pattern": units.RATE_PATTERN,
    "properties": {
        "permits": {
            "type": "integer", "minimum": 1, "maximum": MAX_PERMITS, "description": "Calls that may start in a period.",
        },
        "per": {**DURATION_SCHEMA, "description": "The period, in seconds or as a duration."},
    },
    "required": ["permits", "per"],
    "additionalProperties": False,
}  # fmt: skip


def _parts(rate: Rate) -> dict[str, object]:
    return {"permits": rate.permits, "per": rate.period}


RateField = Annotated[Rate, PlainValidator(read_rate), PlainSerializer(_parts), WithJsonSchema(_RATE_SCHEMA)]
"""A rate: a string such as `"100/second"`, or permits and their period."""

LeaseField = Annotated[
    Literal["auto"] | Annotated[Count, Field(le=MAX_PERMITS)],
    WithJsonSchema({"type": ["string", "integer"], "pattern": "^auto$", "minimum": 1, "maximum": MAX_PERMITS}),
]
"""How many permits are taken ahead: a number, or as many as a key is seen to need."""


class RateLimiterConfig(PatternConfig):
    """How many calls may start in a time."""

    short: ClassVar[str | None] = "rate"

    rate: RateField = Field(description="Permits per period, such as 100/second or {permits: 300, per: 5m}.")
    algorithm: Algorithm = Field(
        default="gcra",
        description="gcra: smooth, up to burst and what refills within a period; sliding_window: never more than the "
        "permits within any period; leaky_bucket: the accounting of aiolimiter.",
    )
    burst: Annotated[Count, Field(le=MAX_PERMITS)] | None = Field(
        default=None, description="Calls that may start at once after a rest; unset: the permits of the rate."
    )
    scope: Scope = Field(default="policy", description="One limit for the policy, or one for each key.")
    wait: Seconds | None = Field(default=None, description="Longest wait for a permit, in seconds; unset: none.")
    max_limiters: Count = Field(default=10000, description="Keys with a live limit; new ones beyond share one limit.")
    backend: str | None = Field(default=None, description="Backend that shares the limit; unset: this process alone.")
    lease: LeaseField | None = Field(
        default=None,
        description="Permits taken ahead from the backend and spent in this process within a second: a number, or auto "
        "for as many as a busy key is seen to need; unset: every call asks the server.",
    )
    on_backend_error: Literal["local", "allow", "deny"] = Field(
        default="local",
        description="What happens while the backend is away: local, a limit in each process (its part of the fleet's; "
        "per key the whole); allow, no limit; deny, no calls.",
    )

    @field_validator("burst")
    @classmethod
    def _burst_needs_a_bucket(cls, burst: int | None, info: ValidationInfo) -> int | None:
        rate = info.data.get("rate")
        if info.data.get("algorithm") == "sliding_window" and rate is not None and burst not in (None, rate.permits):
            raise ValueError("a sliding window has no burst: leave it out, or choose gcra or leaky_bucket")
        return burst

    @field_validator("lease")
    @classmethod
    def _lease_blurs_a_window(cls, lease: object, info: ValidationInfo) -> object:
        if lease is not None and info.data.get("algorithm") == "sliding_window":
            raise ValueError("a sliding window is exact, and a lease is spent later than it is counted: choose gcra")
        return lease

    @property
    def needs(self) -> str | None:
        """The extra that talks to a backend."""
        return None if self.backend is None else "redis"

    @field_validator("backend")
    @classmethod
    def _backend_knows_the_algorithm(cls, backend: str | None, info: ValidationInfo) -> str | None:
        if backend is not None and info.data.get("algorithm") == "leaky_bucket":
            raise ValueError("a backend counts by gcra or sliding_window; leaky_bucket is for one process")
        return backend

    @property
    def capacity(self) -> int:
        """The burst in force."""
        return self.rate.permits if self.burst is None else self.burst


class RateLimitConfig(BaseModel):
    """What 0.2's limiter of many keys and rates is told."""

    model_config = PatternConfig.model_config

    name: str = Field(default="default", min_length=1, description="Name in events and statistics.")
    max_limiters: Count = Field(default=10000, description="Keys with a live limit; new ones beyond share one limit.")
