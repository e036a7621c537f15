"""The circuit breaker: what wraps a call, and what can be seen and done by hand."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from aioresilience.calls import ANYONE, Call, Caller, Handler
from aioresilience.circuit_breaker.config import CircuitConfig
from aioresilience.circuit_breaker.machine import CLOSED, HALF_OPEN, OPEN, CircuitMachine, CircuitState, Note, Probe
from aioresilience.clock import Clock
from aioresilience.events import CircuitBreakerEvent, EventType, PatternType, ResilienceEvent
from aioresilience.exceptions import (
    CircuitBreakerOpenError,
    CircuitBreakerReason,
    ExceptionConfig,
    OperationTimeoutError,
    RejectionError,
)
from aioresilience.failures import FAILURE, SUCCESS, Judge, Matcher, Outcome
from aioresilience.guard import Guard
from aioresilience.modes import enforcer
from aioresilience.pattern import ALONE, Context
from aioresilience.scope import Scope

_MOMENTS = {"succeeded": EventType.CALL_SUCCESS, "failed": EventType.CALL_FAILURE}


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


class CircuitBreaker(Guard[CircuitConfig]):
    """Stops calling a dependency that fails, and finds out by a few probes when it is well again.

    `rng` draws numbers from [0, 1) for the jitter of the recovery time.
    """

    key = "circuit_breaker"
    config_type = CircuitConfig
    pattern_type = PatternType.CIRCUIT_BREAKER
    reasons = CircuitBreakerReason
    error_type = CircuitBreakerOpenError

    def __init__(
        self,
        name: str | None = "default",
        config: CircuitConfig | None = None,
        exceptions: ExceptionConfig | None = None,
        *,
        clock: Clock | None = None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        if name == "":
            raise ValueError("a circuit breaker needs a name that is not empty")
        config = config or CircuitConfig()
        super().__init__(name, config, exceptions=exceptions, clock=clock)
        self.machine = CircuitMachine(config, rng)
        self._telling = threading.Lock()
        self._enforced = enforcer(self.mode_in(ALONE))
        self._by_hand: WeakKeyDictionary[asyncio.Task[object], object] = WeakKeyDictionary()
        self._changed = 0.0
        self._failed: tuple[float, float] | None = None
        self._successes_before = 0
        self._counted_before = (0, 0, 0)

    # The guard

    def admit(self, caller: Caller) -> object | None:
        """Let every call pass while closed, probes while half-open."""
        ticket = self.machine.ticket
        return ticket if ticket is not None else self._probe()

    def _probe(self) -> object | None:
        ticket = self.machine.probe(self.clock.monotonic())
        self._announce()
        return ticket

    def settle(self, ticket: object, outcome: Outcome, started: float | None) -> CircuitBreakerReason | None:
        """Tell the outcome to the era that the call started in."""
        window = self.machine.window
        if ticket is window and outcome is SUCCESS and (window.plain or self.clock.monotonic() < window.until):
            window.calls += 1
            return None
        return self._settle(ticket, outcome, started)

    def _settle(self, ticket: object, outcome: Outcome, started: float | None) -> CircuitBreakerReason | None:
        machine, now = self.machine, self.clock.monotonic()
        opened = False
        if outcome is SUCCESS:
            machine.succeed(ticket, now, started)
        elif outcome is FAILURE:
            self._failed = now, self.clock.wall()
            self._successes_before = self.counts.succeeded
            opened = machine.fail(ticket, now, started)
        else:
            machine.withdraw(ticket, started=started is not None)
        self._announce()
        if outcome is not FAILURE:
            return None
        return CircuitBreakerReason.THRESHOLD_EXCEEDED if opened else CircuitBreakerReason.CALL_FAILED

    def refusal(self, caller: Caller) -> RejectionError:
        """Say that the circuit is open, or that all probes are under way."""
        machine = self.machine
        wait = machine.retry_after(self.clock.monotonic())
        details = self.failure_details()
        if machine.state is HALF_OPEN:
            why = f"half-open, and its {len(machine.live)} probes are under way"
            return self._refuse(CircuitBreakerReason.HALF_OPEN_REJECTION, why, wait, details)
        why = "open" if wait is None else f"open, next probe in {wait:.3g} s"
        if (forced := machine.forced) is not None:
            why, details = f"forced open: {forced}", {**details, "forced": forced}
        return self._refuse(CircuitBreakerReason.CIRCUIT_OPEN, why, wait, details)

    def _refuse(
        self, reason: CircuitBreakerReason, why: str, wait: float | None, details: Mapping[str, object]
    ) -> RejectionError:
        return self.reject(reason, f"circuit breaker {self.name!r} is {why}", wait, **details)

    def judge(self, context: Context) -> Judge:
        """Let `failure_exceptions` and `failure_predicate` win over `classify`."""
        config = self.config
        return Judge(
            context.classify,
            None if config.failure_exceptions is None else Matcher(config.failure_exceptions),
            config.failure_predicate,
            context.attempt_timeout or config.timeout,
        )

    def layer(self, inner: Handler, context: Context) -> Handler:
        """Bound the call in time where `timeout` is set, then go the path of every guard."""
        limit = self.config.timeout
        return super().layer(inner if limit is None else self._bounded(inner, limit), context)

    def _bounded(self, inner: Handler, limit: float) -> Handler:
        async def bounded(call: Call) -> object:
            scope = Scope(self.clock.monotonic() + limit, limit, clock=self.clock, on_stall=self._stalled)
            scope.enter()
            try:
                result = await inner(call)
            except BaseException as error:
                if not scope.leave(error):
                    raise
                raise self._timed_out(limit, scope) from error
            scope.leave(None)
            return result

        return bounded

    def _timed_out(self, limit: float, scope: Scope) -> OperationTimeoutError:
        error = OperationTimeoutError(
            f"timeout of {limit:g} s exceeded in circuit breaker {self.name!r}",
            self.name, self.type_name, CircuitBreakerReason.TIMEOUT, policy=self.policy, timeout=limit,
        )  # fmt: skip
        error.neutral = scope.stalled
        return error

    def _stalled(self, late: float) -> None:
        if self.listening():
            self.decided("loop_stalled", waited=late)

    def retune(self, config: CircuitConfig) -> None:
        """Take new rules; the state and what its window holds stay, a window of another kind starts empty."""
        super().retune(config)
        self._enforced = enforcer(self.mode_in(ALONE))
        self.machine.retune(config, self.clock.monotonic())
        self._announce()

    # By hand

    def force_open(self, reason: str) -> None:
        """Refuse every call until `release`; `reason` is in the errors, the events and the status."""
        self.machine.force(OPEN, reason, self.clock.monotonic())
        self._announce()

    def force_closed(self, reason: str) -> None:
        """Let every call pass until `release`, whatever its outcome; `reason` is in the events and the status."""
        self.machine.force(CLOSED, reason, self.clock.monotonic())
        self._announce()

    def release(self) -> None:
        """End `force_open` or `force_closed`: outcomes decide again, from a closed circuit that remembers nothing."""
        self.machine.release()
        self._announce()

    async def reset(self) -> None:
        """Start as new: closed, not forced, no failures, the metrics at zero; `counts` go on."""
        self.machine.reset()
        counts = self.counts
        self._counted_before = _counted(self)
        self._successes_before = counts.succeeded
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
            self._by_hand[task] = ticket
        if self.listening():
            self.tell("admitted")
        return True

    def _refused_by_hand(self) -> bool:
        if not self._enforced(ANYONE):
            self.counts.observed += 1
            return True
        error = self.refusal(ANYONE)
        if isinstance(error.reason, CircuitBreakerReason):
            self.counts.rejected[error.reason.name] += 1
        if self.listening():
            self.decided("rejected", error)
        return False

    async def on_success(self) -> None:
        """Report a success of the call that this task asked `can_execute` for."""
        self._report(SUCCESS)

    async def on_failure(self) -> None:
        """Report a failure of the call that this task asked `can_execute` for."""
        self._report(FAILURE)

    def _report(self, outcome: Outcome) -> None:
        now, task = self.clock.monotonic(), asyncio.current_task()
        ticket = None if task is None else self._by_hand.pop(task, None)
        self.counts.started += 1
        self.counts.settle(outcome)
        self.settle(self.machine.claim(now) if ticket is None else ticket, outcome, None)
        if self.listening():
            self.tell("succeeded" if outcome is SUCCESS else "failed")

    call = Guard.execute

    # What can be seen

    @property
    def state(self) -> CircuitState:
        """Whether calls pass, are refused, or probe; an open circuit turns half-open when a call comes."""
        return self.machine.state

    @property
    def half_open_calls(self) -> int:
        """How many probes are under way."""
        return len(self.machine.live)
