import asyncio
import gc
import inspect
import json
import pickle
import threading

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pydantic import ValidationError

from aioresilience.calls import ANYONE, Caller
from aioresilience.events import EventType
from aioresilience.exceptions import ExceptionConfig
from aioresilience.failures import SUCCESS
from aioresilience.load_shedding import (
    BasicLoadShedder,
    LoadLevel,
    LoadMachine,
    LoadMetrics,
    LoadShedder,
    LoadSheddingConfig,
    LoadSheddingError,
    LoadSheddingReason,
    SystemLoadShedder,
    with_load_shedding,
)
from aioresilience.testing import VirtualClock
from tests.sweep import sweep

LOW, HIGH = Caller(priority="low"), Caller(priority="high")


def make(clock=None, exceptions=None, **fields):
    return BasicLoadShedder(LoadSheddingConfig(**fields), exceptions, name="api", clock=clock or VirtualClock())


async def turns(n=5):
    for _ in range(n):
        await asyncio.sleep(0)


async def fine(value=1):
    return value


async def fill(shedder, count):
    for _ in range(count):
        assert await shedder.acquire()


def admitted(shedder, caller, tries):
    """Count how many of so many calls, one after the other, are admitted."""
    count = 0
    for _ in range(tries):
        ticket = shedder.admit(caller)
        if ticket is not None:
            shedder.settle(ticket, SUCCESS, None)
            count += 1
    return count


# --- the hard limit


async def test_nobody_gets_past_max_requests():
    shedder = make(max_requests=3)
    await fill(shedder, 3)
    for priority in ("low", "normal", "high"):
        assert not await shedder.acquire(priority)
    assert shedder.active_requests == 3
    await shedder.release()
    assert await shedder.acquire()


async def test_the_error_says_what_the_process_is_busy_with():
    shedder = make(max_requests=1)
    await fill(shedder, 1)
    with pytest.raises(LoadSheddingError) as caught:
        await shedder.execute(fine)
    error = caught.value
    assert error.reason is LoadSheddingReason.MAX_LOAD_EXCEEDED
    assert (error.pattern_name, error.pattern_type) == ("api", "load_shedding")
    assert str(error) == "load shedder 'api' sheds priority 'normal': 1 of 1 requests in flight"
    assert error.metadata == {
        "active_requests": 1, "max_requests": 1, "queue_depth": 0, "load_level": "critical", "priority": "normal",
    }  # fmt: skip
    assert pickle.loads(pickle.dumps(error)).metadata == error.metadata


async def test_a_refused_call_takes_nothing():
    shedder = make(max_requests=1)
    assert shedder.admit(ANYONE)
    assert shedder.admit(ANYONE) is None
    assert shedder.admit(HIGH) is None
    assert shedder.active_requests == 1


# --- priorities


def test_low_priority_is_shed_more_and_more_as_the_calls_in_flight_grow():
    shedder = make(max_requests=100)
    shares = []
    for active in (0, 60, 68, 75, 83, 90, 99):
        shedder.active_requests = active
        shares.append(admitted(shedder, LOW, 200) / 200)
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == shares[1] == 1.0
    assert shares[3] == pytest.approx(0.5, abs=0.02)
    assert shares[-2] == shares[-1] == 0.0


def test_normal_priority_does_not_feel_the_calls_in_flight():
    shedder = make(max_requests=100)
    shedder.active_requests = 99
    assert admitted(shedder, ANYONE, 50) == 50
    assert admitted(shedder, HIGH, 50) == 50


def test_at_a_soft_limit_low_goes_first_then_normal_and_high_passes():
    shedder = make(max_queue_depth=100)
    shares = {}
    for depth in (50, 80, 89, 95, 100, 150):
        shedder.queue_depth = depth
        shares[depth] = tuple(admitted(shedder, caller, 100) for caller in (LOW, ANYONE, HIGH))
    assert shares[50] == (100, 100, 100)
    assert 0 < shares[80][0] < 100
    assert shares[80][1:] == (100, 100)
    assert shares[95][0] == 0
    assert shares[95][1] == pytest.approx(50, abs=2)
    assert shares[100] == shares[150] == (0, 0, 100)


def test_high_priority_does_not_pass_a_soft_limit_when_the_load_is_critical():
    shedder = make(max_requests=100, max_queue_depth=10)
    shedder.queue_depth = 10
    shedder.active_requests = 90
    assert shedder.admit(HIGH)
    assert shedder.active_requests == 91
    assert shedder.admit(HIGH) is None


def test_the_same_load_sheds_the_same_calls_again():
    def run():
        shedder = make(max_queue_depth=100)
        shedder.queue_depth = 95
        return [shedder.admit(ANYONE) is not None for _ in range(50)]

    assert run() == run()


def test_the_shed_calls_are_spread_evenly():
    shedder = make(max_queue_depth=100)
    shedder.queue_depth = 95
    decisions = [shedder.admit(ANYONE) is not None for _ in range(100)]
    longest = max(len(run) for run in "".join("x" if d else " " for d in decisions).split())
    assert longest <= 3


async def test_a_low_call_that_another_priority_would_not_have_lost_says_so():
    shedder = make(max_requests=10)
    await fill(shedder, 9)
    with pytest.raises(LoadSheddingError) as caught:
        await shedder.execute_as(LOW, fine)
    assert caught.value.reason is LoadSheddingReason.PRIORITY_REJECTED
    assert caught.value.metadata["priority"] == "low"


def test_an_unknown_priority_counts_as_normal():
    shedder = make(max_requests=100)
    shedder.active_requests = 95
    assert admitted(shedder, Caller(priority="gold"), 10) == 10


# --- counting


async def test_counts_reconcile():
    shedder = make(max_requests=1)

    async def broken():
        raise ValueError

    await shedder.execute(fine)
    with pytest.raises(ValueError):  # noqa: PT011
        await shedder.execute(broken)
    await fill(shedder, 1)
    assert not await shedder.acquire()
    counts = shedder.counts
    assert (counts.started, counts.succeeded, counts.failed, counts.neutral) == (2, 1, 1, 0)
    assert counts.rejected == {"MAX_LOAD_EXCEEDED": 1, "PRIORITY_REJECTED": 0}
    assert shedder.total_shed == 1


@pytest.mark.parametrize("fields", [{}, {"max_lag": 1.0}, {"max_age": 1.0}])
async def test_a_cancelled_call_is_counted_out(fields):
    clock = VirtualClock()
    shedder = make(clock, max_requests=2, **fields)

    async def work():
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def check():
        assert shedder.active_requests == 0

    results = await sweep(lambda: shedder.execute(work), check)
    assert {result.outcome for result in results} == {"cancelled", "finished"}
    await clock.advance(0.1)
    assert clock.pending == 0


def test_threads_together_never_pass_max_requests():
    shedder = make(max_requests=5)
    inside, most, lock, barrier = 0, 0, threading.Lock(), threading.Barrier(8)

    def work(caller):
        nonlocal inside, most
        barrier.wait()
        for _ in range(3000):
            ticket = shedder.admit(caller)
            if ticket is None:
                continue
            with lock:
                inside += 1
                most = max(most, inside)
            with lock:
                inside -= 1
            shedder.settle(ticket, SUCCESS, None)

    threads = [threading.Thread(target=work, args=(caller,)) for caller in (ANYONE, HIGH) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most <= 5
    assert shedder.active_requests == 0


def test_without_a_gil_the_hot_path_takes_the_lock(monkeypatch):
    monkeypatch.setattr("aioresilience.load_shedding.machine.GIL", False)
    shedder = make(max_requests=1)
    with shedder.machine.lock:
        thread = threading.Thread(target=shedder.admit, args=(ANYONE,))
        thread.start()
        thread.join(0.02)
        assert thread.is_alive(), "it waits for the lock"
    thread.join()
    assert shedder.active_requests == 1


async def test_a_cancelled_plain_function_keeps_its_place_until_its_thread_ends():
    shedder, go, began = make(max_requests=1), threading.Event(), threading.Event()
    task = asyncio.create_task(shedder.execute(lambda: began.set() or go.wait(30)))
    assert await asyncio.to_thread(began.wait, 15)
    task.cancel()
    await asyncio.wait([task])
    assert shedder.active_requests == 1
    go.set()
    async with asyncio.timeout(15):
        while shedder.active_requests:
            await asyncio.sleep(0.001)


# --- living


async def test_retuning_keeps_what_is_in_flight():
    shedder = make(max_requests=5)
    await fill(shedder, 4)
    shedder.retune(LoadSheddingConfig(max_requests=2, max_queue_depth=7))
    assert shedder.active_requests == 4
    assert (shedder.max_requests, shedder.machine.max_queue_depth) == (2, 7)
    for _ in range(3):
        assert not await shedder.acquire()
        await shedder.release()
    assert await shedder.acquire()


async def test_accepted_and_shed_calls_and_changes_of_level_are_events():
    shedder, heard = make(max_requests=2), []
    for kind in ("request_accepted", "request_shed", "load_level_change"):
        shedder.events.add_handler(kind, heard.append)
    await fill(shedder, 2)
    assert not await shedder.acquire()
    await turns()
    assert [event.event_type for event in heard] == [
        EventType.REQUEST_ACCEPTED, EventType.LOAD_LEVEL_CHANGE, EventType.REQUEST_ACCEPTED, EventType.REQUEST_SHED,
    ]  # fmt: skip
    assert heard[1].reason == "normal to critical"
    assert (heard[1].active_requests, heard[1].max_requests, heard[1].load_level) == (2, 2, LoadLevel.CRITICAL)
    assert "2 of 2 requests in flight" in heard[3].reason


async def test_a_callback_hears_of_a_shed_call_and_acquire_still_returns_false():
    heard = []
    shedder = make(max_requests=1, exceptions=ExceptionConfig(exception_type=KeyError, on_exception=heard.append))
    await fill(shedder, 1)
    assert await shedder.acquire() is False
    with pytest.raises(KeyError):
        await shedder.execute(fine)
    assert [context.pattern_type for context in heard] == ["load_shedding"] * 2


async def test_observed_calls_are_let_through_uncharged():
    shedder = make(max_requests=1, mode="observe")
    assert await shedder.acquire()
    assert await shedder.acquire()
    assert shedder.active_requests == 1
    assert shedder.counts.observed == 1
    await shedder.release()
    await shedder.release()
    assert shedder.active_requests == 0


async def test_status_fits_json():
    shedder = make(max_requests=4, max_lag=1.0)
    await fill(shedder, 3)
    status = json.loads(json.dumps(shedder.status()))
    assert (status["active"], status["load_level"], status["lag"], status["cpu_percent"]) == (3, "elevated", 0.0, None)


async def test_a_shedder_is_collected_when_nobody_holds_it():
    import weakref

    shedder = make(max_lag=1.0)
    await shedder.execute(fine)
    await shedder.clock.advance(0.1)
    gone = weakref.ref(shedder)
    del shedder
    gc.collect()
    assert gone() is None


# --- 0.2


def test_the_defaults_are_those_of_0_2():
    config = LoadSheddingConfig()
    assert (config.max_requests, config.max_queue_depth) == (1000, 500)
    assert (config.max_lag, config.max_age, config.cpu_threshold, config.memory_threshold) == (None,) * 4
    assert config.check_interval == 1.0
    assert LoadSheddingConfig.file_defaults({}) == {}
    assert LoadSheddingConfig.short == "max_requests"
    assert list(inspect.signature(BasicLoadShedder).parameters)[:2] == ["config", "exceptions"]
    assert LoadShedder is BasicLoadShedder
    assert list(inspect.signature(with_load_shedding).parameters) == ["load_shedder", "priority"]


def test_the_system_shedder_takes_the_keywords_of_0_2_or_a_config():
    parameters = list(inspect.signature(SystemLoadShedder).parameters.items())[:5]
    assert {name: parameter.default for name, parameter in parameters} == {
        "max_requests": 1000, "max_queue_depth": 500, "cpu_threshold": 85.0, "memory_threshold": 85.0,
        "check_interval": 1.0,
    }  # fmt: skip
    by_keyword = SystemLoadShedder(max_requests=7, cpu_threshold=50.0)
    assert (by_keyword.max_requests, by_keyword.cpu_threshold, by_keyword.memory_threshold) == (7, 50.0, 85.0)
    by_config = SystemLoadShedder(config=LoadSheddingConfig(max_requests=7, memory_threshold=None))
    assert (by_config.max_requests, by_config.cpu_threshold, by_config.memory_threshold) == (7, 85.0, None)
    assert isinstance(by_config, BasicLoadShedder)


async def test_stats_have_the_names_of_0_2():
    shedder = make(max_requests=4)
    shedder.queue_depth = 3
    await fill(shedder, 1)
    assert shedder.get_stats() == {
        "active_requests": 1, "queue_depth": 3, "total_shed": 0, "load_level": 0, "max_requests": 4,
        "max_queue_depth": 500, "utilization": 25.0, "type": "basic",
    }  # fmt: skip


async def test_should_shed_load_gives_a_verdict_and_a_reason():
    shedder = make(max_requests=1, max_queue_depth=4)
    assert shedder.should_shed_load() == (False, "")
    shedder.queue_depth = 4
    assert shedder.should_shed_load() == (True, "queue depth 4 (limit 4)")
    shedder.queue_depth = 0
    await fill(shedder, 1)
    assert shedder.should_shed_load() == (True, "1 of 1 requests in flight")


@pytest.mark.parametrize(("active", "level"), [(60, 0), (61, 1), (75, 1), (76, 2), (90, 2), (91, 3), (100, 3)])
def test_levels_follow_the_utilization(active, level):
    metrics = LoadMetrics(active, 0, 100, 500, timestamp=0.0)
    assert metrics.load_level is LoadLevel(level)
    shedder = make(max_requests=100)
    shedder.active_requests = active
    assert shedder.load_level is shedder.metrics.load_level is LoadLevel(level)


async def test_releasing_what_nobody_took_changes_nothing():
    shedder = make()
    await shedder.release()
    assert shedder.active_requests == 0


async def test_the_decorator_raises_and_keeps_the_function():
    shedder = make(max_requests=10)

    @with_load_shedding(shedder, priority="low")
    async def job(func, *, caller="me"):
        """Do it."""
        return func, caller

    assert inspect.iscoroutinefunction(job)
    assert (job.__name__, job.__doc__, job.load_shedder) == ("job", "Do it.", shedder)
    assert await job(func=1, caller="you") == (1, "you")
    await fill(shedder, 9)
    with pytest.raises(LoadSheddingError) as caught:
        await job(1)
    assert caught.value.reason is LoadSheddingReason.PRIORITY_REJECTED


def test_the_decorator_refuses_plain_functions():
    with pytest.raises(TypeError):
        with_load_shedding(make())(lambda: None)


# --- config


@pytest.mark.parametrize(
    "fields",
    [
        {"max_requests": 0}, {"max_requests": True}, {"max_queue_depth": 0}, {"max_lag": 0}, {"max_lag": float("nan")},
        {"max_age": -1}, {"cpu_threshold": 0.85}, {"cpu_threshold": 101}, {"cpu_threshold": True},
        {"memory_threshold": float("inf")}, {"memory_threshold": "120%"}, {"check_interval": 0},
        {"check_interval": 0.001}, {"unknown": 1},
    ],
)  # fmt: skip
def test_senseless_numbers_are_refused(fields):
    with pytest.raises(ValidationError):
        LoadSheddingConfig(**fields)


def test_durations_and_percentages_may_be_written_out():
    config = LoadSheddingConfig(max_lag="200ms", max_age="1m30s", cpu_threshold="57%", memory_threshold=90)
    assert (config.max_lag, config.max_age, config.cpu_threshold, config.memory_threshold) == (0.2, 90.0, 57.0, 90.0)


# --- the machine against a naive model


class AgainstTheModel(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.machine = LoadMachine(10, 10)
        self.active, self.turns = 0, {"low": 0, "normal": 0}

    def shed(self, priority, load, critical):
        if priority == "high":
            return load >= 1 and critical
        begin, full = (0.6, 0.9) if priority == "low" else (0.9, 1.0)
        seen = max(load, self.active / 10) if priority == "low" else load
        if seen <= begin or seen >= full:
            return seen >= full
        self.turns[priority] += 1
        return self.turns[priority] * 0.6180339887498949 % 1 < (seen - begin) / (full - begin)

    @rule(
        priority=st.sampled_from(["low", "normal", "high"]),
        load=st.floats(0, 1.5),
        critical=st.booleans(),
    )
    def come(self, priority, load, critical):
        shed = self.machine.sheds(priority, load, critical)
        assert shed == self.shed(priority, load, critical)
        if not shed:
            assert self.machine.take() == (self.active < 10)
            self.active = min(10, self.active + 1)

    @rule()
    def go(self):
        self.machine.give()
        self.active = max(0, self.active - 1)

    @invariant()
    def agrees(self):
        assert self.machine.active == self.active
        assert self.machine.full == (self.active == 10)


TestAgainstTheModel = AgainstTheModel.TestCase
TestAgainstTheModel.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
