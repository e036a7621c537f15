"""The states of a circuit, without awaiting: who may call, and what an outcome changes."""

from __future__ import annotations

import math
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from aioresilience.circuit_breaker.config import CircuitConfig
from aioresilience.circuit_breaker.windows import Outcomes, Totals, new_window, resized


class CircuitState(IntEnum):
    """Whether calls pass, are refused, or probe."""

    CLOSED = 0
    OPEN = 1
    HALF_OPEN = 2


CLOSED, OPEN, HALF_OPEN = CircuitState


class Probe:
    """The ticket of one probe; `by_hand` says that `can_execute` gave it out."""

    __slots__ = ("by_hand",)

    def __init__(self) -> None:
        self.by_hand = False


@dataclass(frozen=True, slots=True)
class Note:
    """What the machine did: `what` is state_change, probe_abandoned, circuit_forced, …, `why` in a few words."""

    what: str
    old: CircuitState
    new: CircuitState
    why: str
    failures: int
    successes: int


class Notes(deque[Note]):
    """The notes of a circuit, and what whoever publishes them holds."""

    __slots__ = ("telling",)

    def __init__(self) -> None:
        super().__init__()
        self.telling = threading.Lock()


NOTHING: Final = Notes()
"""The notes of circuits that never had any: an empty deque of its own takes 0.6 KB."""


NO_PROBES: Final[dict[object, float]] = {}


class CircuitMachine:
    """Decides who may call.

    A ticket is the era it was given in: the closed circuit's window, or a probe that is `live`. An outcome whose
    ticket is neither changes nothing. `ticket` and `window` may be read without the lock; the window of an era that is
    over is dead, and what is told to it reaches nobody. `notes` are left for the pattern to publish, in order.
    """

    __slots__ = (
        "_again", "_drawn", "_rng", "_unheard", "config", "forced", "live", "lock", "notes", "opened_at",
        "probe_at", "state", "streak", "successes", "ticket", "window",
    )  # fmt: skip

    def __init__(self, config: CircuitConfig, rng: Callable[[], float]) -> None:
        self.lock = threading.RLock()  # re-entrant: a destroyed call settles wherever the collector runs
        self.config = config
        self.notes = NOTHING
        self.state = CLOSED
        self.forced: str | None = None
        self.live = NO_PROBES
        self.successes = 0
        self.opened_at = self.probe_at = 0.0
        self._rng = rng
        self._drawn = 0.0
        self._again = 0
        self.streak = 0
        """The failures in a row that opened the circuit, and those of its probes since."""
        self._unheard: float | None = None
        self.window: Outcomes = new_window(config)
        self.ticket: Outcomes | None = self.window

    # Admission

    def probe(self, now: float) -> object | None:
        """Admit a call that found no ticket, as a probe if it is time and there is a place."""
        with self.lock:
            self._expire(now)
            if self.state is OPEN and now >= self.probe_at:
                self._turn(HALF_OPEN, "time to probe")
            if self.state is not HALF_OPEN:
                return self.ticket
            if len(self.live) >= self.config.half_open_max_calls:
                return None
            probe = Probe()
            self._let(probe, now)
            if self._unheard is None:
                self._unheard = now
            return probe

    def _let(self, probe: Probe, now: float) -> None:
        if self.live is NO_PROBES:
            self.live = {}
        self.live[probe] = now

    def _expire(self, now: float) -> None:
        """Give up hung probes; open again, as of then, if no probe has brought a result for as long."""
        patience = self.config.half_open_timeout
        if self.state is not HALF_OPEN or patience is None:
            return
        self._give_up(now, patience)
        if self._unheard is not None and now - self._unheard >= patience:
            self._open(self._unheard + patience, "probes brought no result")

    def _give_up(self, now: float, patience: float) -> None:
        while self.live:
            oldest = next(iter(self.live))
            if now - self.live[oldest] < patience:
                return
            del self.live[oldest]
            self._note("probe_abandoned", "no result in time")

    # Outcomes

    def succeed(self, ticket: object, now: float, started: float | None) -> None:
        """Take in a success; a slow one counts as slow, and as a failed probe."""
        with self.lock:
            slow = self._is_slow(now, started)
            if ticket is self.ticket:
                self.window.note(now, failed=False, slow=slow)
                if slow:
                    self._evaluate(now)
            elif self._return(ticket, now):
                if slow:
                    self._open(now, "a probe was slow")
                else:
                    self._succeed_probe()

    def fail(self, ticket: object, now: float, started: float | None) -> bool:
        """Take in a failure; return whether it opened the circuit."""
        with self.lock:
            if ticket is self.ticket:
                self.window.note(now, failed=True, slow=self._is_slow(now, started))
                return self._evaluate(now)
            if not self._return(ticket, now):
                return False
            self.streak += 1
            self._open(now, "a probe failed")
            return True

    def withdraw(self, ticket: object, *, started: bool) -> None:
        """Take back a call that tells nothing; one that never started has not kept anybody waiting for a result."""
        with self.lock:
            if self.live.pop(ticket, None) is not None and not started:
                self._unheard = next(iter(self.live.values()), None)

    def claim(self, now: float) -> object:
        """Find a ticket for an outcome without one: while half-open, a probe given out by hand, else a new one."""
        with self.lock:
            self._expire(now)
            if self.ticket is not None:
                return self.ticket
            by_hand = (probe for probe in self.live if isinstance(probe, Probe) and probe.by_hand)
            probe = next(by_hand, None) or Probe()
            if self.state is HALF_OPEN and probe not in self.live:
                self._let(probe, now)
            return probe

    def _return(self, ticket: object, now: float) -> bool:
        if ticket not in self.live:
            return False
        self._expire(now)
        return self.live.pop(ticket, None) is not None

    def _succeed_probe(self) -> None:
        self._unheard = None
        self.streak = 0
        self.successes += 1
        if self.successes >= self.config.success_threshold:
            self._close("probes succeeded")

    def _is_slow(self, now: float, started: float | None) -> bool:
        limit = self.config.slow_call_duration
        return limit is not None and started is not None and now - started >= limit

    def _evaluate(self, now: float) -> bool:
        why = None if self.forced is not None else self._exceeded(now)
        if why is None:
            return False
        self._open(now, why)
        return True

    def _exceeded(self, now: float) -> str | None:
        config = self.config
        if config.failure_threshold is not None and self.window.streak >= config.failure_threshold:
            return f"{self.window.streak} failures in a row"
        calls, failures, slow = self.window.totals(now)
        if calls < config.minimum_calls:
            return None
        if config.failure_rate is not None and failures / calls >= config.failure_rate:
            return f"{failures} of {calls} calls failed"
        if config.slow_call_rate is not None and slow / calls >= config.slow_call_rate:
            return f"{slow} of {calls} calls were slow"
        return None

    # States

    def _open(self, at: float, why: str) -> None:
        self._again = self._again + 1 if self.state is HALF_OPEN else 0
        self.streak = self.failures_in_row
        self.opened_at = at
        self._drawn = self._rng()
        self._schedule()
        self._turn(OPEN, why)

    def _close(self, why: str) -> None:
        self._turn(CLOSED, why)
        self.window = self.ticket = new_window(self.config)

    def _turn(self, state: CircuitState, why: str) -> None:
        """End the era: no ticket of it is good any more."""
        if self.state is not state:
            self._note("state_change", why, state)
        self.state = state
        self.ticket = None
        self.live = NO_PROBES
        self._unheard = None
        self.successes = 0

    def _note(self, what: str, why: str, new: CircuitState | None = None) -> None:
        new = self.state if new is None else new
        if self.notes is NOTHING:
            self.notes = Notes()
        self.notes.append(Note(what, self.state, new, why, self.failures_in_row, self.successes))

    def _schedule(self) -> None:
        if self.forced is not None:
            self.probe_at = math.inf
            return
        wait = _recovery_time(self.config, self._again)
        self.probe_at = self.opened_at + wait * (1 - self.config.recovery_jitter * self._drawn)

    # Control by hand

    def force(self, state: CircuitState, reason: str, now: float) -> None:
        """Hold the circuit open or closed until `release` or `reset`."""
        with self.lock:
            self.forced = reason
            if state is OPEN:
                self._open(now, reason)
            else:
                self._close(reason)
            self._note("circuit_forced", reason)

    def release(self) -> None:
        """Let outcomes decide again, from a closed circuit that remembers nothing."""
        with self.lock:
            if self.forced is not None:
                self.forced = None
                self._close("released")
                self._note("circuit_released", "released")

    def reset(self) -> None:
        """Start as new: closed, not forced, nothing remembered."""
        with self.lock:
            self.forced = None
            self._close("reset")
            self._note("circuit_reset", "reset")

    def retune(self, config: CircuitConfig, now: float) -> None:
        """Take a new config: rules hold from the next outcome on, an open circuit waits anew from when it opened."""
        with self.lock:
            self.config = config
            if self.state is OPEN:
                self._schedule()
            if self.ticket is None:
                return
            kept = resized(self.window, config, now)
            if kept is not self.window:
                self.window = self.ticket = kept
                self._note("state_restarted", f"the window is now of another kind: {config.window or 'none'}")

    # What can be seen

    @property
    def reopened(self) -> bool:
        """Whether the circuit last opened from half-open."""
        return self._again > 0

    @property
    def failures_in_row(self) -> int:
        """The failures since the last success, those that opened the circuit and failed probes included."""
        return self.streak if self.ticket is None else self.window.streak

    def retry_after(self, now: float) -> float | None:
        """Return the seconds to the next probe of an open circuit; None where nobody knows."""
        with self.lock:
            known = self.state is OPEN and self.forced is None
            return max(0.0, self.probe_at - now) if known else None

    def totals(self, now: float) -> Totals:
        """Count what the closed circuit's window holds."""
        with self.lock:
            return (0, 0, 0) if self.ticket is None else self.window.totals(now)


def _recovery_time(config: CircuitConfig, again: int) -> float:
    """Return the seconds to wait after probing failed `again` times."""
    base = config.recovery_timeout
    try:
        grown = base * config.recovery_multiplier**again
    except OverflowError:
        grown = sys.float_info.max
    longest = math.inf if config.max_recovery_timeout is None else max(base, config.max_recovery_timeout)
    return min(grown, longest, sys.float_info.max)
