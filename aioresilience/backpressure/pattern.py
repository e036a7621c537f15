"""Backpressure around a call."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, ParamSpec, TypeVar

from aioresilience import units
from aioresilience.backpressure.config import BackpressureConfig
from aioresilience.backpressure.machine import BackpressureMachine
from aioresilience.calls import ANYONE, Call, Caller, invoker
from aioresilience.clock import Clock
from aioresilience.events import EventType, LoadShedderEvent, PatternType, ResilienceEvent
from aioresilience.exceptions import BackpressureError, BackpressureReason, ExceptionConfig, RejectionError
from aioresilience.failures import SUCCESS, Outcome
from aioresilience.guard import Guard
from aioresilience.pattern import ALONE
from aioresilience.waiters import Waiter

P = ParamSpec("P")
T = TypeVar("T")

PLACE: Final = object()
"""The ticket: any place is as good as another."""

_EVENT_TYPES: Final = {"admitted": EventType.REQUEST_ALLOWED, "rejected": EventType.REQUEST_REJECTED}


@dataclass(frozen=True, slots=True)
class PatientCaller(Caller):
    """A caller that says how long it waits: `patience` in seconds, in place of the config's `timeout`."""

    patience: float = 0.0


class BackpressureManager(Guard[BackpressureConfig]):
    """Makes new calls wait once too many are pending, until the pending ones have drained."""

    key = "backpressure"
    config_type = BackpressureConfig
    pattern_type = PatternType.BACKPRESSURE
    reasons = BackpressureReason
    error_type = BackpressureError
    told = frozenset({"admitted"})
    holds = True
    machine: Final[BackpressureMachine]

    def __init__(
        self,
        config: BackpressureConfig | None = None,
        exceptions: ExceptionConfig | None = None,
        *,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        config = config or BackpressureConfig()
        super().__init__(name, config, exceptions=exceptions, clock=clock)
        self.machine = BackpressureMachine(config.max_pending, config.high_water_mark, config.low_water_mark)
        self._held: deque[object | None] = deque()
        self._telling = threading.RLock()
        self._told = False

    def admit(self, caller: Caller) -> object | None:
        """Let the call in unless backpressure is active or others wait."""
        machine = self.machine
        if not machine.enter():
            return None
        if machine.active is not self._told:
            self._tell_turn()
        return PLACE

    def settle(self, ticket: object, outcome: Outcome, started: float | None) -> None:
        """Let the call out, and waiters in where the marks allow it."""
        self.machine.leave()
        if self.machine.active is not self._told:
            self._tell_turn()

    def refusal(self, caller: Caller) -> BackpressureError:
        """Say that too much is pending."""
        return self._refuse(BackpressureReason.SYSTEM_OVERLOADED, 0.0)

    @property
    def waits(self) -> bool:
        """Whether a call that is refused now may wait."""
        return self.config.timeout != 0 and not self.machine.full

    async def wait(self, caller: Caller) -> object:
        """Wait for relief, first in, first out."""
        patience = caller.patience if isinstance(caller, PatientCaller) else self.config.timeout
        waiter = self.machine.enter() if patience == 0 else self.machine.join()
        if waiter is False:
            raise self.refusal(caller)
        if isinstance(waiter, Waiter):
            await self._queue(waiter, patience)
        if self.machine.active is not self._told:
            self._tell_turn()
        return PLACE

    async def _queue(self, waiter: Waiter, patience: float | None) -> None:
        begun = self.clock.monotonic()
        until = None if patience is None else begun + patience
        if not await self.machine.queue.wait(waiter, until, self.clock, self._hand_back):
            raise self._refuse(BackpressureReason.TIMEOUT_ACQUIRING, self.clock.monotonic() - begun)

    def _hand_back(self) -> None:
        self.settle(PLACE, SUCCESS, None)

    def _refuse(self, reason: BackpressureReason, waited: float) -> BackpressureError:
        machine = self.machine
        why = f"no relief within a wait of {waited:.3g} s" if waited else "refused without a wait"
        error = self.reject(
            reason,
            f"backpressure {self.name!r} is active: {why} ({machine.pending} calls pending, high mark {machine.high}, "
            f"low mark {machine.low}; {machine.queue.waiting} waiting, at most {machine.max_pending} in all)",
            waited=waited,
            pending_count=machine.pending,
            waiting_count=machine.queue.waiting,
        )
        assert isinstance(error, BackpressureError)
        return error

    async def acquire(self, timeout: float | None = None) -> bool:
        """Take a place for `release` to give back, False when it is refused.

        Waits `timeout` seconds at most, the config's `timeout` when unset; raises ValueError for what is no duration.
        """
        mode = self.mode_in(ALONE)
        try:
            self._held.append(None if mode == "off" else await self.take(_patient(timeout), mode))
        except Exception as error:
            if isinstance(error, RejectionError) or isinstance(error.__cause__, RejectionError):
                return False
            raise
        return True

    async def release(self) -> None:
        """Give a place back that `acquire` took; harmless where none is held."""
        ticket = self._held.popleft() if self._held else None
        if ticket is not None:
            self.counts.settle(SUCCESS)
            self.settle(ticket, SUCCESS, None)

    async def execute_as(
        self, caller: Caller, func: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call an async `func` for a caller that says how long it waits."""
        layer = self._alone
        if layer is None:
            layer = self._alone = self.wrap(invoker(self.clock), ALONE)
        return await layer(Call(func, args, kwargs, caller))  # type: ignore[return-value]  # func's own result

    def retune(self, config: BackpressureConfig) -> None:
        """Move the marks; calls that run or wait keep their places, and waiters their own deadline."""
        super().retune(config)
        self.machine.retune(config.max_pending, config.high_water_mark, config.low_water_mark)
        self._tell_turn()

    @property
    def is_overloaded(self) -> bool:
        """Whether a new call would be refused at once."""
        return self.machine.full

    @property
    def should_apply_backpressure(self) -> bool:
        """Whether new calls wait."""
        return self.machine.active

    @property
    def backpressure_active(self) -> bool:
        """Whether new calls wait."""
        return self.machine.active

    @property
    def pending_count(self) -> int:
        """How many calls have come in and not ended."""
        return self.machine.pending

    @property
    def total_rejected(self) -> int:
        """How many calls were refused, at once or after a wait."""
        return sum(self.counts.rejected.values())

    def get_stats(self) -> dict[str, object]:
        """Return the numbers under the names of 0.2; `utilization` is a percentage of `max_pending`."""
        machine = self.machine
        return {
            "pending_count": machine.pending,
            "max_pending": machine.max_pending,
            "backpressure_active": machine.active,
            "total_rejected": self.total_rejected,
            "utilization": 100.0 * machine.pending / machine.max_pending,
        }

    def status(self) -> dict[str, object]:
        """Return what is pending, who waits, the marks and the counts."""
        machine = self.machine
        return super().status() | {
            "active": machine.active,
            "pending": machine.pending,
            "waiting": machine.queue.waiting,
            "high_water_mark": machine.high,
            "low_water_mark": machine.low,
            "max_pending": machine.max_pending,
        }

    def fact(self, moment: str, error: BaseException | None = None) -> ResilienceEvent | None:
        """Build the event of a call let in or refused; an end is no event of its own."""
        event_type = _EVENT_TYPES.get(moment)
        return None if event_type is None else self._event(event_type)

    def _event(self, event_type: EventType) -> ResilienceEvent:
        machine = self.machine
        details = {"pending_count": machine.pending, "waiting_count": machine.queue.waiting}
        return ResilienceEvent(self.pattern_type, event_type, self.name, metadata=details)

    def _tell_turn(self) -> None:
        with self._telling:
            before, self._told = self._told, self.machine.active
            if self._told != before and self.listening():
                applied = EventType.BACKPRESSURE_APPLIED if self._told else EventType.BACKPRESSURE_RELIEVED
                self.events.publish(self._event(applied))
                self.events.publish(self._turn(self._told))

    def _turn(self, applied: bool) -> LoadShedderEvent:
        """Build the event by which 0.2 told that backpressure began or ended."""
        machine = self.machine
        return LoadShedderEvent(
            self.pattern_type, EventType.THRESHOLD_EXCEEDED if applied else EventType.LOAD_LEVEL_CHANGE, self.name,
            active_requests=machine.pending, max_requests=machine.max_pending,
            load_level=100.0 * machine.pending / machine.max_pending,
            reason="high water mark exceeded" if applied else "low water mark reached",
        )  # fmt: skip


def _patient(timeout: float | None) -> Caller:
    return ANYONE if timeout is None else PatientCaller(patience=units.seconds(timeout))
