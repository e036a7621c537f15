import asyncio
import contextvars
import threading

import pytest

from aioresilience.clock import SYSTEM_CLOCK
from aioresilience.exceptions import OperationTimeoutError, TimeoutReason
from aioresilience.scope import Timeline, current_deadline, cut_by, detached_deadline, sleep
from aioresilience.testing import VirtualClock
from aioresilience.timeout import Deadline, DeadlineConfig, DeadlineManager, TimeoutConfig, TimeoutManager
from aioresilience.timers import TimerQueue


def timeout(clock, seconds, **fields):
    return TimeoutManager(TimeoutConfig(timeout=seconds, **fields), clock=clock)


async def run(clock, awaitable, *steps):
    task = asyncio.ensure_future(awaitable)
    for step in steps:
        await clock.advance(step)
    done, _ = await asyncio.wait([task], timeout=5)
    assert done, "hangs"
    return task


async def test_a_call_that_takes_too_long_is_cut():
    clock = VirtualClock()
    task = await run(clock, timeout(clock, 2).execute(sleep, 5, clock), 1.9, 0.2)
    error = task.exception()
    assert isinstance(error, OperationTimeoutError)
    assert isinstance(error, TimeoutError)
    assert error.reason is TimeoutReason.TIMEOUT_EXCEEDED
    assert isinstance(error.__cause__, asyncio.CancelledError)
    assert clock.pending == 0


async def test_the_users_own_timeout_error_is_not_ours():
    async def work():
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine") as caught:
        await timeout(VirtualClock(), 2).execute(work)
    assert not isinstance(caught.value, OperationTimeoutError)


async def test_a_cancel_from_outside_is_never_swallowed():
    clock = VirtualClock()
    task = asyncio.create_task(timeout(clock, 2).execute(sleep, 5, clock))
    await clock.advance(1)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert clock.pending == 0


async def test_a_cancel_from_outside_in_the_tick_of_the_timeout_wins():
    clock = VirtualClock()
    task = asyncio.create_task(timeout(clock, 2).execute(sleep, 5, clock))
    await clock.advance(1)
    clock.move(1)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_the_inner_of_two_timeouts_cuts_only_its_own_part():
    clock = VirtualClock()

    async def outer():
        with pytest.raises(OperationTimeoutError):
            await timeout(clock, 1).execute(sleep, 5, clock)
        await sleep(1, clock)
        return "went on"

    task = await run(clock, timeout(clock, 3).execute(outer), 1, 1)
    assert task.result() == "went on"


async def test_two_timeouts_of_one_instant_end_as_the_outer_one():
    clock = VirtualClock()
    inner, outer = timeout(clock, 1), timeout(clock, 1)

    async def work():
        await inner.execute(sleep, 5, clock)

    task = await run(clock, outer.execute(work), 1)
    assert isinstance(task.exception(), OperationTimeoutError)
    assert task.exception().pattern_name == outer.name


async def test_without_raising_an_overrun_gives_none():
    clock = VirtualClock()
    task = await run(clock, timeout(clock, 1, raise_on_timeout=False).execute(sleep, 5, clock), 1)
    assert task.result() is None


async def test_a_stalled_loop_grants_what_is_done_a_moment():
    clock, gate = VirtualClock(), asyncio.Event()
    task = asyncio.create_task(timeout(clock, 1).execute(gate.wait))
    await clock.advance(0.5)
    clock.stall(1.0)
    gate.set()
    clock.move(0.0)
    await clock.advance(0.0)
    assert task.result() is True


async def test_what_expires_after_a_stall_is_neutral():
    clock = VirtualClock()
    task = asyncio.create_task(timeout(clock, 1).execute(asyncio.Event().wait))
    await clock.advance(0.5)
    clock.stall(1.0)
    await clock.advance(0.1)
    assert task.exception().neutral is True


async def test_a_timeout_that_is_hardly_late_counts():
    clock = VirtualClock()
    task = asyncio.create_task(timeout(clock, 1).execute(asyncio.Event().wait))
    await clock.advance(0.5)
    clock.stall(0.55)
    await clock.advance(0.0)
    assert task.exception().neutral is False


async def test_a_deadline_is_visible_and_the_nearer_wins():
    clock, seen = VirtualClock(), []
    outer, inner = (Deadline(DeadlineConfig(timeout=t), clock=clock) for t in (5, 9))

    async def look():
        seen.append(current_deadline())

    await outer.execute(inner.execute, look)
    assert seen == [clock.monotonic() + 5]
    assert current_deadline() is None


async def test_detached_work_has_no_deadline():
    clock = VirtualClock()

    async def look():
        with detached_deadline():
            return current_deadline()

    assert await Deadline(DeadlineConfig(timeout=5), clock=clock).execute(look) is None


async def test_a_deadline_that_has_passed_refuses_before_the_function_starts():
    clock, called = VirtualClock(), []

    async def work():
        called.append(1)

    async def late():
        clock.stall(6)
        await Deadline(DeadlineConfig(timeout=9), clock=clock).execute(work)

    with pytest.raises(OperationTimeoutError) as caught:
        await Deadline(DeadlineConfig(timeout=5), clock=clock).execute(late)
    assert called == []
    assert caught.value.neutral


async def test_a_deadline_that_has_passed_says_when():
    clock = VirtualClock()
    manager = DeadlineManager(clock.wall() - 3, name="export", clock=clock)
    with pytest.raises(OperationTimeoutError, match="deadline passed 3 s before the call in 'export'"):
        await manager.execute(sleep, 1, clock)


async def test_guards_inside_can_tell_our_cut_from_a_foreign_cancel():
    clock, seen = VirtualClock(), []

    async def work():
        try:
            await sleep(9, clock)
        except asyncio.CancelledError:
            seen.append(cut_by() is not None)
            raise

    await run(clock, timeout(clock, 1).execute(work), 1)
    task = asyncio.create_task(timeout(clock, 1).execute(work))
    await clock.advance(0.5)
    task.cancel()
    await asyncio.wait([task])
    assert seen == [True, False]


async def test_a_background_task_does_not_take_a_later_cancel_for_our_cut():
    clock, seen, background = VirtualClock(), [], []

    async def forever():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append(cut_by())
            raise

    async def work():
        background.append(asyncio.create_task(forever()))
        await sleep(9, clock)

    await run(clock, timeout(clock, 1).execute(work), 1)
    background[0].cancel()
    await asyncio.wait(background)
    assert seen == [None]


async def test_sleep_leaves_no_timer_when_cancelled():
    clock = VirtualClock()
    task = asyncio.create_task(sleep(5, clock))
    await clock.advance(1)
    task.cancel()
    await asyncio.wait([task])
    assert clock.pending == 0
    await sleep(0, clock)
    await sleep(0.001)


async def test_a_scope_that_is_left_in_another_context_leaves_no_deadline_behind():
    scope = Timeline(clock=SYSTEM_CLOCK, is_deadline=True).open(60.0)
    assert current_deadline() is not None
    contextvars.copy_context().run(scope.leave, None)
    assert current_deadline() is None


async def test_a_thread_that_comes_in_between_with_its_own_loop_changes_no_queue(monkeypatch):
    line, asked = Timeline(clock=SYSTEM_CLOCK), TimerQueue.task

    async def elsewhere():
        line.open(1.0).leave(None)

    def interrupted(queue):
        found = asked(queue)
        if threading.current_thread() is threading.main_thread():
            thread = threading.Thread(target=asyncio.run, args=(elsewhere(),))
            thread.start()
            thread.join()
        return found

    scope = line.open(1.0)
    monkeypatch.setattr(TimerQueue, "task", interrupted)
    queue, task = line.here()
    assert queue is line.queue(asyncio.get_running_loop())
    assert task is asyncio.current_task()
    scope.leave(None)


async def test_a_scope_needs_a_running_task():
    raised = asyncio.Event()

    def enter():
        try:
            Timeline(clock=SYSTEM_CLOCK).open(1.0)
        except RuntimeError:
            raised.set()

    asyncio.get_running_loop().call_soon(enter)
    await asyncio.wait_for(raised.wait(), 1)
