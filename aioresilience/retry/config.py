"""What a retry is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, WithJsonSchema

from aioresilience import units
from aioresilience.failures import ExceptionType
from aioresilience.fields import Count, ExceptionTypes, Named, PositiveSeconds, Seconds, Share, member, names_schema
from aioresilience.pattern import Futile, PatternConfig


class RetryStrategy(IntEnum):
    """How the delay grows from attempt to attempt."""

    CONSTANT = 0
    LINEAR = 1
    EXPONENTIAL = 2


JitterKind = Literal["full", "equal", "decorrelated"]
JITTER_KINDS: tuple[JitterKind, ...] = get_args(JitterKind)


def _jitter(value: object) -> object:
    if value in JITTER_KINDS:
        return value
    number = units.parse_percentage(value) if isinstance(value, str) and value.endswith("%") else value
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number <= 1:
        raise ValueError(f"expected a fraction from 0 to 1, a percentage, or one of {', '.join(JITTER_KINDS)}")
    return float(number)


def _kind(value: object, info: ValidationInfo) -> object:
    if not isinstance(value, str):
        return value
    if info.context is None:
        raise ValueError(f"expected an exception class, got the string {value!r}; names are for files")
    return info.context.exception(value)


_JITTER_SCHEMA = {
    "type": ["string", "number"],
    "pattern": rf"^(?:{'|'.join(JITTER_KINDS)}|(?:{units.PERCENTAGE_PATTERN[1:-1]}))$",
    "patternErrorMessage": "expected full, equal, decorrelated or a percentage, such as 50%",
    "minimum": 0,
    "maximum": 1,
}

Jitter = Annotated[float | JitterKind, BeforeValidator(_jitter), WithJsonSchema(_JITTER_SCHEMA)]
Strategy = Annotated[RetryStrategy, member(RetryStrategy), names_schema(RetryStrategy)]
ExceptionKey = Annotated[ExceptionType, BeforeValidator(_kind), WithJsonSchema({"type": "string", "minLength": 1})]
Multiplier = Annotated[float, Field(gt=0)]

_PART = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)


class RetryBudget(BaseModel):
    """How many retries all calls together may make: the share of first attempts, and a few more for quiet times."""

    model_config = _PART

    ratio: Share = Field(default=0.2, description="Retries allowed per first attempt, as a share.")
    min_per_second: float = Field(default=0.5, ge=0, description="Retries per second that are always allowed.")
    window: PositiveSeconds = Field(default=10.0, description="Time over which both are counted, in seconds.")


class RetryOverrides(BaseModel):
    """What one class of exceptions changes; what is unset stays as the retry has it."""

    model_config = _PART

    max_attempts: Count | None = Field(default=None, description="Attempts in all, the first one included.")
    initial_delay: Seconds | None = Field(default=None, description="Delay after the first attempt, in seconds.")
    max_delay: Seconds | None = Field(default=None, description="Longest delay, in seconds.")
    backoff_multiplier: Multiplier | None = Field(default=None, description="Growth of the delay, per attempt.")
    strategy: Strategy | None = Field(default=None, description="How the delay grows.")


class RetryConfig(PatternConfig):
    """When to call again, how often, and after which delays."""

    short: ClassVar[str | None] = "max_attempts"

    max_attempts: Count = Field(default=3, description="Attempts in all, the first one included.")
    initial_delay: Seconds = Field(default=1.0, description="Delay after the first attempt, in seconds.")
    max_delay: Seconds = Field(default=60.0, description="Longest delay, in seconds; jitter and Retry-After included.")
    backoff_multiplier: Multiplier = Field(
        default=2.0, description="Growth of the delay per attempt: a factor (exponential) or seconds added (linear)."
    )
    strategy: Strategy = Field(default=RetryStrategy.EXPONENTIAL, description="How the delay grows.")
    jitter: Jitter = Field(
        default=0.1, description="Randomness of the delay: a fraction of it (0.1: 10% either way), or full, equal, "
        "decorrelated.",
    )  # fmt: skip
    retry_on_exceptions: ExceptionTypes | None = Field(
        default=None, description="Exceptions to retry, whatever classify says; unset: as classify says."
    )
    retry_on_result: Named | None = Field(
        default=None, description="Predicate of a result that asks for a retry, whatever classify says."
    )
    retry_on_rejections: bool = Field(
        default=False, description="Retry calls that a pattern further in refused to start."
    )
    exception_strategies: dict[ExceptionKey, RetryOverrides] | None = Field(
        default=None, description="Attempts and delays by exception class; the nearest class of an error counts."
    )
    budget: RetryBudget | None = Field(
        default=None, description="Bound on the retries of all calls together; unset in Python: none."
    )
    on_retry: Named | None = Field(default=None, description="Called before each wait with an ExceptionContext.")
    on_success_after_retry: Named | None = Field(
        default=None, description="Called with an ExceptionContext when a retried call succeeded."
    )
    on_exhausted: Named | None = Field(
        default=None, description="Called with an ExceptionContext when retrying was given up."
    )

    @classmethod
    def file_defaults(cls, given: Mapping[str, object]) -> Mapping[str, object]:
        """Return what we would run ourselves.

        Three attempts ride out one bad host or one reset. A tenth of a second is longer than a connection takes to
        recover and shorter than a user notices; full jitter spreads a herd best (see `Delays`). Two seconds keep a
        whole call within a usual deadline; a first delay that somebody chose longer keeps its room to grow. The
        budget keeps an outage from being multiplied by the attempts.
        """
        return {
            "max_attempts": 3,
            "initial_delay": 0.1,
            "max_delay": max(2.0, 20 * _seconds_or(given.get("initial_delay"), 0.1)),
            "jitter": "full",
            "budget": RetryBudget(),
        }

    def futile(self) -> Iterator[Futile]:
        """Yield a budget that allows a part of a retry and never a whole one."""
        budget = self.budget
        if budget is not None and not budget.ratio and 0 < budget.min_per_second * budget.window < 1:
            window = units.format_duration(budget.window)
            why = f"{budget.min_per_second:g} a second are no whole retry within {window}, so that none is ever allowed"
            yield Futile("budget", why, "raise its min_per_second, its window or its ratio")


def _seconds_or(value: object, default: float) -> float:
    """Return the seconds that a field was given, the default where it is unset, zero or no duration at all."""
    try:
        return (units.seconds(value) if isinstance(value, (int, float, str)) else default) or default
    except ValueError:
        return default
