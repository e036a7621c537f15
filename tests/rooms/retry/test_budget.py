"""The retry budget, held against a naive model."""

from __future__ import annotations

import math
import threading

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aioresilience.retry import Budget

SLICES = 10


class NaiveBudget:
    """Remembers every attempt and the slice of time it fell into."""

    def __init__(self, ratio: float, per_second: float, window: float) -> None:
        self.ratio, self.per_second, self.window = ratio, per_second, window
        self.firsts: list[int] = []
        self.retries: list[int] = []

    def slice(self, now: float) -> int:
        return math.floor(now / (self.window / SLICES))

    def in_window(self, attempts: list[int], now: float) -> int:
        return sum(self.slice(now) - SLICES < one <= self.slice(now) for one in attempts)

    def may_retry(self, now: float) -> bool:
        allowed = self.ratio * self.in_window(self.firsts, now) + self.per_second * self.window
        return self.in_window(self.retries, now) + 1 <= allowed


class BudgetAgainstModel(RuleBasedStateMachine):
    """Times are multiples of 1/8 s from 0 and a slice is 1/2 s, so that no rounding blurs the edges."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.real = Budget(0.25, 0.5, 5.0, now=0.0)
        self.model = NaiveBudget(0.25, 0.5, 5.0)

    @rule(count=st.integers(1, 20))
    def first_attempts(self, count):
        for _ in range(count):
            self.real.deposit(self.now)
            self.model.firsts.append(self.model.slice(self.now))

    @rule(eighths=st.one_of(st.integers(1, 12), st.integers(30, 100)))
    def time_passes(self, eighths):
        self.now += eighths / 8

    @rule(count=st.integers(1, 6))
    def retries(self, count):
        for _ in range(count):
            expected = self.model.may_retry(self.now)
            assert self.real.allows(self.now) is expected
            assert self.real.take(self.now) is expected
            if expected:
                self.model.retries.append(self.model.slice(self.now))

    @precondition(lambda self: self.model.retries)
    @invariant()
    def status_agrees(self):
        status = self.real.status(self.now)
        assert status["first_attempts"] == self.model.in_window(self.model.firsts, self.now)
        assert status["retries"] == self.model.in_window(self.model.retries, self.now)


BudgetAgainstModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBudget = BudgetAgainstModel.TestCase


def test_a_quiet_service_may_always_retry_a_little():
    budget = Budget(0.2, 0.5, 10.0, now=0.0)
    assert [budget.take(1.0) for _ in range(7)] == [True] * 5 + [False] * 2


def test_a_fifth_of_many_calls_may_be_retried():
    budget = Budget(0.2, 0.5, 10.0, now=0.0)
    for _ in range(100):
        budget.deposit(1.0)
    assert sum(budget.take(1.0) for _ in range(100)) == 25


def test_what_was_spent_comes_back_when_its_slice_leaves_the_window():
    budget = Budget(0.0, 0.5, 10.0, now=0.0)
    assert sum(budget.take(0.5) for _ in range(9)) == 5
    assert not budget.take(9.9)
    assert sum(budget.take(10.0) for _ in range(9)) == 5


def test_a_change_of_limits_is_no_free_refill():
    budget = Budget(0.0, 0.5, 10.0, now=0.0)
    assert sum(budget.take(1.0) for _ in range(9)) == 5
    budget.retune(0.0, 0.6, 10.0, now=1.0)
    assert sum(budget.take(1.0) for _ in range(9)) == 1
    budget.retune(0.0, 0.1, 60.0, now=1.0)
    assert not budget.take(1.0)


def test_the_counts_do_not_depend_on_how_long_nothing_happened():
    budget = Budget(0.0, 0.5, 10.0, now=0.0)
    assert sum(budget.take(1.0) for _ in range(9)) == 5
    assert sum(budget.take(1e9) for _ in range(9)) == 5


def test_eight_threads_count_every_first_attempt_and_overspend_nothing():
    budget, now = Budget(0.1, 0.0, 1e6, now=0.0), 1.0
    taken: list[int] = []
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        mine = 0
        for _ in range(5_000):
            budget.deposit(now)
            mine += budget.take(now)
        taken.append(mine)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.firsts == 40_000
    assert sum(taken) == budget.retries <= 4_000
    while budget.take(now):
        pass
    assert budget.retries == 4_000


def test_the_fast_path_of_a_deposit_is_never_interrupted():
    """CPython switches threads at function entry, backward jumps and after calls: the increment has none."""
    import dis

    ops = [one for one in dis.get_instructions(Budget.deposit) if one.opname != "CACHE"]
    loads = [index for index, one in enumerate(ops) if one.argval == "firsts" and one.opname == "LOAD_ATTR"]
    for start in loads:
        store = next(i for i in range(start, len(ops)) if ops[i].argval == "firsts" and ops[i].opname == "STORE_ATTR")
        between = {one.opname for one in ops[start:store]}
        assert not any("CALL" in name or "BACKWARD" in name for name in between)


def test_without_a_gil_every_first_attempt_takes_the_lock(monkeypatch):
    from aioresilience.retry import budget as module

    monkeypatch.setattr(module, "_GIL", False)
    budget, inside = Budget(0.2, 0.5, 10.0, now=0.0), []

    class Lock:
        def __enter__(self):
            inside.append(budget.firsts)

        def __exit__(self, *error):
            inside.append(budget.firsts)

    monkeypatch.setattr(budget, "_lock", Lock())
    budget.deposit(0.0)
    assert inside == [0, 1]
