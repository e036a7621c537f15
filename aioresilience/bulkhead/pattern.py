"""The bulkhead around a call."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Final

from aioresilience.bulkhead.config import BulkheadConfig
from aioresilience.bulkhead.machine import BulkheadMachine
from aioresilience.calls import ANYONE, Caller
from aioresilience.clock import Clock
from aioresilience.events import BulkheadEvent, EventType, PatternType, ResilienceEvent
from aioresilience.exceptions import BulkheadFullError, BulkheadReason, ExceptionConfig
from aioresilience.failures import Judge, Outcome
from aioresilience.guard import Guard
from aioresilience.pattern import ALONE
from aioresilience.waiters import Waiter

PLACE: Final = object()
"""The ticket of a bulkhead without a queue: any place is as good as another."""


@dataclass
class BulkheadMetrics:
    """The counts of a bulkhead, under the names of 0.2; times in seconds."""

    total_requests: int = 0
    successful_requests: int = 0
    rejected_requests: int = 0
    current_active: int = 0
    peak_active: int = 0
    total_wait_time: float = 0.0
    average_wait_time: float = 0.0

    def to_dict(self) -> dict[str, object]:
        """Return the metrics by name."""
        return asdict(self)


class Bulkhead(Guard[BulkheadConfig]):
    """Limits how many calls run at once, so that one slow dependency cannot take every task.

    Usable as `async with bulkhead:` too. A task that holds a place and asks for another while none is free is refused
    where it would queue, because it would wait for itself.
    """

    key = "bulkhead"
    config_type = BulkheadConfig
    pattern_type = PatternType.BULKHEAD
    reasons = BulkheadReason
    error_type = BulkheadFullError
    holds = True
    machine: Final[BulkheadMachine]
    splits = True

    def __init__(
        self,
        name: str | None = "bulkhead",
        config: BulkheadConfig | None = None,
        exceptions: ExceptionConfig | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        config = config or BulkheadConfig()
        super().__init__(name, config, exceptions=exceptions, clock=clock)
        self.machine = BulkheadMachine(config.max_concurrent, config.max_waiting)
        self._holders: dict[asyncio.Task[object], int] = {}
        self._entered: dict[asyncio.Task[object] | None, list[object | None]] = {}
        self._wait_time = 0.0

    def admit(self, caller: Caller) -> object | None:
        """Take a place if one is free and nobody waits."""
        if not self.machine.try_take():
            return None
        return self._hold() if self.machine.max_waiting else PLACE

    def settle(self, ticket: object, outcome: Outcome, started: float | None) -> None:
        """Give the place back, to the first waiter if there is one."""
        if ticket is not PLACE:
            self._let_go(ticket)
        self.machine.release()

    def outlive(self, ticket: object) -> object:
        """Let the task go: the thread keeps the place, and the task may ask for another."""
        if ticket is not PLACE:
            self._let_go(ticket)
        return PLACE

    def refusal(self, caller: Caller) -> BulkheadFullError:
        """Say that all places are taken."""
        if self.machine.max_waiting:
            return self._refuse(BulkheadReason.QUEUE_FULL, "all places and the queue are taken")
        return self._refuse(BulkheadReason.CAPACITY_FULL, "all places are taken")

    async def wait(self, caller: Caller) -> object:
        """Queue for a place, first in, first out."""
        if not self.machine.max_waiting:
            raise self.refusal(caller)
        if _task() in self._holders:
            raise self._refuse(BulkheadReason.REENTRANT, "this task holds a place and would wait for itself")
        waiter = self.machine.join()
        if waiter is False:
            raise self.refusal(caller)
        if isinstance(waiter, Waiter):
            await self._queue(waiter)
        return self._hold()

    async def _queue(self, waiter: Waiter) -> None:
        begun = self.clock.monotonic()
        until = None if self.config.timeout is None else begun + self.config.timeout
        try:
            granted = await self.machine.queue.wait(waiter, until, self.clock, self.machine.release)
        finally:
            self._wait_time += self.clock.monotonic() - begun
        if not granted:
            raise self._refuse(BulkheadReason.TIMEOUT, f"no place came free within {self.config.timeout} s")

    def _refuse(self, reason: BulkheadReason, why: str) -> BulkheadFullError:
        machine = self.machine
        error = self.reject(
            reason,
            f"bulkhead {self.name!r} is full: {why} ({machine.active} of {machine.limit} in use, "
            f"{machine.queue.waiting} of {machine.max_waiting} waiting)",
            active_count=machine.active,
            waiting_count=machine.queue.waiting,
        )
        assert isinstance(error, BulkheadFullError)
        return error

    def _hold(self) -> object:
        task = _task()
        if task is None:
            return PLACE
        self._holders[task] = self._holders.get(task, 0) + 1
        return task

    def _let_go(self, ticket: object) -> None:
        assert isinstance(ticket, asyncio.Task)
        left = self._holders.get(ticket, 1) - 1
        if left:
            self._holders[ticket] = left
        else:
            self._holders.pop(ticket, None)

    async def __aenter__(self) -> Bulkhead:
        """Take a place, waiting for it if the config allows."""
        mode = self.mode_in(ALONE)
        ticket = None if mode == "off" else await self.take(ANYONE, mode)
        self._entered.setdefault(_task(), []).append(ticket)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        ticket = self._leaving()
        if ticket is not None:
            self.give(ticket, error, self.clock.monotonic(), Judge())

    def _leaving(self) -> object | None:
        """Return a ticket of this task; of any where another task closes an async generator that was left half-way."""
        entered, task = self._entered, _task()
        if task not in entered:
            task = next((one for one in entered if one is None or one.done()), next(iter(entered)))
        tickets = entered[task]
        ticket = tickets.pop()
        if not tickets:
            del entered[task]
        return ticket

    def retune(self, config: BulkheadConfig) -> None:
        """Resize: a shrink is a debt that releases pay, growth wakes waiters at once."""
        super().retune(config)
        self.machine.resize(config.max_concurrent, config.max_waiting)

    def is_full(self) -> bool:
        """Tell whether no place is free."""
        return self.machine.free <= 0

    def available_slots(self) -> int:
        """Return how many places are free."""
        return max(0, self.machine.free)

    @property
    def metrics(self) -> BulkheadMetrics:
        """The counts under the names of 0.2."""
        counts, machine = self.counts, self.machine
        rejected = sum(counts.rejected.values())
        let_in = counts.started + machine.active - self.kept
        average = self._wait_time / let_in if let_in else 0.0
        return BulkheadMetrics(
            let_in + rejected, counts.succeeded, rejected,
            machine.active, machine.peak, self._wait_time, average,
        )  # fmt: skip

    def get_metrics(self) -> dict[str, object]:
        """Return the counts, with `rejection_rate` and `utilization` as shares from 0 to 1."""
        metrics = self.metrics
        total = metrics.total_requests
        return metrics.to_dict() | {
            "rejection_rate": metrics.rejected_requests / total if total else 0.0,
            "utilization": self.machine.active / self.machine.limit,
        }

    def reset_metrics(self) -> None:
        """Start counting anew; places in use stay in use."""
        self.counts.reset()
        self._wait_time = 0.0
        self.machine.peak = self.machine.active

    def status(self) -> dict[str, object]:
        """Return places, queue and counts."""
        machine = self.machine
        return super().status() | {
            "active": machine.active,
            "limit": machine.limit,
            "waiting": machine.queue.waiting,
            "max_waiting": machine.max_waiting,
            "peak": machine.peak,
        }

    def fact(self, moment: str, error: BaseException | None = None) -> ResilienceEvent | None:
        """Build the event of a place taken, given back or refused."""
        machine = self.machine
        return BulkheadEvent(
            self.pattern_type,
            _event_type(moment, error),
            self.name,
            active_count=machine.active,
            waiting_count=machine.queue.waiting,
            max_concurrent=machine.limit,
            max_waiting=machine.max_waiting,
        )


def _event_type(moment: str, error: BaseException | None) -> EventType:
    if moment == "admitted":
        return EventType.SLOT_ACQUIRED
    if moment != "rejected":
        return EventType.SLOT_RELEASED
    reason = getattr(error, "reason", None)
    return EventType.BULKHEAD_FULL if reason is BulkheadReason.CAPACITY_FULL else EventType.QUEUE_FULL


def _task() -> asyncio.Task[object] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None
