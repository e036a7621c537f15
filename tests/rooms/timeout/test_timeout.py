"""Timeout and deadline under the names of 0.2; how a scope cuts is proven in tests/engine/test_scope.py."""

import asyncio
import inspect

import pytest

from aioresilience.exceptions import ExceptionConfig, OperationTimeoutError, TimeoutReason
from aioresilience.scope import current_deadline, sleep
from aioresilience.testing import EventLog, VirtualClock
from aioresilience.timeout import (
    DeadlineConfig,
    DeadlineManager,
    TimeoutConfig,
    TimeoutManager,
    timeout,
    with_deadline,
    with_timeout,
    with_timeout_manager,
)


@pytest.fixture
def clock():
    return VirtualClock()


async def nothing():
    return "done"


async def cut(clock, manager, seconds=5.0):
    task = asyncio.create_task(manager.execute(sleep, 60, clock))
    await clock.advance(seconds)
    return task.exception() if not task.cancelled() else None


def test_the_defaults_are_those_of_0_2():
    assert TimeoutManager().timeout == 30.0
    assert TimeoutManager().raise_on_timeout is True


@pytest.mark.parametrize("kind", [TimeoutConfig, DeadlineConfig])
@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), True, "soon", None])
def test_a_senseless_time_is_refused(kind, seconds):
    with pytest.raises(ValueError, match="timeout"):
        kind(timeout=seconds)


async def test_metrics_carry_the_names_of_0_2(clock):
    manager = TimeoutManager(TimeoutConfig(timeout=2), clock=clock)
    await manager.execute(nothing)
    await cut(clock, manager)
    metrics = manager.get_metrics()
    assert metrics == {
        "total_executions": 2,
        "successful_executions": 1,
        "timed_out_executions": 1,
        "total_execution_time": pytest.approx(2.0),
        "average_execution_time": pytest.approx(1.0),
        "timeout_rate": 0.5,
    }
    assert manager.metrics.to_dict()["timed_out_executions"] == manager.status()["timed_out"] == 1
    manager.reset_metrics()
    assert manager.get_metrics()["total_executions"] == 0
    assert manager.get_metrics()["timeout_rate"] == 0.0


async def test_events_tell_of_both_ends(clock):
    manager = TimeoutManager(TimeoutConfig(timeout=2), name="slow", clock=clock)
    with EventLog() as log:
        await manager.execute(nothing)
        await cut(clock, manager)
        (overrun,) = await log.wait_for("timeout_occurred")
        assert overrun.timeout_value == 2
        assert overrun.elapsed == pytest.approx(2)
        assert len(log.of("timeout_success")) == 1


async def test_a_stalled_loop_is_an_event_and_neutral(clock):
    manager = TimeoutManager(TimeoutConfig(timeout=1), clock=clock)
    with EventLog() as log:
        task = asyncio.create_task(manager.execute(asyncio.Event().wait))
        await clock.advance(0.5)
        clock.stall(1)
        await clock.advance(0.1)
        (stalled,) = await log.wait_for("loop_stalled")
    assert stalled.elapsed == pytest.approx(0.5)
    assert task.exception().neutral


async def test_observe_reports_an_overrun_and_cuts_nothing(clock):
    manager = TimeoutManager(TimeoutConfig(timeout=1, mode="observe"), clock=clock)
    with EventLog() as log:
        task = asyncio.create_task(manager.execute(sleep, 3, clock))
        await clock.advance(4)
        assert task.result() is None
        (decision,) = await log.wait_for("decision")
    assert decision.action == "would_cut"
    assert manager.counts.observed == 1
    assert manager.counts.succeeded == 1
    task = asyncio.create_task(manager.execute(sleep, 3, clock))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert manager.counts.neutral == 1


async def test_the_exception_config_has_its_say(clock):
    seen = []

    class Late(Exception):
        pass

    config = ExceptionConfig(on_exception=lambda context: seen.append(context.reason), exception_type=Late)
    error = await cut(clock, TimeoutManager(TimeoutConfig(timeout=2), config, clock=clock))
    assert isinstance(error, Late)
    assert isinstance(error.__cause__, OperationTimeoutError)
    assert seen == [TimeoutReason.TIMEOUT_EXCEEDED]


async def test_a_retuned_timeout_holds_from_the_next_call_on(clock):
    manager = TimeoutManager(TimeoutConfig(timeout=2), clock=clock)
    task = asyncio.create_task(manager.execute(sleep, 3, clock))
    await asyncio.sleep(0)
    manager.retune(TimeoutConfig(timeout=10))
    await clock.advance(2)
    assert isinstance(task.exception(), OperationTimeoutError)
    task = asyncio.create_task(manager.execute(sleep, 3, clock))
    await clock.advance(4)
    assert task.exception() is None


async def test_a_shorter_scope_behind_a_longer_one_ends_first(clock):
    manager = DeadlineManager(clock.wall() + 9, clock=clock)
    early = DeadlineManager(clock.wall() + 2, clock=clock)

    async def nested():
        await early.execute(sleep, 60, clock)

    task = asyncio.create_task(manager.execute(nested))
    await clock.advance(2)
    assert task.exception().pattern_name == early.name


async def test_many_calls_of_one_timeout_share_one_timer(clock):
    manager = TimeoutManager(TimeoutConfig(timeout=2), clock=clock)
    tasks = [asyncio.create_task(manager.execute(sleep, 60, clock)) for _ in range(100)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert clock.pending == 101, "a hundred sleeps and one timer"
    await clock.advance(2)
    assert all(isinstance(task.exception(), OperationTimeoutError) for task in tasks)
    assert clock.pending == 0


async def test_a_deadline_manager_counts_from_the_wall_clock_once(clock):
    manager = DeadlineManager(clock.wall() + 5, clock=clock)
    assert manager.time_remaining() == pytest.approx(5)
    clock.jump_wall(-3600)
    assert manager.time_remaining() == pytest.approx(5)
    await clock.advance(5)
    assert manager.is_expired()
    assert manager.time_remaining() == 0.0


async def test_a_passed_deadline_raises_or_gives_none(clock):
    called = []
    with pytest.raises(OperationTimeoutError) as caught:
        await DeadlineManager(clock.wall() - 1, clock=clock).execute(called.append, 1)
    assert caught.value.reason is TimeoutReason.DEADLINE_EXCEEDED
    assert caught.value.pattern_type == "deadline"
    assert await DeadlineManager(clock.wall() - 1, raise_on_deadline=False, clock=clock).execute(nothing) is None
    assert called == []


async def test_a_deadline_managers_callback_is_told(clock):
    seen = []
    manager = DeadlineManager(clock.wall() + 1, on_deadline_exceeded=lambda c: seen.append(c.reason), clock=clock)
    await cut(clock, manager)
    assert seen == [TimeoutReason.DEADLINE_EXCEEDED]


async def test_the_decorator_bounds_and_keeps_the_function():
    @timeout(5)
    async def work(value: int) -> int:
        """Say it."""
        return value

    assert await work(3) == 3
    assert work.__doc__ == "Say it."
    assert inspect.iscoroutinefunction(work)
    assert await with_timeout_manager(TimeoutManager())(nothing)() == "done"
    with pytest.raises(TypeError, match="async"):
        timeout(5)(lambda: 1)


async def test_with_timeout_takes_a_function_or_a_coroutine():
    assert await with_timeout(nothing, 5) == "done"
    assert await with_timeout(nothing(), 5) == "done"
    with pytest.raises(OperationTimeoutError):
        await with_timeout(asyncio.Event().wait(), 0.001)


async def test_with_deadline_takes_a_function_or_a_coroutine_and_is_inherited():
    import time

    async def left():
        return current_deadline() - time.monotonic()

    assert await with_deadline(left, time.time() + 100) == pytest.approx(100, abs=20)
    assert await with_deadline(nothing(), time.time() + 5) == "done"
    with pytest.raises(OperationTimeoutError):
        await with_deadline(asyncio.Event().wait, time.time() + 0.001)


async def test_a_coroutine_that_is_too_late_to_run_is_closed_without_a_warning():
    import time

    with pytest.raises(OperationTimeoutError):
        await with_deadline(nothing(), time.time() - 1)
