"""The machine against a naive model: lists of outcomes, a dict of probes, and the clock."""

from __future__ import annotations

import itertools
import math

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aioresilience.circuit_breaker import CircuitConfig, CircuitState
from aioresilience.circuit_breaker.machine import NO_PROBES, CircuitMachine

CLOSED, OPEN, HALF_OPEN = CircuitState
DRAWN = 0.25

configs = st.fixed_dictionaries(
    {
        "failure_threshold": st.integers(1, 4) | st.none(),
        "window": st.integers(1, 8),
        "failure_rate": st.sampled_from([0.2, 0.5, 1.0]) | st.none(),
        "minimum_calls": st.integers(1, 6),
        "slow_call_rate": st.just(0.5),
        "slow_call_duration": st.just(2.0),
        "success_threshold": st.integers(1, 3),
        "half_open_max_calls": st.integers(1, 3),
        "half_open_timeout": st.sampled_from([3.0, 8.0]) | st.none(),
        "recovery_timeout": st.sampled_from([4.0, 10.0]),
        "recovery_multiplier": st.sampled_from([1.0, 2.0]),
        "max_recovery_timeout": st.sampled_from([15.0]) | st.none(),
        "recovery_jitter": st.sampled_from([0.0, 0.2]),
    }
).map(lambda fields: CircuitConfig(**{**fields, "minimum_calls": min(fields["minimum_calls"], fields["window"])}))


outcomes = st.sampled_from(["success", "success", "failure", "neutral"])
durations = st.sampled_from([None, 1, 1, 3])


class Model:
    """What semantics.md says, without any thought for cost."""

    def __init__(self, config: CircuitConfig) -> None:
        self.config = config
        self.now = 1_000.0
        self.state = CLOSED
        self.forced = False
        self.era = 0
        self.outcomes: list[tuple[bool, bool]] = []
        self.streak = 0
        self.probes: dict[object, float] = {}
        self.successes = 0
        self.again = 0
        self.opened_at = 0.0
        self.unheard: float | None = None

    def turn(self, state: CircuitState) -> None:
        self.state = state
        self.era += 1
        self.outcomes, self.probes = [], {}
        self.successes, self.unheard = 0, None
        if state is CLOSED:
            self.streak = 0

    def open(self, at: float) -> None:
        self.again = self.again + 1 if self.state is HALF_OPEN else 0
        self.opened_at = at
        self.turn(OPEN)

    @property
    def probe_at(self) -> float:
        if self.forced:
            return math.inf
        config = self.config
        wait = config.recovery_timeout * config.recovery_multiplier**self.again
        if config.max_recovery_timeout is not None:
            wait = min(wait, max(config.recovery_timeout, config.max_recovery_timeout))
        return self.opened_at + wait * (1 - config.recovery_jitter * DRAWN)

    def expire(self) -> None:
        patience = self.config.half_open_timeout
        if self.state is HALF_OPEN and patience is not None:
            self.probes = {probe: since for probe, since in self.probes.items() if self.now - since < patience}
            if self.unheard is not None and self.now - self.unheard >= patience:
                self.open(self.unheard + patience)

    def admits(self) -> bool:
        self.expire()
        if self.state is OPEN and self.now >= self.probe_at:
            self.turn(HALF_OPEN)
        if self.state is HALF_OPEN:
            return len(self.probes) < self.config.half_open_max_calls
        return self.state is CLOSED

    def take(self, ticket: object) -> None:
        if self.state is HALF_OPEN:
            self.probes[ticket] = self.now
            self.unheard = self.now if self.unheard is None else self.unheard

    def settle(self, ticket: object, era: int, outcome: str, slow: bool, started: bool) -> bool:
        """Return whether a failure opened the circuit."""
        if outcome == "neutral":
            if self.probes.pop(ticket, None) is not None and not started:
                self.unheard = next(iter(self.probes.values()), None)
            return False
        if self.state is HALF_OPEN and ticket in self.probes:
            self.expire()
        if era != self.era:
            return False
        if self.state is CLOSED:
            return self.count(outcome == "failure", slow)
        if self.probes.pop(ticket, None) is None:
            return False
        if outcome == "failure" or slow:
            self.streak += outcome == "failure"
            self.open(self.now)
            return outcome == "failure"
        self.streak, self.unheard = 0, None
        self.successes += 1
        if self.successes >= self.config.success_threshold:
            self.turn(CLOSED)
        return False

    def count(self, failed: bool, slow: bool) -> bool:
        config = self.config
        self.outcomes = [*self.outcomes, (failed, slow)][-config.window.count :]
        self.streak = self.streak + 1 if failed else 0
        if self.forced or not (failed or slow):
            return False
        many = len(self.outcomes) >= config.minimum_calls
        opens = config.failure_threshold is not None and self.streak >= config.failure_threshold
        if config.failure_rate is not None:
            opens |= many and sum(f for f, _ in self.outcomes) / len(self.outcomes) >= config.failure_rate
        opens |= many and sum(s for _, s in self.outcomes) / len(self.outcomes) >= config.slow_call_rate
        if opens:
            self.open(self.now)
        return opens


class Breaker(RuleBasedStateMachine):
    """Most rules work on recent tickets and lead towards probing; old tickets and control by hand come in between."""

    @initialize(config=configs)
    def build(self, config: CircuitConfig) -> None:
        self.model = Model(config)
        self.machine = CircuitMachine(config, lambda: DRAWN)
        self.tickets: list[tuple[object, int]] = []

    @rule(calls=st.integers(1, 4))
    def admit(self, calls: int) -> None:
        for _ in range(calls):
            ticket = self.machine.ticket or self.machine.probe(self.model.now)
            assert (ticket is not None) == self.model.admits()
            if ticket is not None:
                self.model.take(ticket)
                self.tickets.append((ticket, self.model.era))

    @rule(outcome=outcomes, took=durations, back=st.integers(1, 3))
    def settle_a_recent_call(self, outcome: str, took: float | None, back: int) -> None:
        if self.tickets:
            self.settle(*self.tickets.pop(-min(back, len(self.tickets))), outcome, took)

    @rule(outcome=outcomes, took=durations, number=st.integers(0, 50))
    def settle_any_call_perhaps_twice(self, outcome: str, took: float | None, number: int) -> None:
        if self.tickets:
            self.settle(*self.tickets[number % len(self.tickets)], outcome, took)

    @rule(probing=st.booleans())
    def trip(self, probing: bool) -> None:
        for _ in range(20):
            if self.model.state is CLOSED:
                self.settle(self.machine.ticket, self.model.era, "failure", 1)
        self.model.now += 100.0 * probing

    def settle(self, ticket: object, era: int, outcome: str, took: float | None) -> None:
        started = None if took is None else self.model.now - took
        expected = self.model.settle(ticket, era, outcome, took == 3, started is not None)
        if outcome == "success":
            self.machine.succeed(ticket, self.model.now, started)
        elif outcome == "failure":
            assert self.machine.fail(ticket, self.model.now, started) == expected
        else:
            self.machine.withdraw(ticket, started=started is not None)

    @rule(seconds=st.sampled_from([0.0, 1.0, 3.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.model.now += seconds

    @rule(what=st.sampled_from(["open", "closed", "release", "release", "reset", "nothing", "nothing"]))
    def by_hand(self, what: str) -> None:
        model, machine = self.model, self.machine
        if what in ("open", "closed"):
            state = OPEN if what == "open" else CLOSED
            machine.force(state, "by hand", model.now)
            model.forced = True
            model.open(model.now) if state is OPEN else model.turn(CLOSED)
        elif what == "reset" or (what == "release" and model.forced):
            machine.reset() if what == "reset" else machine.release()
            model.forced = False
            model.turn(CLOSED)
        elif what == "release":
            machine.release()

    @rule(config=configs)
    def retune(self, config: CircuitConfig) -> None:
        kept = min(self.model.config.window.count, config.window.count)
        self.machine.retune(config, self.model.now)
        self.model.config = config
        self.model.outcomes = self.model.outcomes[-kept:]

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "model"):
            return
        model, machine = self.model, self.machine
        assert machine.state is model.state
        assert machine.failures_in_row == model.streak
        assert set(machine.live) == set(model.probes)
        assert machine.successes == model.successes
        wait = max(0.0, model.probe_at - model.now) if model.state is OPEN and not model.forced else None
        assert machine.retry_after(model.now) == wait
        outcomes = model.outcomes if model.state is CLOSED else []
        totals = len(outcomes), sum(f for f, _ in outcomes), sum(s for _, s in outcomes)
        assert machine.totals(model.now) == totals
        changes = [note for note in machine.notes if note.what == "state_change"]
        assert all(one.new is two.old for one, two in itertools.pairwise(changes))


Breaker.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestBreaker = Breaker.TestCase


def opened(config: CircuitConfig) -> CircuitMachine:
    machine = CircuitMachine(config, lambda: 1.0)
    machine.fail(machine.ticket, 0.0, None)
    return machine


def test_recovery_grows_up_to_its_longest_and_never_overflows():
    config = CircuitConfig(
        failure_threshold=1, recovery_timeout=10.0, recovery_multiplier=2.0, max_recovery_timeout=120.0
    )
    machine, now, waits = opened(config), 0.0, []
    for _ in range(2_000):
        waits.append(machine.probe_at - now)
        now = machine.probe_at
        machine.fail(machine.probe(now), now, None)
    assert waits[:5] == [10.0, 20.0, 40.0, 80.0, 120.0]
    assert waits[-1] == 120.0


def test_unbounded_growth_stays_a_finite_number():
    machine = opened(CircuitConfig(failure_threshold=1, recovery_multiplier=1e300))
    machine._again = 5
    machine._schedule()
    assert math.isfinite(machine.probe_at)


def test_the_longest_recovery_is_never_below_the_first():
    machine = opened(CircuitConfig(failure_threshold=1, recovery_timeout=60.0, max_recovery_timeout=5.0))
    assert machine.probe_at == 60.0


def test_closing_forgets_the_growth():
    config = CircuitConfig(failure_threshold=1, success_threshold=1, recovery_timeout=10.0, recovery_multiplier=2.0)
    machine = opened(config)
    machine.fail(machine.probe(10.0), 10.0, None)
    assert machine.retry_after(10.0) == 20.0
    machine.succeed(machine.probe(30.0), 30.0, None)
    machine.fail(machine.ticket, 30.0, None)
    assert machine.retry_after(30.0) == 10.0


def test_jitter_shortens_the_recovery_by_at_most_its_share():
    machine = opened(CircuitConfig(failure_threshold=1, recovery_timeout=10.0, recovery_jitter=0.2))
    assert machine.probe_at == 8.0


def test_a_result_told_twice_does_not_even_make_time_pass():
    config = CircuitConfig(failure_threshold=1, recovery_timeout=10.0, half_open_timeout=3.0)
    machine = opened(config)
    told = machine.probe(10.0)
    machine.succeed(told, 10.0, None)
    machine.probe(10.0)
    machine.succeed(told, 100.0, None)
    machine.fail(told, 100.0, None)
    assert machine.state is HALF_OPEN


def test_a_late_result_does_not_even_start_probing():
    machine = CircuitMachine(CircuitConfig(failure_threshold=1), lambda: 0.0)
    late = machine.ticket
    machine.fail(machine.ticket, 0.0, None)
    machine.succeed(late, 100.0, None)
    machine.fail(late, 100.0, None)
    assert machine.state is OPEN


def test_a_probe_is_put_beside_those_that_live_which_are_not_copied():
    machine = CircuitMachine(CircuitConfig(failure_threshold=1, half_open_max_calls=5), lambda: 0.0)
    machine.fail(machine.ticket, 0.0, None)
    first, live = machine.probe(100.0), machine.live
    rest = [machine.probe(100.0) for _ in range(2)]
    by_hand = machine.claim(100.0)
    assert machine.live is live
    assert list(live) == [first, *rest, by_hand]
    assert not NO_PROBES
