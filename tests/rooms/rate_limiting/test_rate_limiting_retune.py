"""A reload is never a free refill."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings, strategies as st

from aioresilience.calls import ANYONE, Caller
from aioresilience.exceptions import RateLimitExceededError
from aioresilience.failures import REJECTED
from aioresilience.rate_limiting import RateLimit, RateLimiterConfig
from aioresilience.testing import VirtualClock

ALGORITHMS = ("gcra", "sliding_window", "leaky_bucket")
RATES = st.tuples(st.integers(1, 200), st.sampled_from([0.5, 1.0, 10.0, 60.0, 3600.0]))


def limiter(clock=None, **fields):
    return RateLimit("r", RateLimiterConfig(**fields), clock=clock or VirtualClock())


def admitted(limit, tries, key=None):
    caller = ANYONE if key is None else Caller(key=key)
    return sum(limit.admit(caller) is not None for _ in range(tries))


def rate_of(pair):
    return {"permits": pair[0], "per": pair[1]}


@pytest.mark.parametrize("old_algorithm", ALGORITHMS)
@pytest.mark.parametrize("new_algorithm", ALGORITHMS)
@given(old=RATES, new=RATES, spent=st.floats(0, 1), rest=st.floats(0, 1.5))
@settings(max_examples=40, deadline=None)
def test_the_spent_share_is_kept_at_any_change(old_algorithm, new_algorithm, old, new, spent, rest):
    clock = VirtualClock()
    limit = limiter(clock, rate=rate_of(old), algorithm=old_algorithm)
    admitted(limit, int(spent * old[0]))
    clock.move(rest * old[1])
    left = limit.status()["remaining"] / old[0]
    limit.retune(RateLimiterConfig(rate=rate_of(new), algorithm=new_algorithm))
    got = admitted(limit, new[0] + 5)
    assert 0 <= got <= new[0]
    assert abs(got / new[0] - left) <= 1 / old[0] + 1 / new[0]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(changes=st.lists(RATES, min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_a_spent_limit_stays_spent_through_any_number_of_changes(algorithm, changes):
    limit = limiter(rate="10/minute", algorithm=algorithm)
    assert admitted(limit, 20) == 10
    for pair in changes:
        limit.retune(RateLimiterConfig(rate=rate_of(pair), algorithm=algorithm))
        assert admitted(limit, 3) == 0


@pytest.mark.parametrize("algorithm", ["gcra", "leaky_bucket"])
@given(bursts=st.lists(st.integers(1, 100), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_a_burst_that_shrinks_and_grows_again_refills_nothing(algorithm, bursts):
    limit = limiter(rate="100/minute", burst=50, algorithm=algorithm)
    assert admitted(limit, 60) == 50
    for burst in bursts:
        limit.retune(RateLimiterConfig(rate="100/minute", burst=burst, algorithm=algorithm))
        assert admitted(limit, 3) == 0


def test_the_waiting_time_is_rescaled_to_the_new_period():
    clock = VirtualClock()
    limit = limiter(clock, rate="1/hour")
    assert admitted(limit, 2) == 1
    clock.move(1800.0)
    limit.retune(RateLimiterConfig(rate="1/minute"))
    assert limit.refusal(ANYONE).retry_after == pytest.approx(30.0)


def test_a_window_keeps_the_ages_of_its_calls_rescaled():
    clock = VirtualClock()
    limit = limiter(clock, rate="2/hour", algorithm="sliding_window")
    admitted(limit, 1)
    clock.move(1800.0)
    admitted(limit, 1)
    limit.retune(RateLimiterConfig(rate="2/minute", algorithm="sliding_window"))
    assert limit.refusal(ANYONE).retry_after == pytest.approx(30.0)
    clock.move(30.0)
    assert admitted(limit, 2) == 1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_key_keeps_its_own_share(algorithm):
    limit = limiter(rate="10/minute", scope="key", algorithm=algorithm)
    assert (admitted(limit, 10, "a"), admitted(limit, 5, "b")) == (10, 5)
    limit.retune(RateLimiterConfig(rate="20/minute", scope="key", algorithm=algorithm))
    assert (admitted(limit, 30, "a"), admitted(limit, 30, "b"), admitted(limit, 30, "c")) == (0, 10, 20)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_splitting_a_limit_by_keys_charges_every_key_with_what_was_spent(algorithm):
    clock = VirtualClock()
    limit = limiter(clock, rate="10/minute", algorithm=algorithm)
    admitted(limit, 6)
    limit.retune(RateLimiterConfig(rate="10/minute", scope="key", algorithm=algorithm))
    assert (admitted(limit, 20, "a"), admitted(limit, 20, "b"), admitted(limit, 20)) == (4, 4, 4)
    clock.move(60.0)
    assert admitted(limit, 20, "c") == 10


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_joining_keys_charges_the_limit_with_what_all_spent_together(algorithm):
    limit = limiter(rate="10/minute", scope="key", algorithm=algorithm)
    admitted(limit, 3, "a"), admitted(limit, 4, "b")
    limit.retune(RateLimiterConfig(rate="10/minute", algorithm=algorithm))
    assert admitted(limit, 20) == 3


def test_a_change_that_leaves_the_limit_alone_keeps_the_very_buckets():
    limit = limiter(rate="10/minute")
    admitted(limit, 4)
    before = limit._limit.table
    limit.retune(RateLimiterConfig(rate="10/minute", burst=10, wait=2.0, max_limiters=5))
    assert limit._limit.table is before
    assert limit.waits
    assert limit.max_limiters == 5


def test_a_ticket_of_before_a_change_refunds_nothing():
    limit = limiter(rate="1/minute")
    ticket = limit.admit(ANYONE)
    limit.retune(RateLimiterConfig(rate="2/minute"))
    limit.settle(ticket, REJECTED, None)
    assert admitted(limit, 5) == 0


async def test_a_change_says_what_became_of_the_state():
    limit, seen = limiter(rate="10/minute"), []
    limit.events.add_handler("*", seen.append)
    limit.retune(RateLimiterConfig(rate="20/minute"))
    await limit.clock.advance(0)
    assert [event.event_type.name for event in seen] == ["LIMIT_UPDATED"]
    limit.retune(RateLimiterConfig(rate="20/minute", algorithm="sliding_window"))
    await limit.clock.advance(0)
    assert [event.event_type.name for event in seen[1:]] == ["STATE_RESTARTED", "LIMIT_UPDATED"]
    assert seen[1].metadata["algorithm"] == "gcra -> sliding_window"


async def test_a_faster_rate_wakes_who_waits():
    clock = VirtualClock()
    limit = limiter(clock, rate="1/hour", wait=10.0)

    async def call():
        return clock.monotonic()

    assert await limit.execute(call) == 1000.0
    tasks = [asyncio.create_task(limit.execute(call)) for _ in range(2)]
    await clock.advance(1.0)
    limit.retune(RateLimiterConfig(rate="1/second", wait=10.0))
    await clock.advance(5.0)
    first, second = [await task for task in tasks]
    assert 1001.9 < first < 1002.0  # an hour's share of one second is gone
    assert second == pytest.approx(first + 1.0)


async def test_a_slower_rate_lets_nobody_out_too_early():
    clock = VirtualClock()
    limit = limiter(clock, rate="1/second", wait=2.0)

    async def call():
        return None

    await limit.execute(call)
    task = asyncio.create_task(limit.execute(call))
    await clock.advance(0.5)
    limit.retune(RateLimiterConfig(rate="1/minute", wait=2.0))
    await clock.advance(1.4)
    assert not task.done()
    await clock.advance(0.2)
    with pytest.raises(RateLimitExceededError):
        await task
