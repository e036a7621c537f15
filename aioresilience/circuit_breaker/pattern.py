"""The circuit breaker with all that 0.2 called by hand: admission and outcomes one by one, and the metrics."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from aioresilience.calls import ANYONE
from aioresilience.circuit_breaker.circuit import Circuit
from aioresilience.circuit_breaker.config import CircuitConfig
from aioresilience.circuit_breaker.machine import CircuitState, Probe
from aioresilience.clock import Clock
from aioresilience.exceptions import CircuitBreakerReason, ExceptionConfig
from aioresilience.failures import FAILURE, SUCCESS, Outcome


@dataclass
class CircuitMetrics:
    """The counts of a circuit breaker, under the names of 0.2; the two times are seconds since the epoch."""

    total_requests: int = 0
    successful_requests: int = 0
    failed_requests: int = 0
    consecutive_failures: int = 0
    consecutive_successes: int = 0
    last_failure_time: float | None = None
    last_state_change: float = 0.0

    @property
    def failure_rate(self) -> float:
        """Failed requests as a share of all, from 0 to 1."""
        return self.failed_requests / self.total_requests if self.total_requests else 0.0

    @property
    def success_rate(self) -> float:
        """Successful requests as a share of all, from 0 to 1."""
        return self.successful_requests / self.total_requests if self.total_requests else 0.0


class CircuitBreaker(Circuit):
    """Stops calling a dependency that fails, and finds out by a few probes when it is well again.

    `rng` draws numbers from [0, 1) for the jitter of the recovery time.
    """

    def __init__(
        self,
        name: str | None = "default",
        config: CircuitConfig | None = None,
        exceptions: ExceptionConfig | None = None,
        *,
        clock: Clock | None = None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(name, config, exceptions, clock=clock, rng=rng)
        self._by_hand: WeakKeyDictionary[asyncio.Task[object], object] | None = None
        self._settled_before = (0, 0, 0)

    call = Circuit.execute

    def get_state(self) -> CircuitState:
        """Return the state."""
        return self.state

    async def reset(self) -> None:
        """Start as new: closed, not forced, no failures, the metrics at zero; `counts` go on."""
        self.machine.reset()
        self._settled_before = _settled(self)
        self._successes_before = self.counts.succeeded
        self._failed = None
        self._announce()

    async def can_execute(self) -> bool:
        """Tell whether a call may start, and take its place; report its end by `on_success` or `on_failure`."""
        ticket = self.admit(ANYONE)
        if ticket is None:
            return self._refused_by_hand()
        if isinstance(ticket, Probe):
            ticket.by_hand = True
        if (task := asyncio.current_task()) is not None:
            self._given_by_hand()[task] = ticket
        if self.listening():
            self.tell("admitted")
        return True

    def _given_by_hand(self) -> WeakKeyDictionary[asyncio.Task[object], object]:
        with self.machine.lock:
            if self._by_hand is None:
                self._by_hand = WeakKeyDictionary()
            return self._by_hand

    def _refused_by_hand(self) -> bool:
        if not self._enforced(ANYONE):
            self.counts.observed += 1
            return True
        error = self.refusal(ANYONE)
        if isinstance(error.reason, CircuitBreakerReason):
            self.counts.rejected[error.reason.name] += 1
        self.decided(error)
        return False

    async def on_success(self) -> None:
        """Report a success of the call that this task asked `can_execute` for."""
        self._report(SUCCESS)

    async def on_failure(self) -> None:
        """Report a failure of the call that this task asked `can_execute` for."""
        self._report(FAILURE)

    def _report(self, outcome: Outcome) -> None:
        now, task, given = self.clock.monotonic(), asyncio.current_task(), self._by_hand
        ticket = None if task is None or given is None else given.pop(task, None)
        self.counts.settle(outcome)
        self.settle(self.machine.claim(now) if ticket is None else ticket, outcome, None)
        if self.listening():
            self.tell("succeeded" if outcome is SUCCESS else "failed")

    @property
    def metrics(self) -> CircuitMetrics:
        """The counts since the last reset, under the names of 0.2."""
        succeeded, failed, neutral = _settled(self)
        was_succeeded, was_failed, was_neutral = self._settled_before
        return CircuitMetrics(
            succeeded - was_succeeded + failed - was_failed + neutral - was_neutral,
            succeeded - was_succeeded,
            failed - was_failed,
            self.machine.failures_in_row,
            succeeded - self._successes_before,
            None if self._failed is None else self._failed[1],
            self._changed,
        )

    def get_metrics(self) -> dict[str, object]:
        """Return state and counts since the last reset; `time_since_last_failure` in seconds."""
        metrics, failed = self.metrics, self._failed
        return {
            "name": self.name,
            "state": self.state.name.lower(),
            "total_requests": metrics.total_requests,
            "successful_requests": metrics.successful_requests,
            "failed_requests": metrics.failed_requests,
            "failure_rate": metrics.failure_rate,
            "consecutive_failures": metrics.consecutive_failures,
            "consecutive_successes": metrics.consecutive_successes,
            "last_failure_time": metrics.last_failure_time,
            "time_since_last_failure": None if failed is None else self.clock.monotonic() - failed[0],
        }


def _settled(circuit: Circuit) -> tuple[int, int, int]:
    counts = circuit.counts
    return counts.succeeded, counts.failed, counts.neutral
