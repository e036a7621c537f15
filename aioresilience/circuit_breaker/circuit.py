"""The circuit breaker as a guard: who may call, what an outcome changes, what is told about it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Final, Self, cast

from aioresilience.calls import Caller, Exit, Handler, Trace
from aioresilience.circuit_breaker.config import CircuitConfig
from aioresilience.circuit_breaker.machine import CLOSED, HALF_OPEN, OPEN, CircuitMachine, CircuitState, Note
from aioresilience.circuit_breaker.own_timeout import OwnTimeout
from aioresilience.clock import Clock
from aioresilience.events import CircuitBreakerEvent, EventType, PatternType, ResilienceEvent, audience
from aioresilience.exceptions import (
    CircuitBreakerOpenError,
    CircuitBreakerReason,
    ExceptionConfig,
    RejectionError,
)
from aioresilience.exceptions.errors import UNSAID
from aioresilience.failures import FAILURE, SUCCESS, ErrorPredicate, Judge, Matcher, Outcome, judge_of
from aioresilience.guard import Guard
from aioresilience.modes import enforcer
from aioresilience.pattern import ALONE, Context

_new = Exception.__new__
_OPEN, _BUSY = CircuitBreakerReason.CIRCUIT_OPEN, CircuitBreakerReason.HALF_OPEN_REJECTION
_NAMES = {state: state.name.lower() for state in CircuitState}
_MOMENTS = {"succeeded": EventType.CALL_SUCCESS, "failed": EventType.CALL_FAILURE}


class Circuit(Guard[CircuitConfig]):
    """A circuit as a guard: `CircuitBreaker` without what 0.2 called by hand."""

    key = "circuit_breaker"
    config_type = CircuitConfig
    pattern_type = PatternType.CIRCUIT_BREAKER
    reasons = CircuitBreakerReason
    error_type = CircuitBreakerOpenError
    machine: Final[CircuitMachine]
    splits = True

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
        self._enforced = enforcer(self.mode_in(ALONE))
        self._changed = 0.0
        self._failed: tuple[float, float] | None = None
        self._successes_before = 0

    # The guard

    def admit(self, caller: Caller) -> object | None:
        """Let every call pass while closed, probes while half-open."""
        machine = self.machine
        ticket = machine.ticket
        if ticket is not None:
            return ticket
        if machine.state is OPEN and self.clock.monotonic() < machine.probe_at:
            return None
        return self._probe()

    def _probe(self) -> object | None:
        ticket = self.machine.probe(self.clock.monotonic())
        self._announce()
        return ticket

    def settle(self, ticket: object, outcome: Outcome, started: float | None) -> CircuitBreakerReason | None:
        """Tell the outcome to the era that the call started in."""
        window = self.machine.window
        if ticket is not window or outcome is not SUCCESS:
            return self._settle(ticket, outcome, started)
        if not window.plain:
            now = self.clock.monotonic()
            if now >= window.until or (started is not None and now - started >= window.slow_after):
                return self._settle(ticket, outcome, started)
        window.calls += 1
        return None

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
        return self.refused(caller)[0]

    def refused(self, caller: Caller) -> tuple[RejectionError, CircuitBreakerReason]:
        """Return the refusal and its reason; the error puts off what it says."""
        machine, kind = self.machine, self.error_type
        if machine.state is HALF_OPEN:
            return _new(kind, UNSAID, _say_busy, self, len(machine.live), machine.streak), _BUSY
        wait, streak = machine.probe_at - self.clock.monotonic(), machine.streak
        return _new(kind, UNSAID, _say_open, self, machine.state, streak, wait, machine.forced), _OPEN

    def turned_away(self, caller: Caller, trace: Trace | None) -> RejectionError:
        """Return the refusal, counted and told: while the circuit is open, calls do little else."""
        machine = self.machine
        if trace or audience.size or machine.state is not OPEN:
            return self.told_away(caller, trace)
        self.counts.rejected["CIRCUIT_OPEN"] += 1
        wait = machine.probe_at - self.clock.monotonic()
        return _new(self.error_type, UNSAID, _say_open, self, OPEN, machine.streak, wait, machine.forced)

    def judge(self, context: Context) -> Judge:
        """Let `failure_exceptions` and `failure_predicate` win over `classify`."""
        config, timeout = self.config, context.attempt_timeout or self.config.timeout
        if config.failure_exceptions is None and config.failure_predicate is None:
            return judge_of(context.classify, timeout)
        own = None if config.failure_exceptions is None else Matcher(config.failure_exceptions)
        return Judge(context.classify, own, cast("ErrorPredicate | None", config.failure_predicate), timeout)

    @property
    def reads_start(self) -> bool:
        """Whether a call may be slow."""
        return self.config.slow_call_duration is not None

    @property
    def is_common(self) -> bool:
        """Whether calls go the path of every guard, as they do without a `timeout` of the breaker's own."""
        return self.config.timeout is None

    def layer(self, inner: Handler, context: Context) -> Handler:
        """Bound the call in time where `timeout` is set, then go the path of every guard."""
        own = self._own_timeout(context)
        return super().layer(inner if own is None else own.around(inner), context)

    def _own_timeout(self, context: Context) -> OwnTimeout | None:
        limit = self.config.timeout
        return None if limit is None else OwnTimeout(self, limit, self.enforcing(self.mode_in(context)))

    def bound(self, context: Context) -> Callable[[Caller, Trace], Exit] | None:
        """Return the breaker's own timeout."""
        own = self._own_timeout(context)
        return None if own is None else own.open

    def retune(self, config: CircuitConfig) -> None:
        """Take new rules; the state and what its window holds stay, a window of another kind starts empty."""
        super().retune(config)
        self._enforced = enforcer(self.mode_in(ALONE))
        self.machine.retune(config, self.clock.monotonic())
        self._announce()

    # Control by hand

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

    def follow(self, whole: Self) -> None:
        """Hold open, hold closed or let go with the circuit that this one is a twin of."""
        forced, machine = whole.machine.forced, self.machine
        if forced is machine.forced and (forced is None or machine.state is whole.machine.state):
            return
        if forced is None:
            machine.release()
        else:
            machine.force(whole.machine.state, forced, self.clock.monotonic())
        self._announce()

    def holds_back(self, now: float) -> bool:
        """Tell whether the circuit refuses: it is held open, or its wait is not over."""
        return self.machine.state is OPEN and now < self.machine.probe_at

    # What can be seen

    @property
    def state(self) -> CircuitState:
        """Whether calls pass, are refused, or probe; an open circuit turns half-open when a call comes."""
        return self.machine.state

    @property
    def half_open_calls(self) -> int:
        """How many probes are under way."""
        return len(self.machine.live)

    def failure_details(self) -> Mapping[str, object]:
        """Return the state, in lower case, and the failures in a row."""
        return {"state": _NAMES[self.machine.state], "failure_count": self.machine.failures_in_row}

    async def report_failure(self, reason: IntEnum | None, error: BaseException) -> None:
        """Give the ExceptionConfig its say about a failed call; `old_state` is the state that it ended, if it did."""
        if reason is not None:
            state = self.machine.state
            if reason is CircuitBreakerReason.THRESHOLD_EXCEEDED:
                state = HALF_OPEN if self.machine.reopened else CLOSED
            await self.hand_over(reason, error, str(error), old_state=_NAMES[state], **self.failure_details())

    def status(self) -> dict[str, object]:
        """Return the state, what the window holds, and the counts; `retry_after` in seconds, None where unknown."""
        machine, now = self.machine, self.clock.monotonic()
        calls, failures, slow = machine.totals(now)
        return super().status() | {
            "state": _NAMES[self.state],
            "forced": machine.forced,
            "retry_after": machine.retry_after(now),
            "half_open_calls": self.half_open_calls,
            "failures_in_row": machine.failures_in_row,
            "window": {"calls": calls, "failures": failures, "slow": slow},
        }

    def fact(self, moment: str, error: BaseException | None = None) -> ResilienceEvent | None:
        """Build the event of a probe, a success or a failure."""
        event_type = _MOMENTS.get(moment)
        if moment == "admitted" and self.state is HALF_OPEN:
            event_type = EventType.HALF_OPEN_PROBE
        if event_type is None:
            return None
        machine = self.machine
        return CircuitBreakerEvent(
            self.pattern_type, event_type, self.name, self.clock.wall(), self.failure_details(),
            self.state, self.state, machine.failures_in_row, machine.successes,
        )  # fmt: skip

    def _announce(self) -> None:
        """Publish what the machine did, in order, whichever threads made it do so."""
        notes = self.machine.notes
        while notes and notes.telling.acquire(blocking=False):
            try:
                while notes:
                    self._publish(notes.popleft())
            finally:
                notes.telling.release()

    def _publish(self, note: Note) -> None:
        wall = self.clock.wall()
        if note.old is not note.new:
            self._changed = wall
        if self.listening():
            event_type = EventType[note.what.upper()]
            event = CircuitBreakerEvent(
                self.pattern_type, event_type, self.name, wall, {"reason": note.why},
                note.old, note.new, note.failures, note.successes,
            )  # fmt: skip
            self.events.publish(event)


def _say_busy(circuit: Circuit, probes: int, failures: int) -> RejectionError:
    message = f"circuit breaker {circuit.name!r} is half-open, and its {probes} probes are under way"
    return circuit.reject(_BUSY, message, state=_NAMES[HALF_OPEN], failure_count=failures)


def _say_open(circuit: Circuit, state: CircuitState, failures: int, wait: float, forced: str | None) -> RejectionError:
    message, about = f"circuit breaker {circuit.name!r} is ", {"state": _NAMES[state], "failure_count": failures}
    if forced is not None:
        return circuit.reject(_OPEN, f"{message}forced: {forced}", None, **about, forced=forced)
    wait = max(0.0, wait)
    return circuit.reject(_OPEN, f"{message}open, next probe in {wait:.3g} s", wait, **about)
