"""Partitions: state of its own for each host or key, bounded, kept over reloads, and nothing in use is dropped."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from aioresilience import CircuitBreakerOpenError, Policy, RateLimitExceededError, Registry, RejectionError
from aioresilience.bulkhead import Bulkhead, BulkheadConfig
from aioresilience.circuit_breaker import CircuitBreaker, CircuitConfig
from aioresilience.policy import Partition
from aioresilience.testing import EventLog, VirtualClock


async def well() -> str:
    return "well"


async def ill() -> str:
    raise ConnectionError("ill")


def breaker(clock: VirtualClock, *, by: str = "host", most: int = 3, wait: float = 10.0) -> Policy:
    config = CircuitConfig(failure_threshold=2, recovery_timeout=wait)
    return Policy(
        "api", [CircuitBreaker(config=config, clock=clock)], clock=clock, partition=Partition(by=by, max=most)
    )


async def spoil(policy: Policy, host: str, times: int = 2) -> None:
    for _ in range(times):
        with pytest.raises(ConnectionError):
            await policy.bind(host=host).call(ill)


async def is_open(policy: Policy, host: str) -> bool:
    try:
        await policy.bind(host=host).call(well)
    except CircuitBreakerOpenError:
        return True
    return False


def live(policy: Policy) -> set[str]:
    return {one["name"] for one in policy.status()["partitions"]["shown"]}


async def test_a_dead_host_opens_its_own_circuit_only():
    policy = breaker(VirtualClock())
    await spoil(policy, "dead.example.invalid")
    assert await is_open(policy, "dead.example.invalid")
    assert not await is_open(policy, "fine.example.invalid")


async def test_a_key_that_is_no_text_is_read_as_one():
    policy = breaker(VirtualClock(), by="key")
    for key in (7, "7"):
        with pytest.raises(ConnectionError):
            await policy.bind(key=key).call(ill)  # type: ignore[arg-type]
    with pytest.raises(CircuitBreakerOpenError):
        await policy.bind(key=7).call(well)  # type: ignore[arg-type]


async def test_a_key_is_what_a_call_is_bound_to():
    policy = breaker(VirtualClock(), by="key")
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await policy.bind(key="tenant-7", host="any").call(ill)
    with pytest.raises(CircuitBreakerOpenError):
        await policy.bind(key="tenant-7").call(well)
    assert await policy.bind(key="tenant-8").call(well) == "well"


async def test_calls_without_a_key_share_the_policy_s_own_instances_and_are_counted():
    policy = breaker(VirtualClock())
    with EventLog() as log:
        for _ in range(2):
            with pytest.raises(ConnectionError):
                await policy.call(ill)
        with pytest.raises(CircuitBreakerOpenError):
            await policy.call(well)
        assert [event.action for event in await log.wait_for("key_missing")] == ["not_partitioned"]
    assert not await is_open(policy, "fine.example.invalid")
    assert policy.status()["partitions"]["keyless"] == 3


async def test_the_one_unused_for_longest_is_dropped():
    clock = VirtualClock()
    policy = breaker(clock)
    for host in ("a", "b", "c", "a", "d"):
        await policy.bind(host=host).call(well)
        clock.move(1)
    assert live(policy) == {"api[a]", "api[c]", "api[d]"}
    assert policy.status()["partitions"]["dropped"] == 1


async def test_an_open_circuit_stays_while_it_refuses_and_may_go_once_its_wait_is_over():
    clock = VirtualClock()
    policy = breaker(clock)
    await spoil(policy, "dead")
    for host in ("a", "b", "c", "d"):
        clock.move(1)
        await policy.bind(host=host).call(well)
    assert await is_open(policy, "dead")
    clock.move(10)
    for host in ("e", "f", "g"):
        await policy.bind(host=host).call(well)
    assert "api[dead]" not in live(policy)


async def test_nothing_is_dropped_while_a_call_runs_in_it():
    clock = VirtualClock()
    policy = breaker(clock, most=1)
    go = asyncio.Event()
    call = asyncio.create_task(policy.bind(host="slow").call(go.wait))
    await asyncio.sleep(0)
    await policy.bind(host="other").call(well)
    assert live(policy) == {"api[slow]"}
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    clock.move(1)
    await policy.bind(host="other").call(well)
    assert live(policy) == {"api[other]"}


async def test_a_spent_limit_is_no_free_refill_for_whoever_cycles_through_hosts():
    clock = VirtualClock()
    text = "{version: 1, policies: {api: {rate_limiter: 1/minute, partition: {by: host, max: 2}}}}"
    policy = Registry.from_text(text, clock=clock).get("api")
    for host in ("a", "b"):
        await policy.bind(host=host).call(well)
    await policy.bind(host="c").call(well)  # all places are held: the policy's own limit serves it
    for host in ("a", "b", "c", "d"):
        with pytest.raises(RateLimitExceededError):
            await policy.bind(host=host).call(well)
    assert policy.status()["partitions"]["overflowed"] == 3
    clock.move(61)
    await policy.bind(host="d").call(well)
    assert "api[d]" in live(policy)


async def test_a_full_table_is_looked_through_ten_times_a_second_at_most():
    clock = VirtualClock()
    policy = breaker(clock, most=2)
    for host in ("a", "b"):
        await spoil(policy, host)
    await policy.bind(host="c").call(well)
    clock.move(10.05 - clock.monotonic() + 1_000)
    await policy.bind(host="c").call(well)
    assert policy.status()["partitions"]["live"] == 2
    assert policy.status()["partitions"]["overflowed"] == 1


DOCUMENT = """
version: 1
policies:
  api:
    circuit_breaker: {failure_threshold: %d, recovery_timeout: 10s}
    bulkhead: %d
    partition: {by: %s, max: %d}
"""


def document(threshold: int = 2, places: int = 5, by: str = "host", most: int = 8) -> str:
    return DOCUMENT % (threshold, places, by, most)


async def test_a_reload_keeps_the_state_of_each_partition():
    registry = Registry.from_text(document(), clock=VirtualClock())
    policy = registry.get("api")
    await spoil(policy, "dead")
    await spoil(policy, "shaky", times=1)
    assert registry.apply(document(threshold=3, places=4, most=6)).outcome == "applied"
    assert await is_open(policy, "dead")
    await spoil(policy, "shaky", times=1)
    assert not await is_open(policy, "shaky")
    shown = {one["name"]: one["patterns"] for one in policy.status()["partitions"]["shown"]}
    assert {one["bulkhead"]["limit"] for one in shown.values()} == {4}


async def test_growth_by_a_reload_wakes_who_waits_in_a_partition():
    text = "{version: 1, policies: {api: {bulkhead: {max_concurrent: %d, max_waiting: 5}, partition: {by: host}}}}"
    registry = Registry.from_text(text % 1, clock=VirtualClock())
    policy, go = registry.get("api"), asyncio.Event()
    calls = [asyncio.create_task(policy.bind(host="a").call(go.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    registry.apply(text % 2)
    await asyncio.sleep(0)
    assert policy.status()["partitions"]["shown"][0]["patterns"]["bulkhead"]["active"] == 2
    go.set()
    await asyncio.gather(*calls)


async def test_another_by_starts_anew_and_no_partition_ends_them():
    registry = Registry.from_text(document(), clock=VirtualClock())
    policy = registry.get("api")
    await spoil(policy, "dead")
    registry.apply(document(by="key"))
    assert policy.status()["partitions"]["live"] == 0
    registry.apply("{version: 1, policies: {api: {circuit_breaker: {}, bulkhead: 5}}}")
    assert "partitions" not in policy.status()
    assert await policy.bind(host="dead").call(well) == "well"


async def test_a_smaller_max_drops_what_is_free_and_the_rest_as_it_comes_free():
    registry = Registry.from_text(document(), clock=VirtualClock())
    policy, go = registry.get("api"), asyncio.Event()
    calls = [asyncio.create_task(policy.bind(host=host).call(go.wait)) for host in ("a", "b", "c")]
    await asyncio.sleep(0)
    await policy.bind(host="idle").call(well)
    registry.apply(document(most=1))
    assert live(policy) == {"api[a]", "api[b]", "api[c]"}
    go.set()
    await asyncio.gather(*calls)
    assert len(live(policy)) == 1


async def test_a_rollback_finds_the_partitions_as_they_are():
    registry = Registry.from_text(document(), clock=VirtualClock())
    policy = registry.get("api")
    await spoil(policy, "dead")
    registry.apply(document(threshold=9))
    registry.rollback()
    assert await is_open(policy, "dead")


async def test_counts_are_the_policy_s_and_reconcile():
    policy = breaker(VirtualClock())
    await spoil(policy, "dead")
    assert await is_open(policy, "dead")
    for host in ("a", "b", "c", "d"):
        await policy.bind(host=host).call(well)
    counts = policy.status()["patterns"]["circuit_breaker"]
    assert (counts["started"], counts["succeeded"], counts["failed"]) == (6, 4, 2)
    assert counts["rejected"]["CIRCUIT_OPEN"] == 1


async def test_the_status_is_bounded_and_shows_what_holds_back_first():
    clock = VirtualClock()
    policy = breaker(clock, most=100)
    await spoil(policy, "dead")
    for number in range(60):
        clock.move(0.01)
        await policy.bind(host=f"h{number}").call(well)
    status = policy.status()["partitions"]
    assert status["live"] == 61
    assert status["circuits"] == {"closed": 60, "open": 1, "half_open": 0}
    assert [one["name"] for one in status["shown"]][:2] == ["api[dead]", "api[h59]"]
    assert len(status["shown"]) == 20


async def test_errors_and_status_name_a_host_and_hash_a_key():
    policy = breaker(VirtualClock())
    await spoil(policy, "dead.example.invalid")
    with pytest.raises(CircuitBreakerOpenError, match=r"'api\[dead\.example\.invalid\]' is open") as caught:
        await policy.bind(host="dead.example.invalid").call(well)
    assert caught.value.policy == "api"
    keyed = breaker(VirtualClock(), by="key")
    await keyed.bind(key="alice@example.invalid").call(well)
    assert "alice" not in str(keyed.status())


async def test_events_reach_who_listens_to_the_policy_s_pattern():
    policy, seen = breaker(VirtualClock()), []
    policy.circuit_breaker.events.on("state_change")(lambda event: seen.append(event.pattern_name))
    await spoil(policy, "dead")
    await asyncio.sleep(0)
    assert seen == ["api[dead]"]


async def test_what_people_force_holds_for_every_partition():
    policy = breaker(VirtualClock())
    await policy.bind(host="a").call(well)
    await spoil(policy, "dead")
    policy.circuit_breaker.force_open("INC-1")
    for host in ("a", "new"):
        with pytest.raises(CircuitBreakerOpenError, match="forced: INC-1"):
            await policy.bind(host=host).call(well)
    policy.circuit_breaker.force_closed("INC-2")
    assert not await is_open(policy, "dead")
    policy.circuit_breaker.release()
    assert not await is_open(policy, "a")


async def test_shared_blocks_stay_shared():
    text = """
version: 1
shared: {pool: {bulkhead: 1}}
policies: {api: {bulkhead: {use: pool}, circuit_breaker: {}, partition: {by: host}}}
"""
    policy, go = Registry.from_text(text).get("api"), asyncio.Event()
    call = asyncio.create_task(policy.bind(host="a").call(go.wait))
    await asyncio.sleep(0)
    with pytest.raises(RejectionError):
        await policy.bind(host="b").call(well)
    go.set()
    await call


async def test_admit_enters_the_caller_s_partition():
    policy = Policy("api", [Bulkhead(config=BulkheadConfig(max_concurrent=1))], partition=Partition(by="host"))
    async with policy.bind(host="a").admit(), policy.bind(host="b").admit():
        with pytest.raises(RejectionError):
            async with policy.bind(host="a").admit():
                pass
        assert policy.status()["partitions"]["in_use"] == 2
    assert policy.status()["partitions"]["in_use"] == 0


class Streaming:
    """An exchange whose results stay open until `close`."""

    idempotent = None

    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []

    def can_send(self) -> bool:
        return True

    def when_closed(self, result: object, callback: Callable[[], object]) -> bool:
        if result == "stream":
            self.waiting.append(callback)
        return result == "stream"

    def close(self) -> None:
        while self.waiting:
            self.waiting.pop()()


async def stream() -> str:
    return "stream"


@pytest.mark.parametrize("partition", [None, Partition(by="host", max=1)])
async def test_what_an_open_result_holds_lasts_until_it_is_closed(partition):
    bulkhead = Bulkhead(config=BulkheadConfig(max_concurrent=1, max_waiting=1))
    policy = Policy("api", [bulkhead], partition=partition)
    first, second = Streaming(), Streaming()
    await policy.bind(host="a", exchange=first).open(stream)
    call = asyncio.create_task(policy.bind(host="a", exchange=second).open(stream))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not call.done()
    if partition is not None:
        await policy.bind(host="b").call(well)
        assert live(policy) == {"api[a]"}
    first.close()
    await call
    second.close()
    assert bulkhead.counts.started == bulkhead.counts.succeeded == 2 + (partition is not None)
    assert policy.status()["partitions"]["in_use"] == 0 if partition else bulkhead.machine.active == 0


@pytest.mark.parametrize("exchange", [None, Streaming()])
async def test_a_result_that_is_not_open_holds_nothing(exchange):
    policy = Policy("api", [Bulkhead(config=BulkheadConfig(max_concurrent=1))], partition=Partition(by="host"))
    for _ in range(3):
        assert await policy.bind(host="a", exchange=exchange).open(well) == "well"
    assert policy.status()["partitions"]["in_use"] == 0


def test_threads_find_one_instance_for_one_host():
    partition = Partition(by="host", max=7)  # one for each thread and the common one: nobody needs the policy's own
    policy = Policy("api", [Bulkhead(config=BulkheadConfig(max_concurrent=3))], partition=partition)
    most, running, lock = [0], [0], threading.Lock()

    async def work() -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        await asyncio.sleep(0)
        with lock:
            running[0] -= 1

    async def calls(number: int) -> None:
        for turn in range(300):
            try:
                await policy.bind(host="same").call(work)
            except RejectionError:
                await asyncio.sleep(0)
            await policy.bind(host=f"h{number}-{turn}").call(well)

    threads = [threading.Thread(target=lambda n=number: asyncio.run(calls(n))) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] <= 3
    status = policy.status()["partitions"]
    assert status["live"] == 7
    assert status["dropped"] > 1000
    assert (status["in_use"], status["overflowed"]) == (0, 0)


@pytest.mark.parametrize("partition", ["{by: host, max: 0}", "{by: port}", "{by: host, per: 3}"])
def test_a_wrong_partition_is_refused(partition):
    with pytest.raises(ValueError, match="partition"):
        Registry.from_text(f"{{version: 1, policies: {{api: {{timeout: 1s, partition: {partition}}}}}}}")


def test_null_takes_an_inherited_partition_away():
    text = "{version: 1, defaults: {partition: {by: host}}, policies: {a: {timeout: 1s}, b: {partition: null}}}"
    registry = Registry.from_text(text)
    assert registry.get("a").partitions is not None
    assert registry.get("b").partitions is None
