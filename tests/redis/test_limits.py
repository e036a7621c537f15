"""One limit for all: exact on a real server, whatever loops, threads and processes ask."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref

import pytest
from prometheus_client import CollectorRegistry

from aioresilience import Policy, RateLimitExceededError, Registry
from aioresilience.backends import Backend, Place
from aioresilience.bulkhead import Bulkhead, BulkheadConfig
from aioresilience.calls import Caller
from aioresilience.integrations.prometheus import ResilienceCollector
from aioresilience.modes import Gradual
from aioresilience.rate_limiting import FleetRateLimit, MissingKeyError, RateLimiterConfig
from aioresilience.testing import EventLog
from tests.redis.servers import Server
from tests.sweep import cancel_at

ALGORITHM = pytest.mark.parametrize("algorithm", ["gcra", "sliding_window"])


async def ok() -> str:
    return "ok"


def limit(backend: Backend, name: str = "p", **config: object) -> FleetRateLimit:
    return FleetRateLimit(name, RateLimiterConfig(**{"rate": "10/hour", **config}), backend=backend)


async def admitted(policy: Policy, calls: int, key: str | None = None) -> int:
    results = await asyncio.gather(*[policy.bind(key=key).call(ok) for _ in range(calls)], return_exceptions=True)
    assert all(result == "ok" or isinstance(result, RateLimitExceededError) for result in results), results
    return results.count("ok")


async def refusal(policy: Policy) -> RateLimitExceededError:
    async with asyncio.timeout(30):
        while True:
            try:
                await policy.call(ok)
            except RateLimitExceededError as error:
                return error


async def left(backend: Backend, place: Place) -> int:
    """Return what the server has left; the permit that it takes to learn it goes back."""
    answer = await backend.ask(place)
    if answer.granted:
        backend.give_back(place, 1, answer.charge)
    return answer.remaining + answer.granted


async def settled(check: object, patience: float = 15.0) -> None:
    async with asyncio.timeout(patience):
        while not check():
            await asyncio.sleep(0.005)


@ALGORITHM
async def test_800_concurrent_calls_against_10_admit_exactly_10(make, algorithm):
    backend = make(max_connections=10)
    assert await admitted(Policy("p", [limit(backend, algorithm=algorithm)]), 800) == 10


@ALGORITHM
async def test_two_limiters_of_one_name_share_and_of_two_names_do_not(make, algorithm):
    here, there = make(), make()
    assert await admitted(Policy("a", [limit(here, "a", algorithm=algorithm)]), 7) == 7
    assert await admitted(Policy("a", [limit(there, "a", algorithm=algorithm)]), 7) == 3
    assert await admitted(Policy("b", [limit(there, "b", algorithm=algorithm)]), 7) == 7


@ALGORITHM
async def test_a_refusal_says_when_the_next_permit_is_due(backend, algorithm):
    policy = Policy("p", [limit(backend, rate={"permits": 5, "per": 0.2}, algorithm=algorithm)])
    for _ in range(3):
        async with asyncio.timeout(30):
            while await admitted(policy, 5) == 5:
                pass
        refused = await refusal(policy)
        assert 0 < refused.retry_after <= 0.2
        await asyncio.sleep(refused.retry_after)
        assert await policy.call(ok) == "ok"


async def test_a_refused_call_consumes_nothing(backend):
    policy = Policy("p", [limit(backend, rate={"permits": 2, "per": 0.3}, algorithm="sliding_window")])
    begun = time.monotonic()
    assert await admitted(policy, 2) == 2
    while time.monotonic() - begun < 10 and not await admitted(policy, 1):
        await asyncio.sleep(0.01)
    assert 0.3 <= time.monotonic() - begun < 10, "asking again and again kept the window full"


@ALGORITHM
async def test_a_rejection_further_in_gives_the_permit_back(backend, algorithm):
    gate, policy_limit = asyncio.Event(), limit(backend, algorithm=algorithm)
    policy = Policy("p", [policy_limit, Bulkhead("b", BulkheadConfig(max_concurrent=1))])
    holder = asyncio.create_task(policy.call(gate.wait))
    await settled(lambda: policy.bulkhead.available_slots() == 0)
    results = await asyncio.gather(*[policy.call(ok) for _ in range(30)], return_exceptions=True)
    assert not any(isinstance(result, str) for result in results)
    gate.set()
    await holder
    place = policy_limit._remote.place("", by_key=False)
    async with asyncio.timeout(15):  # what is on its way comes back
        while await left(backend, place) < 9:
            await asyncio.sleep(0.01)
    assert await admitted(Policy("p", [limit(backend, algorithm=algorithm)]), 20) == 9


@ALGORITHM
async def test_a_call_cancelled_at_any_step_leaves_its_permit(make, algorithm):
    backend = make()
    policy = Policy("p", [limit(backend, algorithm=algorithm, rate="1000/day")])
    finished = 0
    for step in range(60):
        swept = await cancel_at(step % 12, lambda: policy.call(ok))
        finished += swept.outcome == "finished"
    place = policy.rate_limiter._remote.place("", by_key=False)
    async with asyncio.timeout(15):  # what is on its way comes back
        while (found := await left(backend, place)) < 1000 - finished:
            await asyncio.sleep(0.01)
    assert found == 1000 - finished


async def test_many_loops_and_threads_share_one_thread_of_ours(backend):
    policy, totals = Policy("p", [limit(backend, rate="200/day")]), []

    def one_loop_per_request() -> None:
        totals.append(sum(asyncio.run(admitted(policy, 2)) for _ in range(20)))

    workers = [threading.Thread(target=one_loop_per_request) for _ in range(6)]
    for worker in workers:
        worker.start()
    async with asyncio.timeout(30):
        while any(worker.is_alive() for worker in workers):
            await asyncio.sleep(0.01)
    assert sum(totals) == 200
    ours = [thread for thread in threading.enumerate() if thread.name.startswith("aioresilience-backend")]
    assert len(ours) == 1


def test_a_loop_per_request_is_no_loop_for_ever(backend):
    loops: list[weakref.ref] = []

    async def ask() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        assert await backend.answers()

    for _ in range(5):
        asyncio.run(ask())
    gc.collect()
    assert [loop() for loop in loops[:-1]] == [None] * 4  # the last one may be named by what runs yet


def test_status_is_read_while_answers_come(backend):
    policy, done, errors = Policy("p", [limit(backend, rate="1000000/second")]), threading.Event(), []

    def watch() -> None:
        while not done.is_set():
            try:
                backend.status()
            except RuntimeError as error:
                errors.append(error)

    async def load() -> None:
        for _ in range(1000):
            await policy.call(ok)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        asyncio.run(load())
    finally:
        done.set()
        watcher.join()
    assert errors == []


async def test_checks_of_one_tick_share_a_round_trip(backend):
    policy = Policy("p", [limit(backend, rate="1000/hour", scope="key")])
    await asyncio.gather(*[policy.bind(key=f"k{i}").call(ok) for i in range(300)])
    assert backend.status()["checks"] == 300
    assert backend.status()["round_trips"] <= 3


async def test_names_and_keys_never_collide(backend):
    names = ["a", "a:b", "{a}", "}a", "1:a", "", "ключ", "a b\n"]
    places = set()
    for name in names:
        for key in names:
            one = limit(backend, f"x{name}", scope="key")
            places.add(one._remote.place(key, by_key=True).key)
            places.add(one._remote.place(key, by_key=True, shadow=True).key)
        places.add(limit(backend, f"x{name}")._remote.place("", by_key=False).key)
    assert len(places) == len(names) * (2 * len(names) + 1)


async def test_every_key_has_its_own_limit_and_a_call_without_one_is_a_mistake(backend):
    policy = Policy("p", [limit(backend, rate="3/hour", scope="key")])
    assert [await admitted(policy, 5, key) for key in ("a", "b", "a")] == [3, 3, 0]
    with pytest.raises(MissingKeyError):
        await policy.call(ok)


async def test_idle_keys_vanish(backend, one_server: Server):
    policy = Policy("p", [limit(backend, rate={"permits": 2, "per": 0.1}, scope="key")])
    await asyncio.gather(*[policy.bind(key=f"k{i}").call(ok) for i in range(50)])
    with one_server.client() as client:
        await settled(lambda: not client.keys(f"{backend.config.prefix}:*gk*"))


async def test_flushed_scripts_are_loaded_again(backend, one_server: Server):
    policy = Policy("p", [limit(backend)])
    with one_server.client() as client:
        for _ in range(3):
            client.script_flush()
            assert await admitted(policy, 1) == 1
    assert backend.status()["trips"] == 0


async def test_waiting_calls_are_served_in_order_and_counted_as_delayed(backend):
    one = limit(backend, rate={"permits": 20, "per": 1.0}, burst=1, wait=30.0)
    policy, order = Policy("p", [one]), []

    async def note(number: int) -> None:
        order.append(number)

    await asyncio.gather(*[policy.call(note, number) for number in range(6)])
    assert order == list(range(6))
    assert one.counts.delayed == 5
    assert one.status()["waiting"] == 0


async def test_a_wait_that_would_be_too_long_is_refused_at_once(backend):
    policy = Policy("p", [limit(backend, rate="1/hour", wait=5.0)])
    assert await policy.call(ok) == "ok"
    with pytest.raises(RateLimitExceededError) as caught:
        await policy.call(ok)
    assert 3500 < caught.value.retry_after <= 3600


async def test_a_waiter_that_is_cancelled_leaves_its_turn_to_the_next(backend):
    one = limit(backend, rate={"permits": 2, "per": 1.0}, burst=1, wait=30.0)
    policy = Policy("p", [one])
    tasks = [asyncio.create_task(policy.call(ok)) for _ in range(5)]
    await settled(lambda: one._turns.waiting == 4)
    tasks[1].cancel()
    tasks[3].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [result == "ok" for result in results] == [True, False, True, False, True]
    assert not one._turns.lines


async def test_observe_charges_a_shadow_and_stops_nobody(backend):
    one = limit(backend, rate="5/hour")
    watched = Policy("p", [one], mode="observe")
    results = await asyncio.gather(*[watched.call(ok) for _ in range(12)])
    assert results == ["ok"] * 12
    await settled(lambda: one.counts.observed == 7)
    assert await admitted(Policy("p", [limit(backend, rate="5/hour")]), 9) == 5


async def test_observe_waits_for_nothing(backend):
    one = limit(backend, rate="5/hour")
    coroutine = Policy("p", [one], mode="observe").call(ok)
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    assert ended.value.value == "ok"
    await asyncio.sleep(0)
    await settled(lambda: backend.status()["checks"] == 1)


async def test_a_gradual_start_enforces_its_share(backend):
    one = limit(backend, rate="5/hour")
    assert await admitted(Policy("p", [one], mode=Gradual(enforce=0.5)), 20) == 15
    await settled(lambda: one.counts.observed == 5)


TEXT = """
version: 1
backends: {{main: {{type: redis, url: '{url}', prefix: '{prefix}', timeout: 10s, slow: 10s}}}}
policies: {{p: {{rate_limiter: {{rate: {rate}, algorithm: {algorithm}, backend: {backend}}}}}}}
"""


def text(where: Backend, /, **given: str) -> str:
    settings = {"rate": "10/hour", "algorithm": "gcra", "backend": "main", **given}
    return TEXT.format(url=where.config.url, prefix=where.config.prefix, **settings)


@ALGORITHM
async def test_a_reload_keeps_the_spent_share_and_refills_nothing(backend, algorithm):
    registry = Registry.from_text(text(backend, algorithm=algorithm), environ={})
    try:
        policy = registry.get("p")
        assert await admitted(policy, 6) == 6
        registry.apply(text(backend, algorithm=algorithm, rate="100/hour"))
        assert await admitted(policy, 60) == 40
        registry.apply(text(backend, algorithm=algorithm, rate="{permits: 5, per: 2h}"))
        assert await admitted(policy, 10) == 0
    finally:
        await registry.aclose()


async def test_a_limit_moves_to_the_server_and_back_with_what_this_process_has_spent(backend):
    registry = Registry.from_text(text(backend, backend="null"), environ={})
    try:
        policy = registry.get("p")
        assert await admitted(policy, 4) == 4
        registry.apply(text(backend))
        assert isinstance(policy.rate_limiter, FleetRateLimit)
        assert await admitted(policy, 20) == 6
        registry.apply(text(backend, backend="null"))
        assert not isinstance(policy.rate_limiter, FleetRateLimit)
        assert await admitted(policy, 20) == 0
    finally:
        await registry.aclose()


async def test_another_algorithm_brings_this_processes_part_of_what_is_spent(backend):
    registry = Registry.from_text(text(backend), environ={})
    try:
        policy = registry.get("p")
        assert await admitted(policy, 6) == 6
        with EventLog() as log:
            registry.apply(text(backend, algorithm="sliding_window"))
            [event] = await log.wait_for("state_restarted")
        assert event.metadata["kept"] == "this process's part"
        assert await admitted(policy, 20) == 4
    finally:
        await registry.aclose()


async def test_metrics_tell_what_a_limit_asks_of_its_backend(backend):
    leased = text(backend, rate="1000/second, lease: 20")
    registry = Registry.from_text(leased, environ={})
    scrapes = CollectorRegistry()
    scrapes.register(ResilienceCollector(registry))
    try:
        assert await admitted(registry.get("p"), 3) == 3
        of = {"policy": "p"}
        found = {name: scrapes.get_sample_value(f"aioresilience_rate_limit_{name}", of) for name in RATE_LIMIT}
    finally:
        await registry.aclose()
    assert found == {"asked_total": 3, "leased_total": 20, "degraded_total": 0, "backend_away": 0}


RATE_LIMIT = ("asked_total", "leased_total", "degraded_total", "backend_away")


async def test_events_tell_of_admitted_and_refused_calls(backend):
    policy = Policy("p", [limit(backend, rate="1/hour", scope="key")])
    with EventLog() as log:
        assert await admitted(policy, 2, "me") == 1
        [allowed] = await log.wait_for("request_allowed")
        [refused] = await log.wait_for("request_rejected")
    assert (allowed.user_id, refused.user_id) == ("me", "me")
    assert refused.metadata["retry_after"] > 3000


async def test_admit_takes_a_permit_as_a_call_does(backend):
    policy = Policy("p", [limit(backend, rate="1/hour")])
    async with policy.admit():
        pass
    with pytest.raises(RateLimitExceededError):
        async with policy.admit():
            pass


async def test_a_key_may_be_any_text(backend):
    policy = Policy("p", [limit(backend, rate="1/hour", scope="key")])
    for key in ("a\ud800", "\0", "{}", "x" * 5000):
        assert await admitted(policy, 2, key) == 1
    assert policy.rate_limiter.admit(Caller(key="a")) is None
