"""Tasks that begin inside the call that makes them: `asyncio.eager_task_factory`, which CPython has from 3.12 on."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

import pytest

from aioresilience import Registry, current_deadline
from aioresilience.exceptions import BulkheadFullError, OperationTimeoutError, RejectionError
from aioresilience.scope import sleep
from aioresilience.testing import VirtualClock
from tests.contract.stacks import BOUNDS, EVERY, GUARDS, at_rest, fill, held, key_of, make, ok, turns
from tests.contract.test_cancel_sweep import ALONE, FIRST, NAMES, SECOND, Way, run

T = TypeVar("T")

if not hasattr(asyncio, "eager_task_factory"):
    pytest.skip("before CPython 3.12 every task begins with the loop's next turn", allow_module_level=True)

PATTERN = pytest.mark.parametrize("cls", EVERY, ids=key_of)
FIVE = """
version: 1
policies:
  p: {retry: 3, circuit_breaker: {window: 30s}, rate_limiter: 100/second, bulkhead: {max_concurrent: 1, max_waiting: 5},
      timeout: 5s, idempotent: true}
  guarded: {deadline: 8s, bulkhead: {max_concurrent: 1, max_waiting: 5}, timeout: 5s}
"""


@pytest.fixture(autouse=True)
async def eagerly():
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    yield
    loop.set_task_factory(None)


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def registry(clock):
    return Registry.from_text(FIVE, environ={}, clock=clock)


def begun(work: Coroutine[object, object, T]) -> asyncio.Task[T]:
    """Begin a task, and check that whoever begins it still is the running one."""
    here = asyncio.current_task()
    task = asyncio.create_task(work)
    assert asyncio.current_task() is here
    return task


@PATTERN
async def test_a_call_that_need_not_wait_has_ended_when_its_task_is_made(cls, clock):
    pattern = make(cls, clock)
    task = begun(pattern.execute(ok))
    assert task.done()
    assert task.result() == "ok"
    at_rest(pattern)


@pytest.mark.parametrize("cls", GUARDS, ids=key_of)
async def test_a_refusal_is_raised_into_the_task(cls, clock):
    pattern = make(cls, clock, **({"timeout": 0.0} if cls.key == "backpressure" else {}))
    tasks = await fill(pattern, clock)
    task = begun(pattern.execute(ok))
    await turns()
    assert isinstance(task.exception(), RejectionError)
    await clock.advance(5.0)
    await asyncio.gather(*tasks)
    at_rest(pattern)


@PATTERN
async def test_a_call_that_is_cancelled_at_once_gives_everything_back(cls, clock):
    pattern = make(cls, clock)
    task = begun(held(pattern, clock))
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    at_rest(pattern)


@pytest.mark.parametrize("cls", BOUNDS, ids=key_of)
async def test_a_bound_cuts_the_task_that_it_was_entered_in_and_no_other(cls, clock):
    """The inner one is begun by the outer one, in the midst of its own step, under one queue of timers."""
    pattern = make(cls, clock, timeout=3.0)
    inner = []

    async def outer():
        inner.append(begun(pattern.execute(sleep, 60.0, clock)))
        await sleep(1.0, clock)
        assert asyncio.current_task().cancelling() == 0
        return "through"

    task = begun(pattern.execute(outer))
    await clock.advance(1.0)
    assert task.result() == "through"
    await clock.advance(2.0)
    await turns()
    assert isinstance(inner[0].exception(), OperationTimeoutError)
    assert inner[0].cancelling() == 0
    at_rest(pattern)


async def test_a_deadline_is_inherited_and_left_where_it_was_set(clock, registry):
    guarded, seen = registry.get("guarded"), []

    async def look():
        seen.append(current_deadline())

    async def outer():
        begun(look())

    await guarded.call(outer)
    begun(guarded.call(look))
    assert seen == [clock.monotonic() + 8.0] * 2
    assert current_deadline() is None


async def turn(number, order, clock):
    await sleep(1.0, clock)
    order.append(number)
    return number


@pytest.mark.parametrize("entry", ["call", "bind", "decorator"])
async def test_calls_under_a_policy_of_five_wait_in_line(entry, clock, registry):
    policy, order = registry.get("p"), []
    call = {"call": lambda *args: policy.call(turn, *args), "decorator": policy(turn)}
    call["bind"] = lambda *args: policy.bind(key="k").call(turn, *args)
    tasks = [begun(call[entry](number, order, clock)) for number in range(4)]
    assert policy.bulkhead.status()["waiting"] == 3
    for _ in range(5):
        await clock.advance(1.0)
    assert [task.result() for task in tasks] == order == [0, 1, 2, 3]
    for pattern in policy.patterns:
        at_rest(pattern)


async def test_who_waits_is_passed_over_when_it_is_cancelled(clock, registry):
    policy, order = registry.get("p"), []
    first, second, third = [begun(policy.call(turn, number, order, clock)) for number in range(3)]
    second.cancel()
    for _ in range(3):
        await clock.advance(1.0)
    assert second.cancelled()
    assert [first.result(), third.result()] == order == [0, 2]


async def test_a_task_may_begin_others_under_the_policy_that_it_holds_but_not_enter_it_again(clock, registry):
    policy, others = registry.get("guarded"), []

    async def holder():
        others.append(begun(policy.call(ok)))  # another task: it waits
        with pytest.raises(BulkheadFullError):  # itself: it would wait for ever
            await policy.call(ok)

    async with policy.admit():
        assert policy.bulkhead.status()["active"] == 1
    await begun(policy.call(holder))
    assert await others[0] == "ok"
    for pattern in policy.patterns:
        at_rest(pattern)


async def test_a_handler_does_not_run_inside_the_call_that_emits(clock):
    pattern, heard = make(next(cls for cls in GUARDS if cls.key == "circuit_breaker"), clock), []

    async def handler(event):
        heard.append(event)

    pattern.events.add_handler("*", handler)
    pattern.force_open("by hand")
    task = begun(pattern.execute(ok))
    assert isinstance(task.exception(), RejectionError)
    assert heard == []
    await turns()
    assert heard


@pytest.mark.parametrize("name", NAMES)
async def test_cancelled_at_any_step_nothing_is_left(name):
    cancelled = 0
    for way in (Way(1, ALONE), Way(2, FIRST, True, True, "admit"), Way(1, SECOND, False, True, "fold")):
        step = 0
        while not await run((name,), step, way):
            step += 1
        cancelled += step
    assert cancelled
