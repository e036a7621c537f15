"""Leases: what is spent never exceeds what was issued, whatever is cancelled, refused, retuned, forked or stopped."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest
from pydantic import ValidationError

from aioresilience import Policy, RateLimitExceededError
from aioresilience.backends import NOTHING, Backend, Place
from aioresilience.backends.scripts import GCRA
from aioresilience.bulkhead import Bulkhead, BulkheadConfig
from aioresilience.calls import ANYONE
from aioresilience.rate_limiting import FleetRateLimit, RateLimiterConfig
from aioresilience.rate_limiting.leases import FIRST, LIFE, Lease, Leases
from aioresilience.testing import VirtualClock
from tests.redis.servers import Server

PLACE = Place(GCRA, b"k", 100, 60.0, 100)


async def ok() -> str:
    return "ok"


def limit(backend: Backend, clock: VirtualClock | None = None, **config: object) -> FleetRateLimit:
    return FleetRateLimit("p", RateLimiterConfig(**{"rate": "100/hour", **config}), backend=backend, clock=clock)


async def settled(check: object, patience: float = 30.0) -> None:
    async with asyncio.timeout(patience):
        while not check():
            await asyncio.sleep(0.005)


async def left(backend: Backend, one: FleetRateLimit, count: int) -> bool:
    """Wait until the server has so many left: what is on its way there has to arrive; False where it has more."""
    async with asyncio.timeout(15):
        while (found := await remaining(backend, one)) < count:
            await asyncio.sleep(0.01)
    return found == count


async def remaining(backend: Backend, one: FleetRateLimit) -> int:
    """Return what the server has left."""
    free = FleetRateLimit("p", RateLimiterConfig(rate=one.config.rate), backend=backend)
    place = free._remote.place("", by_key=False)
    answer = await backend.ask(place)
    if answer.granted:
        backend.give_back(place, 1, answer.charge)
    return answer.remaining + answer.granted


def held(count: int, until: float = 10.0) -> Leases:
    leases = Leases(count)
    leases.hold("k", Lease(PLACE, count, NOTHING, until))
    return leases


def test_a_lease_is_spent_to_the_last_permit_and_no_further():
    leases = held(3)
    assert [leases.take("k", 0.0) is not None for _ in range(5)] == [True] * 3 + [False] * 2


def test_a_lease_ends_with_its_time_whatever_is_left():
    leases = held(3, until=LIFE)
    assert leases.take("k", LIFE) is None
    assert leases.over(LIFE, every_one=False) == [(PLACE, 3, NOTHING)]
    assert (leases.issued, leases.returned, leases.left) == (3, 3, 0)


def test_a_permit_that_comes_back_after_the_end_does_not_revive_the_lease():
    leases = held(3, until=LIFE)
    lease = leases.take("k", 0.0)
    assert leases.put_back(lease, 0.5)
    lease = leases.take("k", 0.5)
    leases.over(LIFE, every_one=False)
    assert not leases.put_back(lease, LIFE)
    assert leases.take("k", 0.5) is None


def test_eight_threads_spend_what_was_issued_and_no_more():
    leases, taken, start = held(20_000), [0] * 8, threading.Barrier(8)

    def spend(number: int) -> None:
        start.wait()
        while leases.take("k", 0.0) is not None:
            taken[number] += 1

    threads = [threading.Thread(target=spend, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 20_000


def test_auto_grows_while_leases_are_used_up_and_shrinks_when_they_are_not():
    leases = Leases("auto")
    assert leases.wanted("k", 0.0) == 0, "one call alone is no reason for a lease"
    sizes = []
    for _ in range(4):
        sizes.append(leases.wanted("k", 0.1))
        assert leases.wanted("k", 0.1) == sizes[-1], "asked twice in a tick"
        leases.hold("k", Lease(PLACE, sizes[-1], NOTHING, LIFE))
        while leases.take("k", 0.1):
            pass
    assert sizes == [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST]
    assert leases.wanted("k", LIFE + 1) == 4 * FIRST


def test_a_lease_on_a_sliding_window_is_refused():
    with pytest.raises(ValidationError, match="exact"):
        RateLimiterConfig(rate="5/second", algorithm="sliding_window", lease=5)


async def test_leased_permits_are_admitted_at_once_and_never_more_than_the_limit(backend):
    one = limit(backend, lease=10)
    policy = Policy("p", [one])
    results = [await outcome(policy) for _ in range(150)]
    assert results.count("ok") == 100
    assert results[:50].count("ok") == 50
    assert backend.status()["round_trips"] < 100


async def outcome(policy: Policy) -> object:
    try:
        return await policy.call(ok)
    except RateLimitExceededError as error:
        return error


async def test_unspent_permits_go_back_on_close(make):
    backend, other = make(), make()
    one = limit(backend, VirtualClock(), lease=40)
    await Policy("p", [one]).call(ok)
    assert one.status()["lease_left"] == 40
    await backend.aclose()
    assert one.status()["lease_left"] == 0
    assert await left(other, one, 99)


async def test_unspent_permits_go_back_when_their_time_is_up(backend):
    clock = VirtualClock()
    one = limit(backend, clock, lease=40)
    await Policy("p", [one], clock=clock).call(ok)
    assert await left(backend, one, 59)
    clock.move(LIFE)
    await settled(lambda: one.status()["lease_returned"] == 40)
    assert await left(backend, one, 99)


async def test_a_rejection_further_in_puts_the_permit_back_into_the_lease(backend):
    one, gate = limit(backend, VirtualClock(), lease=40), asyncio.Event()
    policy = Policy("p", [one, Bulkhead("b", BulkheadConfig(max_concurrent=1))])
    holder = asyncio.create_task(policy.call(gate.wait))
    await settled(lambda: one.status()["lease_left"] == 40)
    results = await asyncio.gather(*[policy.call(ok) for _ in range(30)], return_exceptions=True)
    assert "ok" not in results
    assert one.status()["lease_left"] == 40
    gate.set()
    await holder


async def test_a_reload_gives_leases_back_before_it_asks_under_the_new_rate(backend):
    one = limit(backend, VirtualClock(), lease=40)
    policy = Policy("p", [one])
    await policy.call(ok)
    one.retune(RateLimiterConfig(rate="200/hour"))
    assert one.status()["lease"] is None
    assert await left(backend, one, 198)  # one of a hundred is two of two hundred


async def test_two_processes_of_a_fleet_leave_each_other_a_part(make):
    here, there = make(fleet_size=4), make(fleet_size=4)
    first, second = limit(here, VirtualClock(), lease=1000), limit(there, VirtualClock(), lease=1000)
    await Policy("a", [first]).call(ok)
    await Policy("b", [second]).call(ok)
    assert first.status()["lease_left"] == 24  # a quarter of the 99 that remained
    assert second.status()["lease_left"] == 18


async def test_calls_cancelled_in_any_tick_spend_nothing(backend):
    one = limit(backend, lease=5, rate="1000/day")
    policy, done = Policy("p", [one]), 0
    for step in range(40):
        task = asyncio.create_task(policy.call(ok))
        for _ in range(step % 8):
            await asyncio.sleep(0)
        task.cancel()
        done += (await asyncio.gather(task, return_exceptions=True))[0] == "ok"
    async with asyncio.timeout(15):  # what is on its way comes back
        while (found := await remaining(backend, one)) < 1000 - done:
            one._remote.give_back_leases(every_one=True)
    assert found == 1000 - done


def test_a_forked_child_spends_no_lease_of_its_parent_and_opens_connections_of_its_own(make, one_server: Server):
    backend = make()
    one = limit(backend, VirtualClock(), lease=40)
    policy = Policy("p", [one])
    asyncio.run(policy.call(ok))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            assert one.admit(ANYONE) is None
            result = asyncio.run(policy.call(ok))
            assert one.status()["lease_left"] > 0
            backend.close()
            os.write(writer, result.encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    assert os.read(reader, 100) == b"ok"
    os.close(reader)
    assert one.admit(ANYONE) is not None, "the parent goes on with its own"
    assert asyncio.run(left(backend, one, 100 - 1 - 40 - 1))
