import asyncio
import inspect
import json
import pickle
import threading

import httpx
import pytest
import redis.exceptions
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pydantic import ValidationError

from aioresilience.adaptive_concurrency import (
    AdaptiveConcurrencyConfig,
    AdaptiveConcurrencyLimiter,
    AdaptiveConcurrencyReason,
    AimdMachine,
    ConcurrencyLimitError,
)
from aioresilience.calls import ANYONE, Call, invoker
from aioresilience.events import EventType
from aioresilience.exceptions import RejectionError, ResilienceError
from aioresilience.failures import SUCCESS, Classifier, Rule
from aioresilience.pattern import Context
from aioresilience.scope import Timeline
from aioresilience.testing import VirtualClock
from tests.sweep import sweep


def make(clock=None, **fields):
    return AdaptiveConcurrencyLimiter("api", AdaptiveConcurrencyConfig(**fields), clock=clock or VirtualClock())


def window(size=4, initial=10, **fields):
    return make(initial_limit=initial, measurement_window=size, **fields)


async def turns(n=5):
    for _ in range(n):
        await asyncio.sleep(0)


async def fine():
    return 1


async def broken(error=ValueError):
    raise error


async def together(limiter, *outcomes):
    """Take as many places at once as there are outcomes, then give them back with these."""
    for _ in outcomes:
        assert await limiter.acquire()
    for outcome in outcomes:
        await limiter.release(outcome)


def layered(limiter, func, **context):
    layer = limiter.layer(invoker(limiter.clock), Context(**context))
    return layer(Call(func, (), {}, ANYONE))


# --- the algorithm


async def test_a_good_window_that_used_half_the_limit_adds_the_increase():
    limiter = window(size=5, initial=10, increase_rate=2.0)
    await together(limiter, *[True] * 5)
    assert limiter.current_limit == 12


async def test_a_good_window_that_used_less_than_half_the_limit_changes_nothing():
    limiter = window(size=4, initial=10)
    for _ in range(10):
        await together(limiter, *[True] * 4)
    assert limiter.current_limit == 10


async def test_a_bad_window_multiplies_by_the_decrease():
    limiter = window(size=4, initial=100, decrease_factor=0.5)
    await together(limiter, True, True, False, False)
    assert limiter.current_limit == 50


async def test_between_the_thresholds_the_limit_stays():
    limiter = window(size=10, initial=10)
    await together(limiter, *[True] * 9, False)
    assert limiter.current_limit == 10


async def test_small_steps_add_up():
    limiter = window(size=1, initial=1, min_limit=1, increase_rate=0.5)
    await limiter.execute(fine)
    assert limiter.current_limit == 1
    await limiter.execute(fine)
    assert limiter.current_limit == 2


async def test_the_limit_stays_within_its_bounds():
    limiter = window(size=1, initial=2, min_limit=2, max_limit=3, decrease_factor=0.1)
    for _ in range(5):
        await together(limiter, True, True)
    assert limiter.current_limit == 3
    for _ in range(5):
        await together(limiter, False)
    assert limiter.current_limit == 2


async def test_results_of_calls_that_started_before_a_shrink_do_not_shrink_again():
    limiter = window(size=5, initial=100, decrease_factor=0.5)
    await together(limiter, *[False] * 40)
    assert limiter.current_limit == 50
    await together(limiter, *[False] * 5)
    assert limiter.current_limit == 25


async def test_neutral_calls_are_not_judged():
    limiter = window(size=1, initial=100)
    neutral = Classifier(neutral=Rule(exceptions=(KeyError,)))
    for _ in range(5):
        with pytest.raises(KeyError):
            await layered(limiter, lambda: broken(KeyError), classify=neutral)
    assert limiter.current_limit == 100
    assert limiter.counts.neutral == 5
    assert limiter.active_count == 0


async def test_a_rejection_further_in_is_not_judged():
    limiter = window(size=1, initial=100)
    with pytest.raises(RejectionError):
        await limiter.execute(lambda: broken(RejectionError))
    assert limiter.current_limit == 100


async def test_throttled_calls_shrink_the_limit_though_they_are_no_failures():
    for shrink_on in ("failure", "overload"):
        limiter = window(size=1, initial=100, decrease_factor=0.5, shrink_on=shrink_on)
        throttle = Classifier(throttle=Rule(exceptions=(KeyError,)))
        with pytest.raises(KeyError):
            await layered(limiter, lambda: broken(KeyError), classify=throttle)
        assert limiter.current_limit == 50
        assert limiter.counts.failed == 0


def test_calls_that_are_still_under_way_count_as_use_in_the_next_window():
    machine = AimdMachine(AdaptiveConcurrencyConfig(initial_limit=4, min_limit=1, measurement_window=1))
    era, *_ = [machine.take() for _ in range(4)]
    assert machine.end(era, good=True)
    assert machine.end(era, good=True)
    assert machine.limit == 6


async def test_by_default_every_failure_counts_against_the_limit():
    limiter = window(size=1, initial=100, decrease_factor=0.5)
    with pytest.raises(ValueError):  # noqa: PT011
        await limiter.execute(broken)
    assert limiter.current_limit == 50


async def test_on_overload_only_an_error_that_is_no_timeout_changes_nothing():
    limiter = window(size=1, initial=100, shrink_on="overload")
    with pytest.raises(ValueError):  # noqa: PT011
        await limiter.execute(broken)
    assert limiter.current_limit == 100


async def test_on_overload_only_a_failed_status_changes_nothing():
    class Response:
        status_code = 500

    async def answer():
        return Response()

    limiter = window(size=1, initial=100, shrink_on="overload")
    await layered(limiter, answer, classify=Classifier(failure=Rule(status=frozenset({500}))))
    assert limiter.current_limit == 100
    assert limiter.counts.neutral == 1


@pytest.mark.parametrize("kind", [TimeoutError, httpx.ReadTimeout, redis.exceptions.TimeoutError])
async def test_on_overload_only_a_timeout_that_the_function_raised_shrinks(kind):
    limiter = window(size=1, initial=100, decrease_factor=0.5, shrink_on="overload")
    with pytest.raises(kind):
        await limiter.execute(lambda: broken(kind("late")))
    assert limiter.current_limit == 50


async def test_on_overload_only_a_call_cut_by_our_own_timeout_shrinks():
    clock = VirtualClock()
    limiter = make(clock, initial_limit=100, measurement_window=1, decrease_factor=0.5, shrink_on="overload")

    async def cut():
        scope = Timeline(clock=clock).open(1.0)
        try:
            await limiter.execute(asyncio.Event().wait)
        except asyncio.CancelledError as error:
            if not scope.leave(error):
                raise

    task = asyncio.create_task(cut())
    await clock.advance(1.0)
    await task
    assert limiter.current_limit == 50
    assert limiter.counts.failed == 1


async def test_a_file_shrinks_on_overload_and_python_on_every_failure():
    assert AdaptiveConcurrencyConfig.file_defaults({}) == {"shrink_on": "overload"}
    assert AdaptiveConcurrencyConfig().shrink_on == "failure"


# --- the limit


async def test_past_the_limit_a_call_is_refused_with_its_numbers():
    limiter = window(initial=1)
    assert await limiter.acquire()
    with pytest.raises(ConcurrencyLimitError) as caught:
        await limiter.execute(fine)
    error = caught.value
    assert isinstance(error, RuntimeError)
    assert error.reason is AdaptiveConcurrencyReason.LIMIT_REACHED
    assert (error.pattern_name, error.pattern_type) == ("api", "adaptive_concurrency")
    assert error.metadata == {"current_limit": 1, "active_count": 1}
    assert pickle.loads(pickle.dumps(error)).metadata == error.metadata


async def test_a_refused_call_takes_nothing():
    limiter = window(initial=1)
    assert limiter.admit(ANYONE)
    assert limiter.admit(ANYONE) is None
    assert limiter.active_count == 1


async def test_counts_reconcile():
    limiter = window(initial=1)
    await limiter.execute(fine)
    with pytest.raises(ValueError):  # noqa: PT011
        await limiter.execute(broken)
    assert await limiter.acquire()
    assert not await limiter.acquire()
    counts = limiter.counts
    assert (counts.started, counts.succeeded, counts.failed) == (2, 1, 1)
    assert counts.rejected == {"LIMIT_REACHED": 1}


async def test_a_cancelled_call_gives_its_place_back_and_is_neutral():
    limiter, started = window(size=1, initial=5), asyncio.Event()

    async def work():
        started.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def check():
        assert limiter.active_count == 0

    results = await sweep(lambda: limiter.execute(work), check)
    assert {result.outcome for result in results} == {"cancelled", "finished"}
    assert limiter.counts.failed == 0


async def test_a_cancelled_context_gives_its_place_back():
    limiter = window(size=1, initial=5)

    async def work():
        async with limiter:
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    def check():
        assert limiter.active_count == 0
        assert not limiter._held

    await sweep(work, check)


async def test_a_cancelled_plain_function_keeps_its_place_until_its_thread_ends():
    limiter, go, began = window(initial=1), threading.Event(), threading.Event()
    task = asyncio.create_task(limiter.execute(lambda: began.set() or go.wait(30)))
    assert await asyncio.to_thread(began.wait, 15)
    task.cancel()
    await asyncio.wait([task])
    assert limiter.active_count == 1
    go.set()
    async with asyncio.timeout(15):
        while limiter.active_count:
            await asyncio.sleep(0.001)


def test_threads_together_take_exactly_the_limit():
    limiter = make(initial_limit=7, measurement_window=10**6)
    most, barrier, lock = [], threading.Barrier(8), threading.Lock()
    inside = 0

    def work():
        nonlocal inside
        barrier.wait()
        for _ in range(3000):
            ticket = limiter.admit(ANYONE)
            if ticket is None:
                continue
            with lock:
                inside += 1
                most.append(inside)
            with lock:
                inside -= 1
            limiter.settle(ticket, SUCCESS, None)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) <= 7
    assert limiter.active_count == 0
    assert limiter.machine.good == len(most)


class CountingLock:
    def __init__(self):
        self.taken = 0

    def __enter__(self):
        self.taken += 1

    def __exit__(self, *error):
        pass


def test_without_a_gil_the_hot_path_takes_the_lock(monkeypatch):
    monkeypatch.setattr("aioresilience.adaptive_concurrency.machine._GIL", False)
    limiter = make(initial_limit=1, min_limit=1, measurement_window=1)
    limiter.machine.lock = lock = CountingLock()
    ticket = limiter.admit(ANYONE)
    assert ticket is not None
    assert lock.taken == 1
    limiter.settle(ticket, SUCCESS, None)
    assert lock.taken == 3, "for the place, and for the window that closed"
    assert limiter.current_limit == 2


# --- living


async def test_retuning_keeps_the_estimate_within_the_new_bounds():
    limiter = window(size=5, initial=10)
    await together(limiter, *[True] * 5)
    limiter.retune(AdaptiveConcurrencyConfig(initial_limit=50))
    assert limiter.current_limit == 11
    limiter.retune(AdaptiveConcurrencyConfig(initial_limit=5, max_limit=8))
    assert limiter.current_limit == 8
    limiter.retune(AdaptiveConcurrencyConfig(initial_limit=20, min_limit=20))
    assert limiter.current_limit == 20


async def test_shrinking_below_what_is_in_use_lets_it_finish():
    limiter = window(initial=3)
    for _ in range(3):
        assert await limiter.acquire()
    limiter.retune(AdaptiveConcurrencyConfig(initial_limit=1, max_limit=1))
    await limiter.release()
    await limiter.release()
    assert not await limiter.acquire()
    await limiter.release()
    assert await limiter.acquire()


async def test_a_change_of_the_limit_is_an_event():
    limiter, heard = window(size=1, initial=100, decrease_factor=0.5), []
    limiter.events.add_handler("limit_updated", heard.append)
    await together(limiter, False)
    await turns()
    assert [event.metadata for event in heard] == [{"old_limit": 100, "current_limit": 50}]


async def test_places_taken_given_back_and_refused_are_events():
    limiter, heard = window(initial=1), []
    limiter.events.add_handler("*", heard.append)
    await limiter.acquire()
    await limiter.acquire()
    await limiter.release()
    await turns()
    kinds = [event.event_type for event in heard]
    assert kinds == [EventType.SLOT_ACQUIRED, EventType.REQUEST_REJECTED, EventType.DECISION, EventType.SLOT_RELEASED]


async def test_observed_acquires_are_let_through_uncharged_and_released_without_a_debt():
    limiter = window(initial=1, mode="observe")
    assert await limiter.acquire()
    assert await limiter.acquire()
    assert limiter.active_count == 1
    assert limiter.counts.observed == 1
    await limiter.release()
    await limiter.release()
    assert limiter.active_count == 0


async def test_switched_off_it_takes_no_place():
    limiter = window(initial=1, mode="off")
    assert await limiter.acquire()
    assert await limiter.acquire()
    assert limiter.active_count == 0
    await limiter.release()
    assert limiter.active_count == 0


async def test_status_fits_json():
    limiter = window(initial=3)
    await limiter.acquire()
    status = json.loads(json.dumps(limiter.status()))
    assert (status["limit"], status["active"], status["started"]) == (3, 1, 0)


# --- 0.2


def test_the_defaults_are_those_of_0_2():
    config = AdaptiveConcurrencyConfig()
    assert config.model_dump(exclude={"mode", "shrink_on"}) == {
        "initial_limit": 100, "min_limit": 10, "max_limit": 1000, "increase_rate": 1.0, "decrease_factor": 0.9,
        "measurement_window": 100, "success_threshold": 0.95, "failure_threshold": 0.8,
    }  # fmt: skip
    assert list(inspect.signature(AdaptiveConcurrencyLimiter).parameters)[:2] == ["name", "config"]
    limiter = AdaptiveConcurrencyLimiter()
    assert (limiter.name, limiter.min_limit) == ("adaptive-concurrency", 10)


async def test_stats_have_the_names_of_0_2():
    limiter = window(initial=4)
    await together(limiter, True, False)
    await limiter.acquire()
    assert limiter.get_stats() == {
        "current_limit": 4, "active_count": 1, "total_requests": 3,
        "success_count": 1, "failure_count": 1, "utilization": 25.0,
    }  # fmt: skip


async def test_as_a_context_it_raises_when_there_is_no_room():
    limiter = window(initial=1)
    async with limiter as entered:
        assert entered is limiter
        with pytest.raises(RuntimeError):
            async with limiter:
                pass
    assert limiter.active_count == 0
    assert limiter.counts.succeeded == 1


async def test_an_error_inside_the_context_is_a_failure():
    limiter = window(initial=1)
    with pytest.raises(ValueError):  # noqa: PT011
        async with limiter:
            raise ValueError
    assert limiter.counts.failed == 1


async def test_releasing_what_nobody_took_changes_nothing():
    limiter = window(initial=1)
    await limiter.release()
    assert limiter.active_count == 0
    assert limiter.counts.succeeded == 0


# --- config


def test_a_bound_that_is_not_given_makes_room_for_the_initial_limit():
    assert AdaptiveConcurrencyConfig(initial_limit=2).min_limit == 2
    assert AdaptiveConcurrencyConfig(initial_limit=5000).max_limit == 5000


@pytest.mark.parametrize(
    "fields",
    [
        {"initial_limit": 0}, {"initial_limit": True}, {"initial_limit": 5, "min_limit": 10}, {"max_limit": 50},
        {"increase_rate": 0}, {"increase_rate": float("nan")}, {"increase_rate": float("inf")}, {"increase_rate": True},
        {"decrease_factor": 0}, {"decrease_factor": 1}, {"decrease_factor": True}, {"measurement_window": 0},
        {"success_threshold": 1.1}, {"failure_threshold": -0.1}, {"failure_threshold": 0.99}, {"shrink_on": "never"},
        {"unknown": 1},
    ],
)  # fmt: skip
def test_senseless_numbers_are_refused(fields):
    with pytest.raises(ValidationError):
        AdaptiveConcurrencyConfig(**fields)


def test_shares_may_be_written_as_percentages():
    config = AdaptiveConcurrencyConfig(decrease_factor="90%", success_threshold="95%")
    assert (config.decrease_factor, config.success_threshold) == (0.9, 0.95)


# --- the machine against a naive model


class Naive:
    def __init__(self, config):
        self.config, self.estimate, self.era, self.results, self.peak, self.running = (
            config, float(config.initial_limit), 0, [], 0, [],
        )  # fmt: skip

    def limit(self):
        return int(self.estimate)

    def start(self):
        if len(self.running) >= self.limit():
            return False
        self.running.append(self.era)
        self.peak = max(self.peak, len(self.running))
        return True

    def end(self, at, good):
        era = self.running.pop(at)
        if good is None or era != self.era:
            return
        self.results.append(good)
        if len(self.results) < self.config.measurement_window:
            return
        rate = sum(self.results) / len(self.results)
        if rate >= self.config.success_threshold and self.peak >= self.limit() / 2:
            self.estimate = min(self.estimate + self.config.increase_rate, self.config.max_limit)
        if rate < self.config.failure_threshold:
            self.estimate = max(self.estimate * self.config.decrease_factor, self.config.min_limit)
            self.era += 1
        self.results, self.peak = [], len(self.running)


class AgainstTheModel(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        config = AdaptiveConcurrencyConfig(
            initial_limit=6, min_limit=2, max_limit=9, measurement_window=3, decrease_factor=0.6, increase_rate=0.7
        )
        self.machine, self.naive, self.tickets = AimdMachine(config), Naive(config), []

    @rule()
    def start(self):
        ticket = self.machine.take()
        assert (ticket is not None) == self.naive.start()
        if ticket is not None:
            self.tickets.append(ticket)

    @rule(at=st.integers(0, 20), good=st.sampled_from([True, True, True, False, None]))
    def end(self, at, good):
        if not self.tickets:
            return
        at %= len(self.tickets)
        ticket = self.tickets.pop(at)
        self.machine.end(ticket, good)
        self.naive.end(at, good)

    @invariant()
    def agrees(self):
        assert self.machine.limit == self.naive.limit()
        assert self.machine.active == len(self.naive.running)
        assert 2 <= self.machine.limit <= 9


TestAgainstTheModel = AgainstTheModel.TestCase
TestAgainstTheModel.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


async def test_errors_are_of_the_library():
    assert issubclass(ConcurrencyLimitError, ResilienceError)
