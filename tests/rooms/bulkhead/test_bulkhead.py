import asyncio
import threading
import time

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from aioresilience.bulkhead import (
    Bulkhead,
    BulkheadConfig,
    BulkheadFullError,
    BulkheadReason,
    BulkheadRegistry,
    bulkhead,
    get_all_bulkhead_metrics,
    get_bulkhead,
    with_bulkhead,
)
from aioresilience.events import EventType
from aioresilience.exceptions import OperationTimeoutError
from aioresilience.policy import Policy
from aioresilience.testing import VirtualClock
from aioresilience.timeout import TimeoutConfig, TimeoutManager
from aioresilience.waiters import WaitQueue
from tests.sweep import sweep


def make(clock=None, **fields):
    return Bulkhead("db", BulkheadConfig(**fields), clock=clock or VirtualClock())


async def turns(n=5):
    for _ in range(n):
        await asyncio.sleep(0)


async def held(pool, gate):
    return await pool.execute(gate.wait)


async def test_admits_as_many_as_it_has_places_and_refuses_the_next():
    pool, gate = make(max_concurrent=2), asyncio.Event()
    running = [asyncio.create_task(held(pool, gate)) for _ in range(2)]
    await turns()
    with pytest.raises(BulkheadFullError) as caught:
        await pool.execute(gate.wait)
    assert caught.value.reason is BulkheadReason.CAPACITY_FULL
    gate.set()
    await asyncio.gather(*running)
    assert pool.machine.active == 0


async def test_waiters_are_served_in_order():
    pool, served = make(max_concurrent=1, max_waiting=5), []

    async def work(number):
        served.append(number)
        await asyncio.sleep(0)

    await asyncio.gather(*(pool.execute(work, n) for n in range(6)))
    assert served == [0, 1, 2, 3, 4, 5]


async def test_a_full_queue_refuses():
    pool, gate = make(max_concurrent=1, max_waiting=1), asyncio.Event()
    running = [asyncio.create_task(held(pool, gate)) for _ in range(2)]
    await turns()
    with pytest.raises(BulkheadFullError) as caught:
        await pool.execute(gate.wait)
    assert caught.value.reason is BulkheadReason.QUEUE_FULL
    gate.set()
    await asyncio.gather(*running)


async def test_a_wait_ends_after_its_timeout():
    clock, gate = VirtualClock(), asyncio.Event()
    pool = make(clock, max_concurrent=1, max_waiting=1, timeout=2.0)
    running = asyncio.create_task(held(pool, gate))
    await turns()
    waiting = asyncio.create_task(held(pool, gate))
    await clock.advance(1.9)
    assert not waiting.done()
    await clock.advance(0.2)
    assert waiting.exception().reason is BulkheadReason.TIMEOUT
    assert pool.machine.queue.waiting == 0
    gate.set()
    await running


async def test_a_newcomer_does_not_overtake_a_waiter():
    pool, gate = make(max_concurrent=1, max_waiting=2), asyncio.Event()
    order = []

    async def work(name):
        order.append(name)

    running = asyncio.create_task(held(pool, gate))
    await turns()
    waiting = asyncio.create_task(pool.execute(work, "waiter"))
    await turns()
    gate.set()
    await running
    await pool.execute(work, "newcomer")
    await waiting
    assert order == ["waiter", "newcomer"]


async def test_a_waiter_cancelled_in_the_tick_it_is_granted_passes_the_place_on():
    pool, gate = make(max_concurrent=1, max_waiting=2), asyncio.Event()
    running = asyncio.create_task(held(pool, gate))
    await turns()
    first, second = asyncio.create_task(held(pool, gate)), asyncio.create_task(held(pool, gate))
    await turns()
    pool.machine.release()  # the place is granted to `first` ...
    pool.machine.free -= 0
    first.cancel()  # ... which is cancelled before it runs again
    await turns()
    assert first.cancelled()
    assert pool.machine.queue.waiting == 0, "the second got the place"
    gate.set()
    await second
    running.cancel()
    await asyncio.wait([running])


async def test_shrinking_below_what_is_in_use_is_a_debt_that_releases_pay():
    pool, gates = make(max_concurrent=3), [asyncio.Event() for _ in range(3)]
    running = [asyncio.create_task(held(pool, gate)) for gate in gates]
    await turns()
    pool.retune(BulkheadConfig(max_concurrent=1))
    assert pool.machine.active == 3
    assert pool.available_slots() == 0
    gates[0].set()
    gates[1].set()
    await turns()
    assert pool.machine.active == 1
    assert pool.is_full()
    gates[2].set()
    await asyncio.gather(*running)
    assert pool.available_slots() == 1


async def test_growing_wakes_waiters_at_once():
    pool, gate = make(max_concurrent=1, max_waiting=3), asyncio.Event()
    running = [asyncio.create_task(held(pool, gate)) for _ in range(4)]
    await turns()
    pool.retune(BulkheadConfig(max_concurrent=4, max_waiting=3))
    await turns()
    assert pool.machine.active == 4
    gate.set()
    await asyncio.gather(*running)


async def test_re_entry_without_room_is_an_error_and_not_a_deadlock():
    pool = make(max_concurrent=1, max_waiting=1)

    async def outer():
        return await pool.execute(asyncio.sleep, 0)

    with pytest.raises(BulkheadFullError) as caught:
        await pool.execute(outer)
    assert caught.value.reason is BulkheadReason.REENTRANT
    assert pool.machine.active == 0


async def test_as_a_context_manager_it_takes_and_gives_back():
    pool = make(max_concurrent=1)
    async with pool:
        assert pool.is_full()
        with pytest.raises(BulkheadFullError):
            async with pool:
                pass
    assert pool.available_slots() == 1
    assert pool.get_metrics()["successful_requests"] == 1


async def test_as_a_context_manager_with_a_queue_it_knows_who_holds():
    pool = make(max_concurrent=2, max_waiting=2)
    async with pool, pool:
        assert pool.machine.active == 2
    assert pool.machine.active == 0
    assert pool._holders == {}


@pytest.mark.parametrize("waiting", [0, 3])
async def test_an_abandoned_async_generator_gives_its_place_back_though_another_task_closes_it(waiting):
    pool = make(max_concurrent=2, max_waiting=waiting)

    async def rows():
        async with pool:
            yield 1

    async with pool:
        left = rows()
        async for _ in left:
            break
        await asyncio.create_task(left.aclose())
        assert pool.machine.active == 1
    assert pool.machine.active == 0
    assert pool._entered == pool._holders == {}


@pytest.mark.parametrize("fields", [{"max_concurrent": 1}, {"max_concurrent": 1, "max_waiting": 3}])
async def test_cancelling_at_any_step_leaks_nothing(fields):
    pool = make(**fields)

    async def work():
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def contended():
        others = [asyncio.create_task(pool.execute(work)) for _ in range(2)]
        try:
            await pool.execute(work)
        finally:
            await asyncio.gather(*others, return_exceptions=True)

    def check():
        assert pool.machine.active == 0
        assert pool.machine.queue.waiting == 0
        assert pool._holders == {}

    results = await sweep(lambda: pool.execute(work), check)
    assert "swallowed" not in {result.outcome for result in results}
    await sweep(contended, check)


async def test_the_place_of_a_cancelled_plain_function_lasts_until_its_thread_ends():
    pool, gate, entered = make(max_concurrent=1), threading.Event(), threading.Event()

    def work():
        entered.set()
        gate.wait(60)

    task = asyncio.create_task(pool.execute(work))
    async with asyncio.timeout(15):
        while not entered.is_set():
            await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert pool.machine.active == 1
    gate.set()
    end = time.monotonic() + 15
    while pool.machine.active and time.monotonic() < end:
        await asyncio.sleep(0.001)
    assert pool.machine.active == 0


async def test_a_task_whose_thread_runs_on_holds_no_place_itself_and_may_queue():
    pool, ended = Bulkhead("db", BulkheadConfig(max_concurrent=1, max_waiting=1)), threading.Event()
    policy = Policy("p", [pool, TimeoutManager(TimeoutConfig(timeout=0.01))])
    with pytest.raises(OperationTimeoutError):
        await policy.call(ended.wait, 30)
    asyncio.get_running_loop().call_soon(ended.set)
    assert await pool.execute(asyncio.sleep, 0, "in") == "in"


async def test_a_place_that_comes_free_just_before_the_line_is_seen_goes_to_the_first_in_line(monkeypatch):
    pool, join = make(max_concurrent=1, max_waiting=1), WaitQueue.join
    assert pool.machine.try_take()

    def joined(queue, note=None):
        pool.machine.free += 1  # what a thread does that found nobody waiting
        return join(queue, note)

    monkeypatch.setattr(WaitQueue, "join", joined)
    assert await asyncio.wait_for(pool.execute(asyncio.sleep, 0, "in"), 5) == "in"


def test_eight_threads_with_loops_of_their_own_never_exceed_the_cap():
    pool = Bulkhead("db", BulkheadConfig(max_concurrent=5, max_waiting=1000))
    active, peak, lock, done = [0], [0], threading.Lock(), [0]

    async def work():
        with lock:
            active[0] += 1
            peak[0] = max(peak[0], active[0])
        await asyncio.sleep(0)
        with lock:
            active[0] -= 1
            done[0] += 1

    async def caller():
        for _ in range(20):
            await pool.execute(work)

    async def thread():
        await asyncio.gather(*(caller() for _ in range(5)))

    threads = [threading.Thread(target=lambda: asyncio.run(thread())) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert done[0] == 8 * 5 * 20
    assert peak[0] <= 5
    assert pool.machine.active == 0
    assert pool.machine.queue.waiting == 0


def test_a_grant_to_a_closed_loop_passes_on():
    pool = Bulkhead("db", BulkheadConfig(max_concurrent=1, max_waiting=2))
    assert pool.machine.try_take()
    dead = asyncio.new_event_loop()
    task = dead.create_task(pool.execute(asyncio.sleep, 0))
    dead.run_until_complete(asyncio.sleep(0))
    assert pool.machine.queue.waiting == 1
    dead.close()
    pool.machine.release()
    assert pool.machine.free == 1
    del task


async def test_events_tell_of_places_taken_given_back_and_refused():
    pool, seen = make(max_concurrent=1), []
    pool.events.on("*")(lambda event: seen.append(event.event_type))
    await pool.execute(asyncio.sleep, 0)
    async with pool:
        with pytest.raises(BulkheadFullError):
            await pool.execute(asyncio.sleep, 0)
    await turns()
    typed = [kind for kind in seen if kind is not EventType.DECISION]
    taken, given, full = EventType.SLOT_ACQUIRED, EventType.SLOT_RELEASED, EventType.BULKHEAD_FULL
    assert typed == [taken, given, taken, full, given]


async def test_metrics_carry_the_names_of_0_2():
    pool = make(max_concurrent=2)
    await pool.execute(asyncio.sleep, 0)
    assert set(pool.get_metrics()) == {
        "total_requests", "successful_requests", "rejected_requests", "current_active", "peak_active",
        "total_wait_time", "average_wait_time", "rejection_rate", "utilization",
    }  # fmt: skip
    pool.reset_metrics()
    assert pool.get_metrics()["total_requests"] == 0


async def test_named_bulkheads_are_made_once():
    registry = BulkheadRegistry()
    first = await registry.get_or_create("a", 3)
    assert await registry.get_or_create("a", 99) is first
    assert registry.get("b") is None
    assert set(registry.get_all_metrics()) == {"a"}
    registry.reset_all_metrics()
    assert (await get_bulkhead("process-wide", 2)).max_concurrent == 2
    assert "process-wide" in get_all_bulkhead_metrics()


async def test_decorators_keep_the_function_and_share_the_places():
    @bulkhead(1, name="one")
    async def work(x):
        "Says it."
        return x

    assert work.__name__ == "work"
    assert work.__doc__ == "Says it."
    assert await work(3) == 3
    assert with_bulkhead(work.bulkhead)(work).__wrapped__ is work


@pytest.mark.parametrize(
    "fields",
    [{"max_concurrent": 0}, {"max_concurrent": True}, {"max_concurrent": 1.5}, {"max_waiting": -1},
     {"timeout": -1}, {"timeout": float("nan")}, {"timeout": float("inf")}, {"unknown": 1}],
)  # fmt: skip
def test_senseless_numbers_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        BulkheadConfig(**fields)


class BulkheadModel(RuleBasedStateMachine):
    """The machine against two plain numbers and a list."""

    def __init__(self):
        super().__init__()
        self.machine = make(max_concurrent=3).machine
        self.limit, self.active = 3, 0

    @rule()
    def take(self):
        assert self.machine.try_take() == (self.active < self.limit)
        self.active += self.active < self.limit

    @rule()
    def give(self):
        if self.active:
            self.machine.release()
            self.active -= 1

    @rule(limit=st.integers(1, 6))
    def resize(self, limit):
        self.machine.resize(limit, 0)
        self.limit = limit

    @invariant()
    def agrees(self):
        assert self.machine.active == self.active
        assert self.machine.free == self.limit - self.active


TestBulkheadModel = BulkheadModel.TestCase
TestBulkheadModel.settings = settings(max_examples=50, deadline=None)
