import asyncio
import itertools

import pytest

from aioresilience.bulkhead import Bulkhead, BulkheadConfig
from aioresilience.calls import ANYONE, Call, Caller, invoker
from aioresilience.clock import SYSTEM_CLOCK
from aioresilience.events import EventType
from aioresilience.exceptions import BulkheadFullError, ExceptionConfig
from aioresilience.modes import Gradual, draw
from aioresilience.pattern import Context


def handler(pool, **context):
    return pool.wrap(invoker(SYSTEM_CLOCK), Context(**context))


def call(func, caller=ANYONE):
    return Call(func, (), {}, caller)


async def nothing():
    return "done"


async def test_observe_lets_through_what_enforcing_would_refuse_and_charges_nothing():
    pool = Bulkhead("x", BulkheadConfig(max_concurrent=1))
    run = handler(pool, mode="observe")
    assert pool.machine.try_take()
    assert await run(call(nothing)) == "done"
    assert pool.counts.observed == 1
    assert pool.counts.started == 0
    assert pool.machine.active == 1


async def test_observe_charges_what_it_admits_exactly_as_enforcing_would():
    pool = Bulkhead("x", BulkheadConfig(max_concurrent=1))
    run = handler(pool, mode="observe")

    async def look():
        return pool.machine.active

    assert await run(call(look)) == 1
    assert pool.machine.active == 0
    assert pool.counts.observed == 0


async def test_observe_never_waits():
    pool = Bulkhead("x", BulkheadConfig(max_concurrent=1, max_waiting=5))
    run = handler(pool, mode="observe")
    assert pool.machine.try_take()
    coroutine = run(call(nothing))
    with pytest.raises(StopIteration):
        coroutine.send(None)
    assert pool.machine.queue.waiting == 0


async def test_off_leaves_the_pattern_out():
    pool = Bulkhead("x", BulkheadConfig(max_concurrent=1))
    assert pool.machine.try_take()
    assert await handler(pool, mode="off")(call(nothing)) == "done"
    assert pool.counts.started == pool.counts.observed == 0


async def test_the_patterns_own_mode_wins_over_the_policys():
    pool = Bulkhead("x", BulkheadConfig(max_concurrent=1, mode="enforce"))
    assert pool.machine.try_take()
    with pytest.raises(BulkheadFullError):
        await handler(pool, mode="observe")(call(nothing))


async def test_the_policys_word_on_one_pattern_wins_over_all():
    pool = Bulkhead("x", BulkheadConfig(max_concurrent=1, mode="enforce"))
    assert pool.machine.try_take()
    assert await handler(pool, modes={"bulkhead": "off"})(call(nothing)) == "done"


async def test_a_gradual_mode_enforces_its_share_of_the_calls():
    pool = Bulkhead("x", BulkheadConfig(max_concurrent=1))
    run = handler(pool, mode=Gradual(enforce=0.1))
    assert pool.machine.try_take()
    refused = 0
    for _ in range(1000):
        try:
            await run(call(nothing))
        except BulkheadFullError:
            refused += 1
    assert abs(refused - 100) <= 2
    assert pool.counts.observed == 1000 - refused


async def test_a_gradual_mode_treats_one_key_always_alike():
    pool = Bulkhead("x", BulkheadConfig(max_concurrent=1))
    run = handler(pool, mode=Gradual(enforce="50%"))
    assert pool.machine.try_take()

    async def refused(key):
        try:
            await run(call(nothing, Caller(key)))
        except BulkheadFullError:
            return True
        return False

    verdicts = [{await refused(key) for key in (number, str(number), str(number))} for number in range(20)]
    assert all(len(verdict) == 1 for verdict in verdicts)
    assert {True} in verdicts
    assert {False} in verdicts


def test_draws_are_spread_evenly_and_keys_draw_alike_in_every_process():
    turns = itertools.count(1)
    drawn = [draw(None, turns) for _ in range(1000)]
    assert abs(sum(value < 0.25 for value in drawn) - 250) <= 2
    assert draw("user-7", turns) == draw("user-7", itertools.count(5)) == 0x9745E321 / 2**32


async def test_counts_reconcile():
    pool = Bulkhead("x", BulkheadConfig(max_concurrent=2))

    async def fail():
        raise LookupError

    await pool.execute(nothing)
    with pytest.raises(LookupError):
        await pool.execute(fail)
    task = asyncio.create_task(pool.execute(asyncio.Event().wait))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    counts = pool.counts
    assert (counts.started, counts.succeeded, counts.failed, counts.neutral) == (3, 1, 1, 1)
    assert sum(counts.rejected.values()) == 0


async def test_a_rejection_says_who_and_why_and_pickles():
    import pickle

    pool = Bulkhead("x", BulkheadConfig(max_concurrent=1))
    pool.policy = "payments"
    assert pool.machine.try_take()
    with pytest.raises(BulkheadFullError) as caught:
        await pool.execute(nothing)
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.policy, error.pattern_name, error.pattern_type) == ("payments", "x", "bulkhead")
    assert error.reason.name == "CAPACITY_FULL"
    assert pool.counts.rejected["CAPACITY_FULL"] == 1


async def test_a_callback_learns_of_a_rejection_and_may_replace_it():
    seen = []

    class Busy(Exception):
        pass

    async def note(context):
        await asyncio.sleep(0)
        seen.append(context.reason.name)

    config = ExceptionConfig(on_exception=note, exception_type=Busy)
    pool = Bulkhead("x", BulkheadConfig(max_concurrent=1), config)
    assert pool.machine.try_take()
    with pytest.raises(Busy) as caught:
        await pool.execute(nothing)
    assert seen == ["CAPACITY_FULL"]
    assert isinstance(caught.value.__cause__, BulkheadFullError)


async def test_a_decision_is_told_with_policy_reason_and_wait():
    pool = Bulkhead("x", BulkheadConfig(max_concurrent=1, max_waiting=1))
    pool.policy = "payments"
    decisions, gate = [], asyncio.Event()
    pool.events.on(EventType.DECISION)(lambda event: decisions.append((event.policy, event.action, event.reason)))
    tasks = [asyncio.create_task(pool.execute(gate.wait)) for _ in range(3)]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.wait(tasks)
    await asyncio.sleep(0)
    assert sorted(decisions, key=str) == [("payments", "delayed", None), ("payments", "rejected", "QUEUE_FULL")]
    assert [str(task.exception()) for task in tasks if task.exception()]


@pytest.mark.parametrize("broken", ["raises", "hangs", "unsubscribes", "re-enters"])
async def test_a_broken_handler_cannot_hurt_a_call(broken):
    pool = Bulkhead("x", BulkheadConfig(max_concurrent=1))

    async def handler(event):
        if broken == "raises":
            raise ValueError("handler")
        if broken == "hangs":
            await asyncio.Event().wait()
        if broken == "unsubscribes":
            pool.events.remove_handler("*", handler)
        if broken == "re-enters" and pool.counts.started < 5:
            await pool.execute(nothing)

    pool.events.add_handler("*", handler)
    for _ in range(3):
        assert await asyncio.wait_for(pool.execute(nothing), 1) == "done"
        await asyncio.sleep(0)
    pool.events.clear()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def test_config_fields_are_read_on_the_instance():
    pool = Bulkhead("x", BulkheadConfig(max_concurrent=7))
    assert pool.max_concurrent == 7
    with pytest.raises(AttributeError, match="nonsense"):
        _ = pool.nonsense


def test_a_pattern_without_a_name_gets_a_readable_one():
    assert Bulkhead(None).name.startswith("bulkhead-")
