"""Waiting: first in, first out, charged when granted, nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time

import pytest

from aioresilience.calls import ANYONE, Caller
from aioresilience.exceptions import RateLimitExceededError
from aioresilience.failures import REJECTED
from aioresilience.rate_limiting import RateLimit, RateLimiterConfig
from aioresilience.rate_limiting.pattern import SPARE_PLACES
from aioresilience.scope import Timeline
from aioresilience.testing import VirtualClock

ALGORITHMS = ("gcra", "sliding_window", "leaky_bucket")


@pytest.fixture
def switching():
    """Let threads switch a hundred times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-5)
    yield
    sys.setswitchinterval(before)


def limiter(clock, **fields):
    return RateLimit("r", RateLimiterConfig(**({"rate": "1/second", "wait": 10.0} | fields)), clock=clock)


class Calls:
    def __init__(self, clock, limit):
        self.clock, self.limit, self.log = clock, limit, []

    async def make(self, name):
        async def func():
            self.log.append((name, round(self.clock.monotonic() - 1000.0, 6)))

        await self.limit.execute(func)

    def start(self, count):
        return [asyncio.create_task(self.make(i)) for i in range(count)]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_waiters_are_served_in_order_each_at_its_time(algorithm):
    clock = VirtualClock()
    calls = Calls(clock, limiter(clock, algorithm=algorithm))
    tasks = calls.start(5)
    await clock.advance(10.0)
    assert calls.log == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]
    assert all(task.done() for task in tasks)
    assert (clock.pending, calls.limit._limit.lines) == (0, {})
    assert calls.limit.counts.delayed == 4


async def test_a_permit_due_at_the_very_end_of_the_wait_is_granted():
    clock = VirtualClock()
    calls = Calls(clock, limiter(clock, wait=2.0))
    tasks = calls.start(4)
    await clock.advance(2.0)
    assert calls.log == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert isinstance(tasks[3].exception(), RateLimitExceededError)
    assert tasks[3].exception().retry_after == pytest.approx(1.0)
    assert clock.pending == 0


async def test_one_timer_serves_the_line_however_long():
    clock = VirtualClock()
    limit = limiter(clock, wait=1000.0)
    tasks = Calls(clock, limit).start(50)
    await clock.advance(0.1)
    assert clock.pending == 49 + 1  # each one's own end of waiting, and one for the head
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert clock.pending == 0


async def test_a_refill_wakes_one_waiter():
    clock = VirtualClock()
    limit = limiter(clock, wait=100.0)
    asked = []
    table = limit._limit.table
    tasks = Calls(clock, limit).start(30)
    await clock.advance(0.5)
    type(table).take, take = lambda *args: asked.append(1) or take(*args), type(table).take
    try:
        await clock.advance(1.0)
    finally:
        type(table).take = take
    assert len(asked) <= 2  # the one that is granted, and the one that shows that there is no more
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_newcomer_does_not_overtake_who_waits():
    clock = VirtualClock()
    calls = Calls(clock, limiter(clock))
    tasks = calls.start(2)
    await clock.advance(0.9)
    clock.stall(0.2)  # the permit is due, but its timer has not run
    assert calls.limit.admit(ANYONE) is None
    await clock.advance(5.0)
    assert all(task.done() for task in tasks)


async def test_a_waiter_is_charged_when_granted():
    clock = VirtualClock()
    limit = limiter(clock, wait=0.5)
    tasks = Calls(clock, limit).start(4)
    await clock.advance(0.6)
    assert sum(isinstance(task.exception(), RateLimitExceededError) for task in tasks) == 3
    await clock.advance(0.4)
    assert limit.admit(ANYONE) is not None  # those who gave up took nothing


async def test_a_refund_serves_the_next_in_line_at_once():
    clock = VirtualClock()
    limit = limiter(clock, rate="1/hour")
    ticket = limit.admit(ANYONE)
    waiting = asyncio.create_task(limit.wait(ANYONE))
    await clock.advance(1.0)
    assert not waiting.done()
    limit.settle(ticket, REJECTED, None)
    await clock.advance(0.0)
    assert waiting.done()
    await waiting


async def test_keys_wait_in_lines_of_their_own():
    clock = VirtualClock()
    limit = limiter(clock, scope="key")
    for key in ("a", "b"):
        assert limit.admit(Caller(key=key)) is not None
    tasks = [asyncio.create_task(limit.wait(Caller(key=key))) for key in ("a", "b", "a", "b")]
    await clock.advance(1.0)
    assert [task.done() for task in tasks] == [True, True, False, False]
    await clock.advance(1.0)
    assert [(await task)[1] for task in tasks] == ["a", "b", "a", "b"]
    assert limit._limit.lines == {}


@pytest.mark.parametrize(("granted", "waits"), [(3.0, False), (70.0, True)])
async def test_nobody_waits_for_what_the_deadline_around_would_cut(granted, waits):
    clock = VirtualClock()
    limit = limiter(clock, rate="1/minute", wait=90.0)
    limit.admit(ANYONE)

    async def within():
        scope = Timeline(clock=clock, is_deadline=True).open(granted)
        try:
            return await limit.wait(ANYONE)
        finally:
            scope.leave(None)

    task = asyncio.create_task(within())
    await clock.advance(0.0)
    assert task.done() is not waits
    await clock.advance(60.0)
    if waits:
        assert task.result()
    else:
        assert task.exception().retry_after == pytest.approx(60.0)


async def test_the_line_is_bounded():
    clock = VirtualClock()
    limit = limiter(clock, wait=5.0)
    tasks = Calls(clock, limit).start(SPARE_PLACES + 50)
    await clock.advance(0.0)
    assert limit.status()["waiting"] == SPARE_PLACES + 5
    assert sum(task.done() for task in tasks) == 45
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert limit.status()["waiting"] == 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("times", [1, 2])
async def test_cancelling_at_any_step_leaks_nothing(algorithm, times):
    for step in range(25):
        clock = VirtualClock()
        limit = limiter(clock, algorithm=algorithm, wait=3.0)
        limit.admit(ANYONE)
        before, victim, after = (asyncio.create_task(limit.wait(ANYONE)) for _ in range(3))
        for _ in range(step):
            await asyncio.sleep(0)
            clock.move(0.1)
        for _ in range(times):
            victim.cancel()
        await clock.advance(10.0)
        assert before.result()
        if victim.cancelled():
            assert limit._limit.lines == {}
            assert after.result()
        else:
            assert victim.result()
        assert clock.pending == 0
        assert limit.status()["waiting"] == 0


async def test_a_waiter_cancelled_in_the_tick_of_its_grant_passes_the_permit_on():
    clock = VirtualClock()
    limit = limiter(clock)
    limit.admit(ANYONE)
    first, second = (asyncio.create_task(limit.wait(ANYONE)) for _ in range(2))
    await asyncio.sleep(0)
    clock.move(1.0)  # grants, and lets nobody run
    first.cancel()
    await clock.advance(0.0)
    assert first.cancelled()
    assert second.done()


async def test_the_head_gives_up_and_the_next_keeps_its_time():
    clock = VirtualClock()
    limit = limiter(clock)
    limit.admit(ANYONE)
    first, second = (asyncio.create_task(limit.wait(ANYONE)) for _ in range(2))
    await clock.advance(0.4)
    first.cancel()
    await clock.advance(0.6)
    assert second.done()
    assert clock.pending == 0


def test_a_loop_that_closes_with_waiters_blocks_nobody():
    clock = VirtualClock()
    limit = limiter(clock)
    limit.admit(ANYONE)
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(limit.wait(ANYONE))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()

    async def later():
        task = asyncio.create_task(limit.wait(ANYONE))
        await clock.advance(1.0)
        return await task

    assert asyncio.run(later()) is not None
    clock.move(1.0)
    assert limit.admit(ANYONE) is not None
    waiting._log_destroy_pending = False
    del waiting
    gc.collect()


def test_a_dead_line_does_not_stop_who_never_waits():
    clock = VirtualClock()
    limit = limiter(clock)
    limit.admit(ANYONE)
    loop = asyncio.new_event_loop()
    waiting = loop.create_task(limit.wait(ANYONE))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    clock.stall(1.0)
    assert limit.admit(ANYONE) is not None
    waiting._log_destroy_pending = False


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("scope", ["policy", "key"])
def test_eight_threads_get_exactly_the_burst(switching, algorithm, scope):
    limit = RateLimit("t", RateLimiterConfig(rate="4000/day", algorithm=algorithm, scope=scope))
    taken, gate = [], threading.Barrier(8)

    async def many():
        gate.wait()
        return sum([limit.admit(Caller(key=f"k{i % 2}")) is not None for i in range(3000)])

    threads = [threading.Thread(target=lambda: taken.append(asyncio.run(many()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == (4000 if scope == "policy" else 8000)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_eight_threads_and_a_retuning_one_get_no_refill(switching, algorithm):
    limit = RateLimit("t", RateLimiterConfig(rate="2000/day", algorithm=algorithm))
    taken, gate = [], threading.Barrier(9)

    def many():
        gate.wait()
        taken.append(sum(limit.admit(ANYONE) is not None for _ in range(4000)))

    threads = [threading.Thread(target=many) for _ in range(8)]
    for thread in threads:
        thread.start()
    gate.wait()
    for permits in (2000, 2000, 2000, 2000):
        for per in (86400, 80000):
            config = RateLimiterConfig(rate={"permits": permits, "per": per}, algorithm=algorithm)
            limit.retune(config)
            time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert sum(taken) == 2000


def test_waiters_of_eight_loops_share_one_line_exactly():
    limit = RateLimit("t", RateLimiterConfig(rate={"permits": 400, "per": 1.0}, burst=1, wait=5.0))
    starts, gate = [], threading.Barrier(8)

    async def note():
        starts.append(time.monotonic())

    async def many():
        gate.wait()
        await asyncio.gather(*(limit.execute(note) for _ in range(5)))

    threads = [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(8)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(starts) == 40
    assert max(starts) - begun >= 39 / 400 - 1e-6
    assert limit._limit.lines == {}
