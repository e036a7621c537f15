"""When a circuit opens, and how it finds back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from aioresilience import units
from aioresilience.fields import MAX_COUNT, Count, ExceptionTypes, Fraction, Named, PositiveSeconds
from aioresilience.pattern import Futile, PatternConfig


@dataclass(frozen=True, slots=True)
class LastCalls:
    """A window of the last `count` outcomes."""

    count: int

    def __post_init__(self) -> None:
        """Refuse a window that holds nothing."""
        if type(self.count) is not int or not 1 <= self.count <= MAX_COUNT:
            raise ValueError(f"a window holds from 1 to {MAX_COUNT} calls, not {self.count!r}")

    def __str__(self) -> str:
        return f"{self.count} calls"


@dataclass(frozen=True, slots=True)
class LastSeconds:
    """A window of the outcomes of the last `seconds`."""

    seconds: float

    def __post_init__(self) -> None:
        """Refuse a window that holds nothing."""
        if units.seconds(self.seconds) == 0:
            raise ValueError("a window is longer than 0 seconds")

    def __str__(self) -> str:
        return units.format_duration(self.seconds)


def _read_window(value: object) -> object:
    if isinstance(value, int):
        return LastCalls(value)
    if isinstance(value, str):
        return LastSeconds(units.parse_duration(value))
    if isinstance(value, float):
        raise ValueError(f"{value!r} can be calls or seconds: write a whole number of calls or a duration, as in '30s'")
    return value


def _write_window(window: LastCalls | LastSeconds) -> int | str:
    return window.count if isinstance(window, LastCalls) else str(window)


Window = Annotated[
    LastCalls | LastSeconds,
    BeforeValidator(_read_window),
    PlainSerializer(_write_window),
    WithJsonSchema(
        {"type": ["integer", "string"], "minimum": 1, "maximum": MAX_COUNT, "pattern": units.DURATION_PATTERN}
    ),
]
"""An int for the last so many calls, a string such as `"30s"` for the last so many seconds."""

Rate = Annotated[Fraction, Field(gt=0)]

RATE_RULE: Final[Mapping[str, object]] = {
    "failure_threshold": None, "window": "30s", "failure_rate": "50%", "minimum_calls": 20,
}  # fmt: skip
"""What the rule of the failure rate means where nothing else is said."""

RECOVERY: Final[Mapping[str, object]] = {
    "recovery_timeout": "10s", "recovery_multiplier": 2, "max_recovery_timeout": "2m", "recovery_jitter": "20%",
}  # fmt: skip
"""How an open circuit finds back, in files."""


def _says(given: Mapping[str, object], *names: str) -> bool:
    return any(given.get(name) is not None for name in names)


def _rate_rule(given: Mapping[str, object]) -> dict[str, object]:
    """Return the defaults of the rate rule; a window of fewer calls than the minimum lowers the minimum."""
    window = given.get("window")
    count = window.count if isinstance(window, LastCalls) else window
    small = isinstance(count, int) and not isinstance(count, bool) and 0 < count < 20
    return {**RATE_RULE, "minimum_calls": count} if small else dict(RATE_RULE)


class CircuitConfig(PatternConfig):
    """When a circuit opens, and how it finds back.

    Three rules can open it, alone or together: so many failures in a row, a failure rate, a slow-call rate. Setting
    `window` or `failure_rate` brings the rate rule with its defaults (30s, 50 %, 20 calls), and failures in a row then
    count only where `failure_threshold` is set too.
    """

    failure_threshold: Count | None = Field(
        default=5, description="Failures in a row that open the circuit; null: failures in a row do not matter."
    )
    recovery_timeout: PositiveSeconds = Field(
        default=60.0, description="Time from opening to the first probe, in seconds."
    )
    success_threshold: Count = Field(default=2, description="Successful probes that close the circuit.")
    timeout: PositiveSeconds | None = Field(
        default=None, description="Longest time of one call, in seconds; what takes longer fails. Unset: no bound."
    )
    half_open_max_calls: Count = Field(default=1, description="Probes that may be under way at once.")
    failure_exceptions: ExceptionTypes | None = Field(
        default=None, description="Exceptions that are failures; others are neutral. Unset: as `classify` says."
    )
    failure_predicate: Named | None = Field(
        default=None, description="Takes an exception and says whether it is a failure; what it denies is neutral."
    )
    window: Window | None = Field(
        default=None, description="What the rates look at: the last so many calls (100), or a duration (30s)."
    )
    failure_rate: Rate | None = Field(
        default=None, description="Share of failures within the window that opens the circuit."
    )
    minimum_calls: Count = Field(default=20, description="Outcomes that the window must hold before its rates count.")
    slow_call_rate: Rate | None = Field(
        default=None, description="Share of slow calls within the window that opens the circuit."
    )
    slow_call_duration: PositiveSeconds | None = Field(
        default=None, description="Seconds from which on a call is slow, counted from where the function starts."
    )
    half_open_timeout: PositiveSeconds | None = Field(
        default=60.0,
        description="Seconds after which a hung probe is given up, and the circuit opens again if no probe brought a "
        "result; null: wait for probes without end.",
    )
    recovery_multiplier: Annotated[float, Field(ge=1)] = Field(
        default=1.0, description="Growth of the recovery time each time that probing fails, a factor."
    )
    max_recovery_timeout: PositiveSeconds | None = Field(
        default=None, description="Longest recovery time that growth leads to, in seconds, from recovery_timeout up."
    )
    recovery_jitter: Fraction = Field(
        default=0.0, description="Share of the recovery time by which it is shortened at random, at most."
    )

    @classmethod
    def file_defaults(cls, given: Mapping[str, object]) -> Mapping[str, object]:
        """Return what a file's block means: the rate rule, unless `failure_threshold` stands alone."""
        alone = _says(given, "failure_threshold") and not _says(given, "window", "failure_rate")
        defaults = dict(RECOVERY) if alone else {**RECOVERY, **_rate_rule(given)}
        return {name: value for name, value in defaults.items() if name not in given}

    def futile(self) -> Iterator[Futile]:
        """Yield a minimum that the window never holds, and a duration of slow calls that no call reaches."""
        if isinstance(self.window, LastCalls):
            yield from self.never_filled(self.window.count)
        if self.timeout is not None:
            yield from self.never_slow(self.timeout)

    def never_filled(self, most: int) -> Iterator[Futile]:
        """Yield the minimum where the window holds `most` calls at most, and that is too few."""
        if most < self.minimum_calls:
            why = f"the window never holds more than {most} calls, and its rates count from {self.minimum_calls} on"
            yield Futile("minimum_calls", why, "lower minimum_calls or widen the window")

    def never_slow(self, timeout: float) -> Iterator[Futile]:
        """Yield the duration of slow calls where calls are cut after `timeout` seconds, before they are slow."""
        slow = self.slow_call_duration
        if slow is not None and slow > timeout:
            cut, written = units.format_duration(timeout), units.format_duration(slow)
            why = f"a call is cut after {cut} and slow after {written} only, so that none ever is slow"
            yield Futile("slow_call_duration", why, f"write {cut} or less")

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: object) -> object:
        if not isinstance(given, Mapping):
            return given
        if _says(given, "window", "failure_rate"):
            return {**_rate_rule(given), **given}
        return {"window": RATE_RULE["window"], **given} if _says(given, "slow_call_rate") else given

    @model_validator(mode="after")
    def _can_open(self) -> CircuitConfig:
        if (self.slow_call_rate is None) is not (self.slow_call_duration is None):
            raise ValueError("slow_call_rate and slow_call_duration say something only together: set both")
        if self.failure_rate is None and self.slow_call_rate is None:
            if self.failure_threshold is None:
                raise ValueError("nothing opens this circuit: set failure_threshold, failure_rate or slow_call_rate")
        elif self.window is None:
            raise ValueError("a rate needs a window: set window to a number of calls or a duration, or leave it out")
        return self
