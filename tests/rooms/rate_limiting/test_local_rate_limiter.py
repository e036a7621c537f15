"""0.2's limiter, under the names of 0.2."""

from __future__ import annotations

import asyncio
import threading

import pytest
from aiolimiter import AsyncLimiter

from aioresilience.events import EventType
from aioresilience.exceptions import ExceptionConfig, RateLimitExceededError, RateLimitReason
from aioresilience.rate_limiting import LocalRateLimiter, RateLimitConfig, RateLimiter
from aioresilience.rate_limiting.local import MAX_RATES
from aioresilience.testing import VirtualClock


@pytest.fixture
def clock():
    return VirtualClock()


async def checks(limiter, key, rate, count):
    return sum([await limiter.check_rate_limit(key, rate) for _ in range(count)])


def test_its_defaults_and_names_are_those_of_0_2():
    assert RateLimiter is LocalRateLimiter
    limiter = LocalRateLimiter()
    expected = {"name": "default", "active_limiters": 0, "max_limiters": 10000, "type": "local"}
    assert limiter.get_stats() == expected
    assert (limiter.name, limiter.max_limiters, limiter.config) == ("default", 10000, RateLimitConfig())
    assert limiter.limiters == {}


def test_its_name_and_size_can_be_given_in_every_way():
    assert LocalRateLimiter(RateLimitConfig(name="a", max_limiters=5)).get_stats()["max_limiters"] == 5
    assert LocalRateLimiter(config=RateLimitConfig(name="a")).name == "a"
    assert LocalRateLimiter(name="b").name == LocalRateLimiter(service_name="b").name == "b"
    assert LocalRateLimiter(max_limiters=7).max_limiters == 7
    with pytest.raises(ValueError, match="max_limiters"):
        LocalRateLimiter(max_limiters=0)


@pytest.mark.parametrize(("period", "seconds"), [("second", 1), ("minute", 60), ("hour", 3600), ("day", 86400)])
async def test_it_admits_the_permits_of_a_period(clock, period, seconds):
    limiter = RateLimiter(clock=clock)
    assert await checks(limiter, "user", f"3/{period}", 5) == 3
    clock.move(seconds / 3)
    assert await checks(limiter, "user", f"3/{period}", 5) == 1


async def test_rates_and_keys_are_limits_apart(clock):
    limiter = RateLimiter(clock=clock)
    assert await checks(limiter, "a", "2/minute", 5) == 2
    assert await checks(limiter, "a", "3/minute", 5) == 3
    assert await checks(limiter, "b", "2/minute", 5) == 2
    assert await checks(limiter, "a", "02/minute", 5) == 0  # the same rate in another spelling
    assert limiter.get_stats()["active_limiters"] == len(limiter.limiters) == 3
    assert "a:2/minute" in limiter.limiters


@pytest.mark.parametrize("rate", ["", "10", "10/fortnight", "ten/second", "0/second", "-1/minute", "10/", 10, None])
async def test_a_malformed_rate_says_what_is_accepted(rate):
    limiter = RateLimiter()
    for ask in (limiter.check_rate_limit, limiter.acquire, limiter.get_limiter):
        with pytest.raises(ValueError, match="100/"):
            await ask("user", rate)


async def test_acquire_raises_where_the_check_says_no_and_never_waits(clock):
    limiter = RateLimiter(clock=clock)
    await limiter.acquire("user", "2/minute")
    assert await limiter.check_rate_limit("user", "2/minute")
    with pytest.raises(RateLimitExceededError) as caught:
        await limiter.acquire("user", "2/minute")
    assert caught.value.retry_after == pytest.approx(30.0)
    assert caught.value.metadata == {"key": "user", "rate": "2/minute"}


async def test_a_flood_of_keys_resets_no_limit(clock):
    limiter = RateLimiter(max_limiters=100, clock=clock)
    assert await checks(limiter, "mine", "2/hour", 3) == 2
    flood = [await limiter.check_rate_limit(f"other-{i}", "2/hour") for i in range(1000)]
    assert sum(flood) == 99 + 2
    assert not await limiter.check_rate_limit("mine", "2/hour")
    assert limiter.get_stats()["active_limiters"] <= 101
    assert limiter.overflowed == 901


async def test_the_bound_holds_over_all_rates(clock):
    limiter = RateLimiter(max_limiters=4, clock=clock)
    for i in range(3):
        await limiter.check_rate_limit(f"k{i}", "1/minute")
        await limiter.check_rate_limit(f"k{i}", "5/hour")
    assert limiter.overflowed == 2
    clock.move(3600.0)
    assert await checks(limiter, "new", "1/minute", 2) == 1
    assert limiter.overflowed == 2


async def test_rates_that_rest_are_forgotten(clock):
    limiter = RateLimiter(clock=clock)
    for i in range(1, 1000):
        await limiter.check_rate_limit("user", f"{i}/second")
        clock.move(10.0)
    assert len(limiter._limits) <= MAX_RATES
    assert len(limiter._census.tables) <= MAX_RATES


async def test_keys_of_any_kind_work_as_in_0_2(clock):
    limiter = RateLimiter(clock=clock)
    assert await checks(limiter, 42, "1/minute", 2) == 1
    assert await checks(limiter, "42", "1/minute", 2) == 0


async def test_events_tell_of_what_was_allowed_and_refused(clock):
    limiter, seen = RateLimiter(name="api", clock=clock), []
    limiter.events.add_handler("*", seen.append)
    await checks(limiter, "user", "2/minute", 3)
    await clock.advance(0.0)
    told = [(e.event_type, e.pattern_name, e.user_id, e.limit, e.current_count, e.remaining) for e in seen]
    assert told == [
        (EventType.REQUEST_ALLOWED, "api", "user", "2/minute", 1, 1),
        (EventType.REQUEST_ALLOWED, "api", "user", "2/minute", 2, 0),
        (EventType.REQUEST_REJECTED, "api", "user", "2/minute", 2, 0),
    ]


async def test_a_refusal_runs_the_callback_and_still_answers_false(clock):
    contexts = []
    exceptions = ExceptionConfig(on_exception=contexts.append, exception_type=KeyError)
    limiter = RateLimiter(exceptions=exceptions, clock=clock)
    assert await checks(limiter, "user", "1/minute", 2) == 1
    assert [context.reason for context in contexts] == [RateLimitReason.RATE_LIMIT_EXCEEDED]
    assert contexts[0].metadata["key"] == "user"


async def test_get_limiter_is_a_real_async_limiter():
    limiter = RateLimiter()
    real = await limiter.get_limiter("user", "5/minute")
    assert type(real) is AsyncLimiter
    assert (real.max_rate, real.time_period) == (5, 60.0)
    assert await limiter.get_limiter("user", "5/minute") is real
    assert await limiter.get_limiter("user", "6/minute") is not real
    assert limiter.limiters["user:5/minute"] is real
    async with real:
        pass


async def test_get_limiter_forgets_only_idle_ones_and_then_shares():
    limiter = RateLimiter(max_limiters=2)
    busy, idle = await limiter.get_limiter("a", "1/hour"), await limiter.get_limiter("b", "1/hour")
    await busy.acquire()
    other = await limiter.get_limiter("c", "1/hour")
    assert other is not idle
    await other.acquire()
    shared = await limiter.get_limiter("d", "1/hour")
    await shared.acquire()
    assert await limiter.get_limiter("e", "1/hour") is shared
    assert await limiter.get_limiter("a", "1/hour") is busy


def test_get_limiter_gives_every_loop_its_own():
    limiter = RateLimiter()
    first, second = (asyncio.run(limiter.get_limiter("a", "1/hour")) for _ in range(2))
    assert first is not second


def test_eight_threads_get_exactly_the_permits():
    limiter, taken, gate = RateLimiter(), [], threading.Barrier(8)

    async def many():
        gate.wait()
        return await checks(limiter, "user", "1000/day", 500)

    threads = [threading.Thread(target=lambda: taken.append(asyncio.run(many()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 1000
