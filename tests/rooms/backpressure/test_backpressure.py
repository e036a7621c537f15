import asyncio
import functools
import inspect
import json
import pickle
import threading

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pydantic import ValidationError

from aioresilience.backpressure import (
    BackpressureConfig,
    BackpressureError,
    BackpressureMachine,
    BackpressureManager,
    BackpressureReason,
    with_backpressure,
)
from aioresilience.calls import ANYONE
from aioresilience.events import EventType
from aioresilience.exceptions import ExceptionConfig
from aioresilience.failures import SUCCESS
from aioresilience.testing import VirtualClock
from tests.sweep import sweep


def make(max_pending=10, high=4, low=1, clock=None, exceptions=None, **fields):
    config = BackpressureConfig(max_pending=max_pending, high_water_mark=high, low_water_mark=low, **fields)
    return BackpressureManager(config, exceptions, name="jobs", clock=clock or VirtualClock())


async def turns(n=5):
    for _ in range(n):
        await asyncio.sleep(0)


async def fill(pressure, count=4):
    for _ in range(count):
        assert await pressure.acquire()


def waiters(pressure, count):
    return [asyncio.create_task(pressure.acquire()) for _ in range(count)]


async def finish(tasks):
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


# --- the marks


async def test_it_becomes_active_at_the_high_mark():
    pressure = make(high=3)
    await fill(pressure, 2)
    assert not pressure.backpressure_active
    await fill(pressure, 1)
    assert pressure.backpressure_active
    assert pressure.should_apply_backpressure


async def test_between_the_marks_it_stays_as_it_was():
    pressure = make(high=4, low=1)
    await fill(pressure, 3)
    assert not pressure.backpressure_active
    await fill(pressure, 1)
    await pressure.release()
    await pressure.release()
    assert pressure.pending_count == 2
    assert pressure.backpressure_active
    await pressure.release()
    assert not pressure.backpressure_active


async def test_while_it_is_active_new_calls_wait():
    pressure = make()
    await fill(pressure)
    (waiter,) = waiters(pressure, 1)
    await turns()
    assert not waiter.done()
    assert pressure.pending_count == 4
    for _ in range(3):
        await pressure.release()
    assert await waiter


async def test_on_relief_waiters_come_two_for_each_call_that_ends():
    pressure = make(max_pending=50, high=10, low=2)
    await fill(pressure, 10)
    tasks = waiters(pressure, 20)
    await turns()
    admitted = []
    for _ in range(14):
        await pressure.release()
        await turns()
        admitted.append(sum(task.done() for task in tasks))
    assert admitted[:8] == [0, 0, 0, 0, 0, 0, 0, 2]
    assert admitted[8:] == [4, 6, 8, 10, 12, 14]
    assert pressure.pending_count <= 10
    await finish(tasks)


async def test_waiters_never_push_past_the_high_mark_which_stops_them_again():
    pressure = make(max_pending=100, high=5, low=2)
    await fill(pressure, 5)
    tasks = waiters(pressure, 50)
    await turns()
    stops = 0
    for _ in range(60):
        before = pressure.backpressure_active
        await pressure.release()
        await turns()
        stops += pressure.backpressure_active and not before
        assert pressure.pending_count <= 5
    assert stops > 3
    assert all(task.done() for task in tasks)


async def test_waiters_go_in_order_and_newcomers_behind_them():
    pressure, order = make(max_pending=20, high=3, low=1), []

    async def enter(name):
        await pressure.acquire()
        order.append(name)

    await fill(pressure, 3)
    tasks = [asyncio.create_task(enter(n)) for n in range(4)]
    await turns()
    await pressure.release()
    await pressure.release()
    tasks.append(asyncio.create_task(enter("newcomer")))
    for _ in range(6):
        await turns()
        await pressure.release()
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2, 3, "newcomer"]


async def test_everyone_gets_through_in_the_end():
    pressure = make(max_pending=1000, high=8, low=0)
    done = []

    async def work(n):
        await asyncio.sleep(0)
        done.append(n)

    await asyncio.gather(*(pressure.execute(work, n) for n in range(300)))
    assert sorted(done) == list(range(300))
    assert pressure.pending_count == pressure.machine.queue.waiting == 0


# --- refusals


async def test_past_max_pending_a_call_is_refused_at_once():
    pressure = make(max_pending=5, high=4)
    await fill(pressure)
    tasks = waiters(pressure, 1)
    await turns()
    assert pressure.is_overloaded
    with pytest.raises(BackpressureError) as caught:
        await pressure.execute(asyncio.sleep, 0)
    error = caught.value
    assert error.reason is BackpressureReason.SYSTEM_OVERLOADED
    assert error.metadata == {"waited": 0.0, "pending_count": 4, "waiting_count": 1}
    assert (error.pattern_name, error.pattern_type) == ("jobs", "backpressure")
    assert "without a wait" in str(error)
    await finish(tasks)


async def test_the_error_after_a_wait_names_the_wait():
    clock = VirtualClock()
    pressure = make(clock=clock, timeout=2.0)
    await fill(pressure)
    task = asyncio.create_task(pressure.execute(asyncio.sleep, 0))
    await clock.advance(1.9)
    assert not task.done()
    await clock.advance(0.2)
    error = task.exception()
    assert error.reason is BackpressureReason.TIMEOUT_ACQUIRING
    assert error.metadata["waited"] == pytest.approx(2.0)
    assert "wait of 2 s" in str(error)
    assert pickle.loads(pickle.dumps(error)).metadata == error.metadata
    assert clock.pending == 0
    assert pressure.machine.queue.waiting == 0


async def test_a_timeout_of_zero_does_not_wait():
    pressure = make(timeout=0)
    await fill(pressure)
    assert not pressure.waits
    with pytest.raises(BackpressureError):
        await pressure.execute(asyncio.sleep, 0)


async def test_acquire_waits_as_long_as_it_is_told():
    clock = VirtualClock()
    pressure = make(clock=clock)
    await fill(pressure)
    task = asyncio.create_task(pressure.acquire(timeout=0.5))
    await clock.advance(0.4)
    assert not task.done()
    await clock.advance(0.2)
    assert task.result() is False
    assert pressure.total_rejected == 1
    assert clock.pending == 0


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), True])
async def test_acquire_refuses_what_is_no_duration(timeout):
    with pytest.raises(ValueError, match="not a duration"):
        await make().acquire(timeout=timeout)


async def test_a_refused_call_takes_nothing():
    pressure = make()
    await fill(pressure)
    assert pressure.admit(ANYONE) is None
    assert (pressure.pending_count, pressure.machine.queue.waiting) == (4, 0)


async def test_counts_reconcile():
    pressure = make(max_pending=4)
    await fill(pressure)
    assert not await pressure.acquire()
    await pressure.release()
    counts = pressure.counts
    assert (counts.started, counts.succeeded, counts.failed, counts.neutral) == (1, 1, 0, 0)
    assert counts.rejected == {"SYSTEM_OVERLOADED": 1, "TIMEOUT_ACQUIRING": 0}


async def test_a_callback_hears_of_a_refusal_and_acquire_still_returns_false():
    heard = []
    pressure = make(max_pending=4, exceptions=ExceptionConfig(exception_type=KeyError, on_exception=heard.append))
    await fill(pressure)
    assert await pressure.acquire() is False
    assert [context.reason for context in heard] == [BackpressureReason.SYSTEM_OVERLOADED]


# --- cancellation


async def test_a_cancelled_waiter_leaves_no_place_and_no_timer_behind():
    clock = VirtualClock()
    pressure = make(clock=clock, timeout=5.0)
    await fill(pressure)

    def check():
        assert pressure.machine.queue.waiting == 0
        assert pressure.pending_count == 4
        assert clock.pending == 0

    await sweep(lambda: pressure.execute(asyncio.sleep, 0), check, steps=4)


async def test_a_cancelled_call_gives_its_place_back():
    pressure = make()

    async def work():
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def check():
        assert pressure.pending_count == 0

    results = await sweep(lambda: pressure.execute(work), check)
    assert {result.outcome for result in results} == {"cancelled", "finished"}


async def test_a_waiter_cancelled_in_the_tick_it_is_let_in_passes_the_place_on():
    pressure = make(high=1, low=0)
    await fill(pressure, 1)
    first, second = waiters(pressure, 2)
    await turns()
    await pressure.release()
    first.cancel()
    await turns()
    assert first.cancelled()
    assert await second
    await pressure.release()
    assert pressure.pending_count == 0


async def test_contended_cancels_leak_nothing():
    pressure = make(max_pending=100, high=2, low=1)

    async def contended():
        others = [asyncio.create_task(pressure.execute(asyncio.sleep, 0)) for _ in range(4)]
        try:
            await pressure.execute(asyncio.sleep, 0)
        finally:
            await asyncio.gather(*others)

    def check():
        pass

    async def settle():
        await turns(30)
        assert (pressure.pending_count, pressure.machine.queue.waiting) == (0, 0)

    await sweep(contended, check, settle=settle)


# --- threads and loops


def test_threads_together_never_pass_the_high_mark():
    pressure = make(max_pending=100, high=6, low=2)
    inside, most, lock, barrier = 0, 0, threading.Lock(), threading.Barrier(8)

    def work():
        nonlocal inside, most
        barrier.wait()
        for _ in range(3000):
            if pressure.admit(ANYONE) is None:
                continue
            with lock:
                inside += 1
                most = max(most, inside)
            with lock:
                inside -= 1
            pressure.settle(object(), SUCCESS, None)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most <= 6
    assert pressure.pending_count == 0
    assert not pressure.backpressure_active


def test_waiters_on_several_loops_all_come_through():
    pressure = BackpressureManager(BackpressureConfig(max_pending=500, high_water_mark=4, low_water_mark=1))
    done, inside, most, lock = [], 0, 0, threading.Lock()

    async def work(n):
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        await asyncio.sleep(0)
        with lock:
            inside -= 1
        done.append(n)

    async def many():
        await asyncio.gather(*(pressure.execute(work, n) for n in range(50)))

    threads = [threading.Thread(target=lambda: asyncio.run(many())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(done) == 400
    assert most <= 4
    assert (pressure.pending_count, pressure.machine.queue.waiting) == (0, 0)


def test_waiters_of_a_closed_loop_are_passed_over():
    pressure = make(high=1, low=0)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(fill(pressure, 1))
    waiting = loop.create_task(pressure.acquire())
    loop.run_until_complete(turns())
    assert pressure.machine.queue.waiting == 1
    waiting._log_destroy_pending = False
    loop.close()
    asyncio.run(pressure.release())
    assert pressure.pending_count == 0
    assert asyncio.run(pressure.acquire())


def test_without_a_gil_every_step_takes_the_lock(monkeypatch):
    monkeypatch.setattr("aioresilience.backpressure.machine._GIL", False)
    pressure = make(high=1, low=0)
    assert pressure.admit(ANYONE)
    assert pressure.admit(ANYONE) is None
    pressure.settle(object(), SUCCESS, None)
    assert pressure.pending_count == 0


# --- living


async def test_retuning_to_a_lower_low_mark_keeps_who_waits():
    pressure = make(max_pending=20, high=4, low=2)
    await fill(pressure)
    tasks = waiters(pressure, 3)
    await turns()
    pressure.retune(BackpressureConfig(max_pending=20, high_water_mark=8, low_water_mark=1))
    await turns()
    assert pressure.machine.queue.waiting == 3
    assert pressure.backpressure_active
    await finish(tasks)


async def test_retuning_the_low_mark_above_what_is_pending_relieves():
    pressure = make(max_pending=20, high=4, low=1)
    await fill(pressure)
    tasks = waiters(pressure, 3)
    await turns()
    pressure.retune(BackpressureConfig(max_pending=20, high_water_mark=10, low_water_mark=5))
    await turns()
    assert sum(task.done() for task in tasks) == 2
    await pressure.release()
    await turns()
    assert all(task.done() for task in tasks)


async def test_retuning_the_high_mark_below_what_is_pending_applies_backpressure():
    pressure = make(high=4)
    await fill(pressure, 3)
    pressure.retune(BackpressureConfig(max_pending=10, high_water_mark=2, low_water_mark=1))
    assert pressure.backpressure_active


async def test_a_waiter_keeps_its_own_deadline_over_a_retune():
    clock = VirtualClock()
    pressure = make(clock=clock, timeout=1.0)
    await fill(pressure)
    task = asyncio.create_task(pressure.acquire())
    await turns()
    pressure.retune(BackpressureConfig(max_pending=10, high_water_mark=4, low_water_mark=1, timeout=60.0))
    await clock.advance(1.0)
    assert task.result() is False


async def test_applied_and_relieved_are_events_in_order():
    pressure, heard = make(high=2, low=1), []
    pressure.events.add_handler(EventType.BACKPRESSURE_APPLIED, heard.append)
    pressure.events.add_handler("backpressure_relieved", heard.append)
    for _ in range(3):
        await fill(pressure, 2)
        await pressure.release()
        await pressure.release()
    await turns()
    kinds = [event.event_type for event in heard]
    assert kinds == [EventType.BACKPRESSURE_APPLIED, EventType.BACKPRESSURE_RELIEVED] * 3


async def test_a_wait_is_told_with_its_length():
    clock, heard = VirtualClock(), []
    pressure = make(clock=clock, high=1, low=0)
    pressure.events.add_handler("decision", heard.append)
    await fill(pressure, 1)
    (task,) = waiters(pressure, 1)
    await clock.advance(3.0)
    await pressure.release()
    await task
    await turns()
    assert [(event.action, event.waited) for event in heard] == [("delayed", 3.0)]


async def test_observed_calls_neither_wait_nor_are_charged():
    pressure = make(high=1, low=0, mode="observe")
    assert await pressure.acquire()
    assert await pressure.acquire()
    assert pressure.pending_count == 1
    assert pressure.counts.observed == 1
    await pressure.release()
    await pressure.release()
    assert pressure.pending_count == 0


async def test_status_fits_json():
    pressure = make()
    await fill(pressure)
    status = json.loads(json.dumps(pressure.status()))
    assert (status["active"], status["pending"], status["waiting"]) == (True, 4, 0)


# --- 0.2


def test_the_defaults_are_those_of_0_2():
    config = BackpressureConfig()
    assert (config.max_pending, config.high_water_mark, config.low_water_mark) == (1000, 800, 200)
    assert config.timeout is None
    assert list(inspect.signature(BackpressureManager).parameters)[:2] == ["config", "exceptions"]
    assert list(inspect.signature(with_backpressure).parameters) == ["backpressure", "timeout"]
    assert BackpressureManager().high_water_mark == 800


async def test_stats_have_the_names_of_0_2():
    pressure = make(max_pending=8, high=4)
    await fill(pressure)
    assert pressure.get_stats() == {
        "pending_count": 4, "max_pending": 8, "backpressure_active": True, "total_rejected": 0, "utilization": 50.0,
    }  # fmt: skip


async def test_releasing_what_nobody_took_changes_nothing():
    pressure = make()
    await pressure.release()
    assert pressure.pending_count == 0


async def test_the_decorator_raises_and_keeps_the_function():
    clock = VirtualClock()
    pressure = make(clock=clock, high=1, low=0)

    @with_backpressure(pressure, timeout=0.5)
    async def job(func, *, caller="me"):
        """Do it."""
        return func, caller

    assert inspect.iscoroutinefunction(job)
    assert (job.__name__, job.__doc__) == ("job", "Do it.")
    assert job.backpressure is pressure
    assert await job(func=1, caller="you") == (1, "you")
    await fill(pressure, 1)
    task = asyncio.create_task(job(1))
    await clock.advance(0.5)
    assert task.exception().reason is BackpressureReason.TIMEOUT_ACQUIRING


def test_the_decorator_refuses_plain_functions():
    with pytest.raises(TypeError):
        with_backpressure(make())(lambda: None)


async def test_without_a_timeout_the_decorator_waits_as_the_config_says():
    clock = VirtualClock()
    pressure = make(clock=clock, high=1, low=0, timeout=3.0)
    await fill(pressure, 1)
    task = asyncio.create_task(with_backpressure(pressure)(functools.partial(asyncio.sleep, 0))())
    await clock.advance(2.9)
    assert not task.done()
    await clock.advance(0.2)
    assert isinstance(task.exception(), BackpressureError)


# --- config


@pytest.mark.parametrize(
    ("given", "marks"),
    [
        ({}, (1000, 800, 200)), ({"max_pending": 2}, (2, 2, 0)), ({"high_water_mark": 5}, (1000, 5, 1)),
        ({"high_water_mark": 2000}, (2000, 2000, 200)), ({"low_water_mark": 900}, (1000, 901, 900)),
    ],
)  # fmt: skip
def test_a_mark_that_is_not_given_makes_room_for_those_that_are(given, marks):
    config = BackpressureConfig(**given)
    assert (config.max_pending, config.high_water_mark, config.low_water_mark) == marks


def test_in_a_file_the_marks_are_shares_of_max_pending_and_the_wait_is_bounded():
    defaults = BackpressureConfig.file_defaults({"max_pending": 100})
    assert defaults == {"timeout": 5.0, "high_water_mark": 80, "low_water_mark": 20}
    assert BackpressureConfig(max_pending=1, **BackpressureConfig.file_defaults({"max_pending": 1})).low_water_mark == 0
    assert BackpressureConfig.file_defaults({"high_water_mark": 7}) == {"timeout": 5.0}


@pytest.mark.parametrize(
    "fields",
    [
        {"max_pending": 0}, {"max_pending": True}, {"max_pending": 1.5}, {"high_water_mark": 0}, {"low_water_mark": -1},
        {"high_water_mark": 2000, "max_pending": 1000}, {"high_water_mark": 5, "low_water_mark": 5}, {"timeout": -1},
        {"timeout": float("nan")}, {"timeout": True}, {"unknown": 1}, {"max_pending": "many"},
    ],
)  # fmt: skip
def test_senseless_numbers_are_refused(fields):
    with pytest.raises(ValidationError):
        BackpressureConfig(**fields)


# --- the machine against a naive model


class AgainstTheModel(RuleBasedStateMachine):
    """The model: a count, a flag, a list of those who wait."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.machine = BackpressureMachine(9, 5, 2)
        self.pending, self.active, self.line, self.inside = 0, False, [], 0

    def teardown(self):
        for waiter in self.line:
            self.machine.queue.leave(waiter)
        self.loop.close()

    def in_loop(self, work):
        async def run():
            return work()

        return self.loop.run_until_complete(run())

    @rule()
    def come(self):
        got = self.in_loop(self.machine.join)
        if not self.active and not self.line:
            assert got is True
            self.pending += 1
            self.active = self.pending >= 5
        elif self.pending + len(self.line) >= 9:
            assert got is False
        else:
            self.line.append(got)

    @rule()
    def go(self):
        if not self.pending:
            return
        self.in_loop(self.machine.leave)
        self.pending -= 1
        if self.pending <= 2:
            self.active = False
        self.let_in()

    def let_in(self):
        for _ in range(2):
            if self.active or not self.line:
                return
            waiter = self.line.pop(0)
            assert waiter.future.done()
            self.pending += 1
            self.active = self.pending >= 5

    @rule(at=st.integers(0, 9))
    def give_up(self, at):
        if self.line:
            waiter = self.line.pop(at % len(self.line))
            assert not self.machine.queue.leave(waiter)

    @invariant()
    def agrees(self):
        machine = self.machine
        assert (machine.pending, machine.active) == (self.pending, self.active)
        assert machine.queue.waiting == len(self.line)
        assert machine.pending <= 5
        assert not any(waiter.future.done() for waiter in self.line)
        assert machine.pending or not self.line, "whoever waits, waits for somebody"


TestAgainstTheModel = AgainstTheModel.TestCase
TestAgainstTheModel.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
