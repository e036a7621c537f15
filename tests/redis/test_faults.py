"""What happens to calls while the server is down, hangs, is slow, or cuts its answers: bounded, visible, soon over."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from aioresilience import Policy, RateLimitExceededError
from aioresilience.backends import Backend, BackendConfig, Charge
from aioresilience.backends.client import Client
from aioresilience.backends.health import Health
from aioresilience.backends.scripts import FLEET
from aioresilience.rate_limiting import FleetRateLimit, RateLimiterConfig
from aioresilience.testing import EventLog
from tests.redis.conftest import PATIENT
from tests.redis.proxy import FaultProxy
from tests.redis.servers import Server, server

BUDGET = 0.25


async def ok() -> str:
    return "ok"


@pytest.fixture
def proxy(one_server: Server) -> Iterator[FaultProxy]:
    one = FaultProxy(one_server.port)
    yield one
    one.close()


@pytest.fixture
def behind(make: Callable[..., Backend], proxy: FaultProxy) -> Backend:
    return make(url=proxy.url)


def bound(backend: Backend, budget: float) -> None:
    """Give every check from now on so much time; what was before is not about time, and the machine may be busy."""
    courier = backend._running.courier
    courier.config = courier.config.model_copy(update={"timeout": budget})


def hang(proxy: FaultProxy, backend: Backend) -> None:
    """Let no answer come any more, and nobody wait for one longer than the budget."""
    proxy.black_hole = True
    bound(backend, BUDGET)


def answer(proxy: FaultProxy, backend: Backend) -> None:
    """Let answers come again, and be waited for."""
    proxy.black_hole = False
    bound(backend, PATIENT)


def policy_of(backend: Backend, **config: object) -> Policy:
    given = {"rate": "1000/hour", **config}
    return Policy("p", [FleetRateLimit("p", RateLimiterConfig(**given), backend=backend)])


async def settled(check: Callable[[], object], patience: float = 15.0) -> None:
    async with asyncio.timeout(patience):
        while not check():
            await asyncio.sleep(0.005)


async def timed(policy: Policy) -> float:
    begun = time.perf_counter()
    assert await policy.call(ok) == "ok"
    return time.perf_counter() - begun


def median(numbers: list[float]) -> float:
    return sorted(numbers)[len(numbers) // 2]


async def test_a_server_that_never_answers_costs_the_budget_once(behind, proxy):
    policy, took = policy_of(behind), []
    for round_ in range(1, 4):  # a busy machine only adds, and not each time
        await policy.call(ok)
        hang(proxy, behind)
        took.append(await timed(policy))
        assert median([await timed(policy) for _ in range(200)]) <= 0.001
        assert (behind.reason, behind.status()["trips"]) == ("timeout", round_)
        answer(proxy, behind)
        await settled(lambda: behind.available)
    assert BUDGET * 0.9 <= min(took) < BUDGET * 1.8, took


async def test_everybody_who_waits_gives_up_with_the_first(behind, proxy):
    policy, apart = policy_of(behind), []

    async def wait(ended: list[float]) -> None:
        await policy.call(ok)
        ended.append(time.perf_counter())

    while len(apart) < 5 and min(apart, default=BUDGET) >= BUDGET / 2:  # a busy machine only adds, and not each time
        await policy.call(ok)
        hang(proxy, behind)
        ended: list[float] = []
        early = [asyncio.create_task(wait(ended)) for _ in range(5)]
        await asyncio.sleep(BUDGET / 2)
        await asyncio.gather(*early, *[wait(ended) for _ in range(50)])
        apart.append(ended[-1] - ended[0])
        answer(proxy, behind)
        await settled(lambda: behind.available)
    assert min(apart) < BUDGET / 2, "they waited for a budget of their own"
    assert behind.status()["trips"] == len(apart)


async def test_it_is_asked_again_once_a_probe_has_found_it(behind, proxy):
    policy = policy_of(behind)
    await policy.call(ok)
    hang(proxy, behind)
    with EventLog() as log:
        await policy.call(ok)
        answer(proxy, behind)
        await settled(lambda: behind.available)
        await log.wait_for("backend_recovered")
    before = behind.status()["checks"]
    await policy.call(ok)
    assert behind.status()["checks"] == before + 1


FAULTS: dict[str, Callable[[FaultProxy, Backend], None]] = {
    "resets": lambda proxy, _: (setattr(proxy, "reset", True), proxy.reset_all()),
    "refuses": lambda proxy, _: proxy.refuse(),
    "hangs": hang,
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("decision", ["allow", "deny", "local"])
async def test_each_decision_without_the_server_is_counted_and_told(behind, proxy, fault, decision):
    policy = policy_of(behind, rate="3/hour", on_backend_error=decision)
    await policy.call(ok)
    with EventLog("backend_degraded") as log:  # before the fault: the backend may tell of it before any call
        FAULTS[fault](proxy, behind)
        results = await asyncio.gather(*[policy.call(ok) for _ in range(6)], return_exceptions=True)
        results += [await _outcome(policy) for _ in range(4)]
        limiter = policy.rate_limiter
        told = [event for event in await log.wait_for("backend_degraded", 11) if event.pattern_name == "p"]
    assert results.count("ok") == {"allow": 10, "deny": 0, "local": 2}[decision]  # one of three was spent there
    assert limiter.degraded == limiter.status()["degraded"] == 10
    assert len(told) == 10
    assert {event.metadata["in_use"] for event in told} == {decision}
    assert limiter.status()["backend_in_use"] == decision


async def test_an_observed_decision_that_the_server_does_not_give_is_counted_too(behind, proxy):
    policy = policy_of(behind, mode="observe")
    assert await behind.answers()
    hang(proxy, behind)
    for _ in range(3):
        await policy.call(ok)
    await settled(lambda: not behind.available)
    await settled(lambda: policy.rate_limiter.degraded == 3)


async def _outcome(policy: Policy) -> object:
    try:
        return await policy.call(ok)
    except RateLimitExceededError as error:
        return error


async def test_a_denial_says_that_the_server_is_away(behind, proxy):
    policy = policy_of(behind, on_backend_error="deny")
    proxy.refuse()
    with pytest.raises(RateLimitExceededError, match=r"backend 'main' is away \(connection\)"):
        await policy.call(ok)


STRANGERS: dict[str, tuple[str, ...]] = {
    "a hash": ("HSET", "field", "value"),
    "a text": ("SET", "hello"),
    "a text with colons": ("SET", "a:b:c:d:e"),
    "a list": ("RPUSH", "hello", "world"),
    "a list of numbers ahead of the clock": ("RPUSH", *(f"179{number:016}" for number in range(3))),
    "a list that begins with a time of day": ("RPUSH", "12:30", "12:45"),
}
ANY = ("gcra", "sliding_window")


def occupy(one: Server, limiter: FleetRateLimit, key: str, stranger: str) -> Callable[[], tuple[object, int]]:
    """Let something of somebody else's stand where the key is counted; return what tells its value and lifetime."""
    command, *values = STRANGERS[stranger]
    place = limiter._remote.place(key, by_key=True).key

    def look() -> tuple[object, int]:
        with one.client() as client:
            return client.dump(place), client.pttl(place)

    with one.client() as client:
        client.execute_command(command, place, *values)
    return look


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("algorithm", ANY)
async def test_what_is_not_ours_under_a_key_keeps_that_key_alone_from_being_counted(
    one_server, make, stranger, algorithm
):
    backend = make()
    policy = policy_of(backend, rate="2/hour", scope="key", algorithm=algorithm)
    look = occupy(one_server, policy.rate_limiter, "taken", stranger)
    before = look()
    with EventLog("backend_degraded") as log:
        calls = [policy.bind(key=key).call(ok) for key in ("a", "taken", "b", "taken", "a", "taken", "a")]
        results = await asyncio.gather(*calls, return_exceptions=True)
        told = await log.wait_for("backend_degraded", 3)
    assert [result == "ok" for result in results] == [True, True, True, True, True, False, False]
    assert {(event.pattern_name, event.metadata["reason"]) for event in told} == {("p", "wrong_type")}
    assert (policy.rate_limiter.degraded, backend.available, backend.status()["trips"]) == (3, True, 0)
    assert look() == before


@pytest.mark.parametrize("algorithm", ANY)
async def test_where_nothing_can_be_counted_the_decision_is_the_configured_one(one_server, make, algorithm):
    backend = make()
    policy = policy_of(backend, scope="key", algorithm=algorithm, on_backend_error="deny")
    occupy(one_server, policy.rate_limiter, "taken", "a hash")
    with pytest.raises(RateLimitExceededError, match=r"cannot count this key \(wrong_type\)"):
        await policy.bind(key="taken").call(ok)
    observing = policy_of(backend, scope="key", algorithm=algorithm, mode="observe")
    shadow = observing.rate_limiter._remote.place("taken", by_key=True, shadow=True).key
    with one_server.client() as client:
        client.hset(shadow, "field", "value")
    assert await observing.bind(key="taken").call(ok) == "ok"
    await settled(lambda: observing.rate_limiter.degraded == 1)
    assert backend.available


async def test_permits_that_go_back_to_what_is_not_ours_are_gone(one_server, make):
    backend = make()
    policy = policy_of(backend, scope="key")
    place = policy.rate_limiter._remote.place("taken", by_key=True)
    occupy(one_server, policy.rate_limiter, "taken", "a hash")
    backend.give_back(place, 3, Charge(1, 3.0))
    assert await policy.bind(key="free").call(ok) == "ok"
    assert backend.available


async def test_a_fleet_whose_place_is_taken_is_not_counted_and_goes_on(one_server, make):
    backend = make()
    with one_server.client() as client:
        client.set(f"{backend.config.prefix}:{{fleet}}", "hello")
    policy = policy_of(backend)
    assert await policy.call(ok) == "ok"
    await settled(lambda: not backend._running.courier._others)  # the first heartbeat has been answered
    assert (backend.available, backend.fleet_size, policy.rate_limiter.degraded) == (True, 1, 0)


async def test_down_at_start_is_no_error_and_it_comes_later(make, proxy):
    proxy.refuse()
    backend = make(url=proxy.url)
    policy = policy_of(backend)
    assert await policy.call(ok) == "ok"
    assert not backend.available
    proxy.listen()
    await settled(lambda: backend.available)
    assert backend.status()["trips"] == 1


async def test_a_connection_that_was_closed_meanwhile_is_replaced_unseen(make, proxy):
    backend = make(url=proxy.url)
    policy = policy_of(backend)
    await policy.call(ok)
    proxy.reset_all()
    await policy.call(ok)
    assert backend.status()["trips"] == 0
    assert policy.rate_limiter.degraded == 0


@pytest.mark.parametrize("cut", [0, 1, 7, 30])
async def test_a_reply_cut_in_the_middle_never_reaches_another_caller(make, proxy, cut):
    backend = make(url=proxy.url, max_connections=1)
    policy = policy_of(backend, scope="key", rate="5/hour")
    for key in ("a", "b"):
        for _ in range(5):
            await policy.bind(key=key).call(ok)
    proxy.cut = cut
    results = await asyncio.gather(
        *[policy.bind(key=key).call(ok) for key in ("a", "c", "b", "d")], return_exceptions=True
    )
    assert [result == "ok" for result in results] == [False, True, False, True]
    assert proxy.connections >= 2


async def test_a_caller_cancelled_half_way_leaves_the_connection_to_nobody(make, proxy):
    backend = make(url=proxy.url, max_connections=1)
    policy = policy_of(backend, scope="key", rate="2/hour")
    await policy.bind(key="x").call(ok)
    proxy.delay = 0.02
    for turn in range(10):
        doomed = asyncio.create_task(policy.bind(key="full").call(ok))
        await asyncio.sleep(0.002 * turn)
        doomed.cancel()
        assert await policy.bind(key=f"k{turn}").call(ok) == "ok"
        await asyncio.gather(doomed, return_exceptions=True)
    assert backend.status()["trips"] == 0


async def test_a_slow_server_counts_as_away_after_a_second(make, proxy):
    backend = make(url=proxy.url, slow=0.2)
    policy = policy_of(backend)
    await policy.call(ok)
    proxy.delay = 0.4
    begun = time.monotonic()
    while backend.available and time.monotonic() - begun < 15:
        await policy.call(ok)
    assert backend.reason == "slow"
    assert time.monotonic() - begun >= 0.9
    proxy.delay = 0.0
    await settled(lambda: backend.available, 30)


async def test_a_burst_of_slow_answers_is_no_reason(make, proxy):
    backend = make(url=proxy.url, slow=0.3)
    policy = policy_of(backend)
    proxy.delay = 0.4
    for _ in range(2):
        await policy.call(ok)
    proxy.delay = 0.0
    for _ in range(20):
        await policy.call(ok)
    assert backend.available


async def test_a_read_only_replica_counts_as_away_until_it_takes_writes():
    with server() as one, server("--replicaof", "127.0.0.1", str(one.port)) as replica:
        backend = Backend("main", BackendConfig(url=replica.url, timeout=5.0, slow=5.0))
        try:
            policy = policy_of(backend)
            assert await policy.call(ok) == "ok"
            assert backend.reason == "read_only"
            with replica.client() as client:
                client.execute_command("REPLICAOF", "NO", "ONE")
            await settled(lambda: backend.available)
        finally:
            await backend.aclose()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["kill", "stop"])
async def test_a_server_process_that_dies_or_freezes_under_load(number):
    with server() as one:
        backend = Backend("main", BackendConfig(url=one.url, timeout=BUDGET, slow=5.0))
        policy, longest, done = policy_of(backend, rate="1000000/second", on_backend_error="allow"), 0.0, 0
        standstill = 0.0

        async def load() -> None:
            nonlocal longest, done
            while not enough.is_set():
                longest = max(longest, await timed(policy))
                done += 1
                await asyncio.sleep(0)

        async def look() -> None:
            nonlocal standstill
            while not enough.is_set():
                begun = time.perf_counter()
                await asyncio.sleep(0.005)
                standstill = max(standstill, time.perf_counter() - begun)

        enough = asyncio.Event()
        tasks = [asyncio.create_task(load()) for _ in range(20)] + [asyncio.create_task(look())]
        try:
            await settled(lambda: done > 500)
            one.signal(number)
            await settled(lambda: not backend.available)
            await settled(lambda: policy.rate_limiter.degraded > 500)
            if number == signal.SIGSTOP:
                one.signal(signal.SIGCONT)
            else:
                one.kill()
                await asyncio.to_thread(one.start)
            await settled(lambda: backend.available)
            before = backend.status()["checks"]
            await settled(lambda: backend.status()["checks"] > before + 200)
        finally:
            enough.set()
            await asyncio.gather(*tasks)
            await backend.aclose()
        assert longest < 2 * BUDGET + 1.0 + 2 * standstill  # a second and more for a machine that is busy


async def test_credentials_are_in_no_text(caplog, make, proxy):
    caplog.set_level(logging.DEBUG)
    secrets = {"url": f"redis://app:hunter2@127.0.0.1:{proxy.port}/0", "password": "hunter3", "username": "user4"}
    backend = make(**secrets, timeout=5.0)
    policy = policy_of(backend, on_backend_error="deny")
    with EventLog() as log, pytest.raises(RateLimitExceededError) as caught:
        await policy.call(ok)
    assert backend.reason == "forbidden"
    texts = [repr(backend), repr(backend.config), str(backend.status()), str(policy.status()), repr(caught.value)]
    texts += [str(event.to_dict()) for event in log.events] + [caplog.text, str(caught.value.metadata)]
    assert not [text for text in texts if "hunter" in text or "user4" in texts[0]]


@pytest.mark.parametrize(
    "url", ["http://u:hunter2@x", "redis://u:hunter2@x:notaport", "hunter2", "redis://u:hunter2@x:0"]
)
def test_a_bad_url_is_refused_without_a_word_of_it(url):
    with pytest.raises(ValueError, match="expected a url") as caught:
        BackendConfig(url=url)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value)


async def test_a_url_that_the_library_cannot_use_is_no_reason_to_stop_probing(tmp_path, make, one_server):
    url = tmp_path / "url"
    url.write_text("redis://127.0.0.1/0?no_such_option=1")
    backend = make(url={"file": str(url)})
    assert not await backend.answers()
    assert backend.reason == "settings"
    url.write_text(one_server.url)
    await settled(lambda: backend.available)


async def test_a_secret_file_is_read_at_every_connect(tmp_path, make, one_server):
    url = tmp_path / "url"
    backend = make(url={"file": str(url)})
    policy = policy_of(backend)
    assert await policy.call(ok) == "ok"
    assert backend.reason == "secret"
    url.write_text(one_server.url + "\n")
    await settled(lambda: backend.available)


async def test_local_limits_are_the_processes_part_of_the_fleets(make, proxy):
    backend = make(url=proxy.url, fleet_size=4)
    unkeyed, keyed = policy_of(backend, rate="10/hour"), policy_of(backend, rate="10/hour", scope="key")
    proxy.refuse()
    results = await asyncio.gather(*[unkeyed.call(ok) for _ in range(20)], return_exceptions=True)
    assert results.count("ok") == 3  # 10 / 4, rounded up
    results = await asyncio.gather(*[keyed.bind(key="k").call(ok) for _ in range(20)], return_exceptions=True)
    assert results.count("ok") == 10


async def test_the_fleet_is_counted_where_it_is_not_configured(make):
    fleet = [make() for _ in range(3)]
    for backend in fleet:
        await policy_of(backend).call(ok)

    async def seen() -> bool:
        for backend in fleet:
            await policy_of(backend).call(ok)
        return all(backend.fleet_size == 3 for backend in fleet)

    async with asyncio.timeout(20):
        while not await seen():
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("late", [False, True])
async def test_a_process_that_is_late_itself_does_not_blame_the_server(make, monkeypatch, late):
    backend, turns, enough = make(slow=0.1 if late else PATIENT), [], threading.Event()
    policy = policy_of(backend, rate="1000000/second")
    await policy.call(ok)
    running = backend._running

    def stand_still() -> None:
        time.sleep(0.06)  # more than half of what is slow
        if not enough.is_set():
            running.io.loop.call_soon(stand_still)

    monkeypatch.setattr(Health, "answered", lambda health, now, latency: True)  # a second of slow answers
    monkeypatch.setattr(Health, "forget", lambda health: turns.append(health))
    try:
        if late:
            running.io.call(stand_still)
        await policy.call(ok)
        await settled(lambda: turns)
    finally:
        enough.set()
    assert running.courier.trips == (0 if late else 1)


async def test_a_connection_that_is_made_while_the_client_is_closed_is_closed_too(one_server: Server):
    client = Client(BackendConfig(url=one_server.url, timeout=PATIENT))
    asked = asyncio.create_task(client.run(FLEET, [b"closing:{fleet}"], ["me", 1000]))
    await asyncio.sleep(0)  # it is connecting
    await client.close()
    await asyncio.gather(asked, return_exceptions=True)
    pool = client._connected.connection_pool
    assert not pool._in_use_connections
    assert [one.is_connected for one in pool._available_connections] == [False]
