"""How long to wait after a failed attempt, or why not to try again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from aioresilience.retry.budget import Budget
from aioresilience.retry.config import JitterKind, RetryConfig, RetryOverrides, RetryStrategy

Draw = Callable[[], float]
"""Gives numbers in [0, 1)."""


class Stop(IntEnum):
    """Why a failure that is worth a retry is not retried."""

    MAX_ATTEMPTS = 0
    RETRY_AFTER = 1
    """The server asks for a longer wait than `max_delay`."""
    DEADLINE = 2
    """The wait would outlast the deadline."""
    BUDGET = 3
    REJECTED = 4
    """A pattern further in refused the retry."""


@dataclass(frozen=True, slots=True)
class Delays:
    """Delays in seconds, growing with the attempt (counted from 1), jittered, never above `maximum`.

    The jitter kinds are those of "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015); decorrelated grows
    from the delay before, whatever the strategy.
    """

    max_attempts: int
    initial: float
    maximum: float
    multiplier: float
    strategy: RetryStrategy
    jitter: float | JitterKind

    @classmethod
    def of(cls, config: RetryConfig, own: RetryOverrides | None = None) -> Delays:
        """Return the delays of a config, with what one class of exceptions changes."""
        fields = ("max_attempts", "initial_delay", "max_delay", "backoff_multiplier", "strategy")
        changed = {name: value for name in fields if own and (value := getattr(own, name)) is not None}
        config = config.model_copy(update=changed) if changed else config
        return cls(
            config.max_attempts, config.initial_delay, config.max_delay, config.backoff_multiplier, config.strategy,
            config.jitter,
        )  # fmt: skip

    def plain(self, attempt: int) -> float:
        """Return the delay before jitter."""
        return min(self.maximum, self._grown(attempt))

    def _grown(self, attempt: int) -> float:
        if self.strategy is RetryStrategy.CONSTANT:
            return self.initial
        if self.strategy is RetryStrategy.LINEAR:
            return self.initial + self.multiplier * (attempt - 1)
        try:
            return self.initial * self.multiplier ** (attempt - 1) if self.initial else 0.0
        except OverflowError:
            return self.maximum

    def jittered(self, attempt: int, previous: float | None, draw: Draw) -> float:
        """Return the delay to wait; `previous` is what this returned last for the same call."""
        low, high = self._range(attempt, previous)
        return min(high, low + (high - low) * draw())

    def _range(self, attempt: int, previous: float | None) -> tuple[float, float]:
        if self.jitter == "decorrelated":
            low = min(self.initial, self.maximum)
            return low, min(self.maximum, max(low, 3 * (low if previous is None else previous)))
        delay = self.plain(attempt)
        if self.jitter == "full":
            return 0.0, delay
        if self.jitter == "equal":
            return delay / 2, delay
        assert isinstance(self.jitter, float)
        # The upper end is cut before drawing: clamping what was drawn would send half of a herd off at one instant.
        return delay * (1 - self.jitter), min(self.maximum, delay * (1 + self.jitter))


class Schedule:
    """The machine of one call: after each failed attempt, a delay or the reason to stop."""

    __slots__ = ("_budget", "_draw", "_previous")

    def __init__(self, budget: Budget | None, draw: Draw) -> None:
        self._budget = budget
        self._draw = draw
        self._previous: float | None = None

    def after(
        self, attempt: int, delays: Delays, now: float, deadline: float | None, asked: float | None, *, charge: bool
    ) -> float | Stop:
        """Decide after `attempt` failed; `asked` is the server's Retry-After, `charge` spends the budget.

        The server's wait counts where it is the longer one.
        """
        if attempt >= delays.max_attempts:
            return Stop.MAX_ATTEMPTS
        if asked is not None and asked > delays.maximum:
            return Stop.RETRY_AFTER
        self._previous = delays.jittered(attempt, self._previous, self._draw)
        delay = self._previous if asked is None else max(asked, self._previous)
        if deadline is not None and now + delay >= deadline:
            return Stop.DEADLINE
        budget = self._budget
        if budget is not None and not (budget.take(now) if charge else budget.allows(now)):
            return Stop.BUDGET
        return delay
