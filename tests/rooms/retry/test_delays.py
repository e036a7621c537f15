"""The delays: how they grow, how they are jittered, where they end."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, strategies as st

from aioresilience.retry import Budget, Delays, RetryConfig, RetryOverrides, RetryStrategy, Schedule, Stop


def delays(**fields: object) -> Delays:
    return Delays.of(RetryConfig(**{"jitter": 0.0, **fields}))


def series(plan: Delays, count: int = 5) -> list[float]:
    return [plan.jittered(attempt, None, lambda: 0.5) for attempt in range(1, count + 1)]


def test_constant_delays_stay():
    assert series(delays(initial_delay=2, strategy=RetryStrategy.CONSTANT)) == [2, 2, 2, 2, 2]


def test_linear_delays_grow_by_the_multiplier_in_seconds():
    assert series(delays(initial_delay=1, backoff_multiplier=3, strategy=RetryStrategy.LINEAR)) == [1, 4, 7, 10, 13]


def test_exponential_delays_grow_by_the_factor_up_to_the_longest():
    assert series(delays(initial_delay=1, max_delay=5)) == [1, 2, 4, 5, 5]


def test_a_first_delay_of_zero_stays_zero_at_any_attempt():
    assert delays(initial_delay=0, max_delay=5).plain(10_000) == 0


@given(
    attempt=st.one_of(st.integers(1, 30), st.sampled_from([10_000, 10**9])),
    initial=st.floats(0, 1e6),
    maximum=st.floats(0, 1e6),
    multiplier=st.floats(0.01, 1e6),
    strategy=st.sampled_from(RetryStrategy),
    jitter=st.one_of(st.floats(0, 1), st.sampled_from(["full", "equal", "decorrelated"])),
    previous=st.one_of(st.none(), st.floats(0, 1e6)),
    drawn=st.floats(0, 1, exclude_max=True),
)
def test_no_delay_is_negative_or_above_the_longest(
    attempt, initial, maximum, multiplier, strategy, jitter, previous, drawn
):
    plan = Delays(3, initial, maximum, multiplier, strategy, jitter)
    if previous is not None:
        previous = min(previous, maximum)
    assert 0 <= plan.jittered(attempt, previous, lambda: drawn) <= maximum


def spread(jitter: object, attempt: int = 2, previous: float | None = None, **fields: object) -> tuple[float, float]:
    plan = delays(jitter=jitter, initial_delay=1, **fields)
    return plan.jittered(attempt, previous, lambda: 0.0), plan.jittered(attempt, previous, lambda: 1.0 - 2**-53)


def test_a_fraction_spreads_the_delay_by_so_much_either_way():
    assert spread(0.25) == pytest.approx((1.5, 2.5))


def test_a_fraction_at_the_longest_delay_spreads_below_it_without_a_pile():
    assert spread(0.25, attempt=9, max_delay=4) == pytest.approx((3, 4))
    plan, rng = delays(jitter=0.25, max_delay=4), random.Random(1)
    drawn = [plan.jittered(9, None, rng.random) for _ in range(1000)]
    assert drawn.count(4.0) < 5


def test_full_jitter_draws_from_nothing_to_the_delay():
    assert spread("full") == pytest.approx((0, 2))


def test_equal_jitter_keeps_half_of_the_delay():
    assert spread("equal") == pytest.approx((1, 2))


def test_decorrelated_jitter_draws_up_to_three_times_the_delay_before():
    assert spread("decorrelated") == pytest.approx((1, 3))
    assert spread("decorrelated", previous=5) == pytest.approx((1, 15))
    assert spread("decorrelated", previous=5, max_delay=8) == pytest.approx((1, 8))


def test_an_exceptions_own_strategy_changes_what_it_names():
    plan = Delays.of(RetryConfig(), RetryOverrides(max_attempts=9, strategy=RetryStrategy.LINEAR))
    assert (plan.max_attempts, plan.strategy, plan.initial, plan.maximum) == (9, RetryStrategy.LINEAR, 1.0, 60.0)


def after(attempt=1, deadline=None, asked=None, budget=None, charge=True, **fields):
    schedule = Schedule(budget, lambda: 0.5)
    return schedule.after(attempt, delays(**fields), 100.0, deadline, asked, charge=charge)


def test_the_last_attempt_is_the_last():
    assert after(2) == 2.0
    assert after(3) is Stop.MAX_ATTEMPTS


def test_the_servers_wait_counts_where_it_is_longer():
    assert after(asked=30.0) == 30.0
    assert after(asked=0.2) == 1.0


def test_a_server_that_asks_for_more_than_the_longest_delay_ends_it():
    assert after(asked=60.0) == 60.0
    assert after(asked=60.1) is Stop.RETRY_AFTER


def test_a_wait_that_would_reach_the_deadline_is_not_begun():
    assert after(deadline=101.1) == 1.0
    assert after(deadline=101.0) is Stop.DEADLINE
    assert after(deadline=99.0, initial_delay=0) is Stop.DEADLINE


def test_only_a_retry_that_will_be_made_is_taken_from_the_budget():
    budget = Budget(0.0, 1.0, 1.0, now=100.0)
    assert after(attempt=3, budget=budget) is Stop.MAX_ATTEMPTS
    assert after(deadline=100.0, budget=budget) is Stop.DEADLINE
    assert after(budget=budget, charge=False) == 1.0
    assert after(budget=budget) == 1.0
    assert after(budget=budget) is Stop.BUDGET
    assert after(budget=budget, charge=False) is Stop.BUDGET


@pytest.mark.parametrize("jitter", [0.0, 0.5, "full", "equal", "decorrelated"])
def test_the_ten_thousandth_delay_is_at_most_the_longest(jitter):
    assert 0 <= delays(initial_delay=1, max_delay=30, jitter=jitter).jittered(10_000, 30.0, lambda: 0.999) <= 30
