"""The adaptive limit around a call."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType
from typing import Final

from aioresilience.adaptive_concurrency.config import AdaptiveConcurrencyConfig
from aioresilience.adaptive_concurrency.machine import AimdMachine
from aioresilience.calls import ANYONE, Caller
from aioresilience.clock import Clock
from aioresilience.events import EventType, LoadShedderEvent, PatternType, ResilienceEvent
from aioresilience.exceptions import AdaptiveConcurrencyReason, ConcurrencyLimitError
from aioresilience.failures import FAILURE, NEUTRAL, REJECTED, SUCCESS, Classifier, Judge, Outcome, is_named
from aioresilience.guard import Guard
from aioresilience.pattern import ALONE, Context

CLIENT_TIMEOUTS: Final = frozenset(
    {
        ("httpx", "TimeoutException"),
        ("httpx2", "TimeoutException"),
        ("redis", "TimeoutError"),
        ("requests", "Timeout"),
        ("urllib3", "TimeoutError"),
    }
)
"""Top-level package and class of timeouts that are no TimeoutError, so that none of the libraries need be there."""


class _OverloadClassifier(Classifier):
    """The policy's `classify`, in which a failure that is no timeout says nothing."""

    __slots__ = ()

    def of_status(self, status: int) -> Outcome:
        """Judge a status: a failure came back in time, so it is neutral here."""
        outcome = super().of_status(status)
        return NEUTRAL if outcome is FAILURE else outcome

    def of_error(self, error: BaseException) -> Outcome:
        """Judge what the function raised: only a timeout is held against the limit."""
        outcome = super().of_error(error)
        return NEUTRAL if outcome is FAILURE and not _is_timeout(error) else outcome


def _is_timeout(error: BaseException) -> bool:
    return isinstance(error, TimeoutError) or is_named(error, CLIENT_TIMEOUTS)


class AdaptiveConcurrencyLimiter(Guard[AdaptiveConcurrencyConfig]):
    """Limits how many calls run at once, and finds the limit by itself.

    Usable as `async with limiter:` too, which raises when the limit is reached.
    """

    key = "adaptive_concurrency"
    config_type = AdaptiveConcurrencyConfig
    pattern_type = PatternType.ADAPTIVE_CONCURRENCY
    reasons = AdaptiveConcurrencyReason
    error_type = ConcurrencyLimitError
    holds = True
    machine: Final[AimdMachine]
    splits = True

    def __init__(
        self,
        name: str | None = "adaptive-concurrency",
        config: AdaptiveConcurrencyConfig | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        config = config or AdaptiveConcurrencyConfig()
        super().__init__(name, config, clock=clock)
        self.machine = AimdMachine(config)
        self._held: deque[object | None] = deque()
        self._telling = threading.RLock()
        self._told = self.machine.limit

    def admit(self, caller: Caller) -> int | None:
        """Take a place if fewer calls run than the limit allows."""
        return self.machine.take()

    def settle(self, ticket: object, outcome: Outcome, started: float | None) -> None:
        """Give the place back and learn from the outcome; neutral ones teach nothing."""
        if outcome is SUCCESS:
            moved = self.machine.end(ticket, True)  # type: ignore[arg-type]  # what admit returned
        else:
            good = None if outcome is NEUTRAL or outcome is REJECTED else False
            moved = self.machine.end(ticket, good)  # type: ignore[arg-type]
        if moved:
            self._tell_limit()

    def refusal(self, caller: Caller) -> ConcurrencyLimitError:
        """Say that the limit is reached."""
        machine = self.machine
        error = self.reject(
            AdaptiveConcurrencyReason.LIMIT_REACHED,
            f"adaptive concurrency {self.name!r} is at its limit: {machine.active} of {machine.limit} in use",
            current_limit=machine.limit,
            active_count=machine.active,
        )
        assert isinstance(error, ConcurrencyLimitError)
        return error

    def judge(self, context: Context) -> Judge:
        """Return what holds failures against the limit, or only timeouts and throttled calls."""
        classify = context.classify
        if self.config.shrink_on == "overload":
            classify = _OverloadClassifier(*classify.rules)
        return Judge(classify, attempt_timeout=context.attempt_timeout)

    async def acquire(self) -> bool:
        """Take a place for `release` to give back; False when the limit is reached."""
        try:
            await self._hold()
        except ConcurrencyLimitError:
            return False
        return True

    async def release(self, success: bool = True) -> None:
        """Give a place back that `acquire` took, and say how the work ended; harmless where none is held."""
        ticket = self._held.popleft() if self._held else None
        if ticket is None:
            return
        outcome = SUCCESS if success else FAILURE
        self.counts.settle(outcome)
        self.settle(ticket, outcome, None)
        if self.listening():
            self.tell("succeeded" if success else "failed")

    async def __aenter__(self) -> AdaptiveConcurrencyLimiter:
        """Take a place; raises ConcurrencyLimitError when the limit is reached."""
        await self._hold()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        ticket = self._held.popleft() if self._held else None
        if ticket is not None:
            self.give(ticket, error, self.clock.monotonic(), self.judge(ALONE))

    async def _hold(self) -> None:
        mode = self.mode_in(ALONE)
        self._held.append(None if mode == "off" else await self.take(ANYONE, mode))

    def retune(self, config: AdaptiveConcurrencyConfig) -> None:
        """Keep the estimate, clamped to the new bounds."""
        super().retune(config)
        if self.machine.retune(config):
            self._tell_limit()

    @property
    def current_limit(self) -> int:
        """How many calls may run at once now."""
        return self.machine.limit

    @property
    def active_count(self) -> int:
        """How many calls run now."""
        return self.machine.active

    def get_stats(self) -> dict[str, object]:
        """Return the counts under the names of 0.2; `utilization` is a percentage."""
        counts, machine = self.counts, self.machine
        return {
            "current_limit": machine.limit,
            "active_count": machine.active,
            "total_requests": counts.started + machine.active - self.kept,
            "success_count": counts.succeeded,
            "failure_count": counts.failed,
            "utilization": 100.0 * machine.active / machine.limit,
        }

    def status(self) -> dict[str, object]:
        """Return the limit, what is in use of it, the window under way and the counts."""
        machine = self.machine
        return super().status() | {
            "limit": machine.limit,
            "estimate": machine.estimate,
            "active": machine.active,
            "window": {"good": machine.good, "bad": machine.bad, "peak": machine.peak},
        }

    def fact(self, moment: str, error: BaseException | None = None) -> ResilienceEvent | None:
        """Build the event of a place taken, given back or refused."""
        event_type = _EVENT_TYPES.get(moment, EventType.SLOT_RELEASED)
        machine = self.machine
        details = {"active_count": machine.active, "current_limit": machine.limit}
        return ResilienceEvent(self.pattern_type, event_type, self.name, metadata=details)

    def _tell_limit(self) -> None:
        with self._telling:
            old, self._told = self._told, self.machine.limit
            if self._told != old and self.listening():
                details = {"old_limit": old, "current_limit": self._told}
                event = ResilienceEvent(self.pattern_type, EventType.LIMIT_UPDATED, self.name, metadata=details)
                self.events.publish(event)
                self.events.publish(self._level_change(old, self._told))

    def _level_change(self, old: int, new: int) -> LoadShedderEvent:
        """Build the event by which 0.2 told of a new limit."""
        machine = self.machine
        return LoadShedderEvent(
            self.pattern_type, EventType.LOAD_LEVEL_CHANGE, self.name, active_requests=machine.active,
            max_requests=new, load_level=100.0 * machine.active / new, reason=f"limit {old} to {new}",
        )  # fmt: skip


_EVENT_TYPES: Final = {"admitted": EventType.SLOT_ACQUIRED, "rejected": EventType.REQUEST_REJECTED}
