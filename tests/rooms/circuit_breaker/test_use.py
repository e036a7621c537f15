"""What code written for 0.2 calls; decorators, breakers by name; threads, cancellation, cost."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import itertools
import logging
import sys
import threading

import pytest
from circuit_helpers import breaker, fail, forever, half_open, ok, start

from aioresilience import Registry
from aioresilience.circuit_breaker import (
    CircuitBreaker,
    CircuitBreakerManager,
    CircuitConfig,
    CircuitMetrics,
    CircuitState,
    circuit_breaker,
    get_circuit_breaker,
    with_circuit_breaker,
)
from aioresilience.circuit_breaker.circuit import Circuit
from aioresilience.failures import SUCCESS
from aioresilience.testing import VirtualClock

# 0.2


def test_the_states_have_their_numbers():
    assert [(state.name, state.value) for state in CircuitState] == [("CLOSED", 0), ("OPEN", 1), ("HALF_OPEN", 2)]


def test_a_breaker_without_arguments_is_that_of_0_2():
    circuit = CircuitBreaker()
    assert (circuit.name, circuit.failure_threshold, circuit.recovery_timeout) == ("default", 5, 60.0)
    assert (circuit.success_threshold, circuit.timeout, circuit.half_open_max_calls) == (2, None, 1)
    assert (circuit.state, circuit.half_open_calls) == (CircuitState.CLOSED, 0)
    assert list(inspect.signature(CircuitBreaker).parameters)[:3] == ["name", "config", "exceptions"]


def test_a_breaker_needs_a_name():
    with pytest.raises(ValueError, match="name"):
        CircuitBreaker("")


def test_a_breaker_named_none_gets_a_readable_name():
    assert CircuitBreaker(name=None, config=CircuitConfig(), clock=VirtualClock()).name.startswith("circuit_breaker-")


def test_metrics_without_arguments_are_those_of_0_2():
    metrics = CircuitMetrics()
    assert metrics == CircuitMetrics(0, 0, 0, 0, 0, None, 0.0)
    assert (metrics.failure_rate, metrics.success_rate) == (0.0, 0.0)


async def test_the_metrics_are_those_of_0_2(clock: VirtualClock):
    circuit = breaker(clock, failure_threshold=3)
    for _ in range(3):
        await circuit.call(ok)
    failed_at = clock.wall()
    await fail(circuit)
    await clock.advance(2.0)
    assert circuit.get_metrics() == {
        "name": "payments", "state": "closed", "total_requests": 4, "successful_requests": 3, "failed_requests": 1,
        "failure_rate": 0.25, "consecutive_failures": 1, "consecutive_successes": 0,
        "last_failure_time": failed_at, "time_since_last_failure": 2.0,
    }  # fmt: skip
    await circuit.call(ok)
    assert circuit.metrics == CircuitMetrics(5, 4, 1, 0, 1, failed_at, 0.0)
    assert (circuit.metrics.failure_rate, circuit.metrics.success_rate) == (0.2, 0.8)


async def test_consecutive_failures_are_still_there_while_open(clock: VirtualClock):
    circuit = breaker(clock, failure_threshold=3)
    await fail(circuit, 3)
    assert circuit.get_metrics()["state"] == "open"
    assert circuit.metrics.consecutive_failures == 3
    assert circuit.metrics.last_state_change == clock.wall()


async def test_a_reset_starts_as_new_and_keeps_the_counts(clock: VirtualClock):
    circuit = breaker(clock)
    await circuit.call(ok)
    await fail(circuit)
    await circuit.reset()
    metrics = circuit.get_metrics()
    assert (metrics["state"], metrics["total_requests"], metrics["failed_requests"]) == ("closed", 0, 0)
    assert (metrics["consecutive_failures"], metrics["consecutive_successes"]) == (0, 0)
    assert metrics["last_failure_time"] is metrics["time_since_last_failure"] is None
    assert circuit.counts.failed == 1
    assert await circuit.call(ok) == "ok"


async def test_by_hand_failures_open_it_and_successes_close_it(clock: VirtualClock):
    circuit = breaker(clock, failure_threshold=3, success_threshold=2)
    for _ in range(3):
        assert await circuit.can_execute()
        await circuit.on_failure()
    assert not await circuit.can_execute()
    assert circuit.counts.rejected["CIRCUIT_OPEN"] == 1
    await clock.advance(10.0)
    for _ in range(2):
        assert await circuit.can_execute()
        assert (circuit.state, circuit.half_open_calls) == (CircuitState.HALF_OPEN, 1)
        await circuit.on_success()
    assert circuit.state is CircuitState.CLOSED
    assert circuit.metrics.total_requests == 5


async def test_by_hand_outcomes_count_without_asking_first(clock: VirtualClock):
    circuit = breaker(clock, failure_threshold=2, success_threshold=2)
    await circuit.on_failure()
    await circuit.on_failure()
    assert circuit.state is CircuitState.OPEN
    await circuit.on_success()
    assert circuit.state is CircuitState.OPEN
    await clock.advance(10.0)
    assert await circuit.can_execute()
    await circuit.on_success()
    await circuit.on_success()
    assert circuit.state is CircuitState.CLOSED


async def test_by_hand_half_open_has_its_places_too(clock: VirtualClock):
    circuit = await half_open(clock)
    asked = [asyncio.create_task(circuit.can_execute()) for _ in range(10)]
    assert sum(await asyncio.gather(*asked)) == 1
    await circuit.on_success()  # by another task than the one that asked
    assert (circuit.state, circuit.half_open_calls) == (CircuitState.CLOSED, 0)


async def test_by_hand_late_results_change_nothing(clock: VirtualClock):
    circuit = breaker(clock, success_threshold=2)
    gate = asyncio.Event()

    async def late() -> None:
        assert await circuit.can_execute()
        await gate.wait()
        await circuit.on_failure()

    task = asyncio.create_task(late())
    await asyncio.sleep(0)
    await fail(circuit)
    await clock.advance(10.0)
    await circuit.call(ok)
    gate.set()
    await task
    assert circuit.state is CircuitState.HALF_OPEN


async def test_asking_by_hand_without_reporting_leaves_nothing_behind(clock: VirtualClock):
    circuit = breaker(clock)
    for _ in range(100):
        await asyncio.create_task(circuit.can_execute())
    gc.collect()
    assert len(circuit._by_hand) <= 1  # that of the task which ended last


async def test_by_hand_in_observe_mode_everybody_may(clock: VirtualClock):
    circuit = breaker(clock, mode="observe")
    await fail(circuit)
    assert await circuit.can_execute()
    assert circuit.counts.observed == 1


# Every kind of callable


class Echo:
    async def __call__(self, value: int) -> int:
        return value

    async def method(self, value: int) -> int:
        return value


def plain(value: int) -> int:
    assert threading.current_thread() is not threading.main_thread()
    return value


@pytest.mark.parametrize(
    "func",
    [Echo(), Echo().method, functools.partial(Echo().method), lambda value: Echo()(value), plain],
    ids=["object", "method", "partial", "lambda", "plain"],
)
async def test_every_kind_of_callable_is_awaited(clock: VirtualClock, func: object):
    circuit = breaker(clock)
    assert await circuit.call(func, 3) == await circuit.execute(func, 3) == 3


# Decorators and names


async def test_the_decorator_guards_by_a_breaker_of_that_name(clock: VirtualClock):
    @circuit_breaker("test-use-a", failure_threshold=2, success_threshold=1)
    async def charge(amount: int, *, fail: bool = False) -> int:
        """Charge."""
        if fail:
            raise ConnectionError
        return amount

    circuit = charge.circuit_breaker
    assert circuit.name == "test-use-a"
    assert circuit is not get_circuit_breaker("test-use-a")
    assert (circuit.failure_threshold, circuit.recovery_timeout, circuit.success_threshold) == (2, 60.0, 1)
    assert (charge.__name__, charge.__doc__) == ("charge", "Charge.")
    assert inspect.iscoroutinefunction(charge)
    assert list(inspect.signature(charge).parameters) == ["amount", "fail"]
    assert await charge(3) == 3
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await charge(3, fail=True)
    assert circuit.state is CircuitState.OPEN
    assert circuit.get_metrics()["failed_requests"] == 2


async def test_a_decorated_method_gets_its_self():
    class Client:
        @with_circuit_breaker(CircuitBreaker("client"))
        async def get(self, value: int) -> tuple[object, int]:
            return self, value

    client = Client()
    assert await client.get(3) == (client, 3)
    assert Client.get.circuit_breaker.name == "client"


@pytest.mark.parametrize("func", [lambda: 1, plain, functools.partial(plain, 1)])
def test_a_decorator_refuses_what_is_not_async(func: object):
    with pytest.raises(TypeError, match="Circuit breaker decorator can only be applied to async functions"):
        circuit_breaker("test-use-b")(func)


def test_a_decorator_refuses_an_async_generator():
    async def stream() -> object:
        yield 1

    with pytest.raises(TypeError, match="async generator"):
        with_circuit_breaker(CircuitBreaker())(stream)


def test_a_rate_rule_in_the_decorator_is_not_spoilt_by_the_default_threshold():
    @circuit_breaker("test-use-c", window=100, failure_rate=0.5)
    async def charge() -> None: ...

    assert charge.circuit_breaker.failure_threshold is None


def test_an_unknown_keyword_is_refused():
    with pytest.raises(ValueError, match="failures"):
        circuit_breaker("test-use-d", failures=3)


async def test_the_manager_makes_each_name_once():
    manager = CircuitBreakerManager()
    one = manager.get_or_create("a", failure_threshold=1)
    assert manager.get_or_create("a") is one
    assert manager.get_or_create("b", config=CircuitConfig(failure_threshold=7)).failure_threshold == 7
    assert one.failure_threshold == 1
    await fail(one)
    assert manager.get_open_circuits() == ["a"]
    assert {name: metrics["state"] for name, metrics in manager.get_all_metrics().items()} == {
        "a": "open",
        "b": "closed",
    }
    await manager.reset_all()
    assert manager.get_open_circuits() == []


def test_fields_for_a_breaker_that_exists_are_logged_where_they_differ(caplog: pytest.LogCaptureFixture):
    manager = CircuitBreakerManager()
    one = manager.get_or_create("a", failure_threshold=1)
    with caplog.at_level(logging.WARNING, "aioresilience"):
        assert manager.get_or_create("a", failure_threshold=1) is one
        assert not caplog.messages
        assert manager.get_or_create("a", failure_threshold=9) is one
    assert "failure_threshold=9 is not applied" in caplog.text


def test_config_and_fields_together_are_refused():
    with pytest.raises(TypeError, match="not both"):
        CircuitBreakerManager().get_or_create("a", config=CircuitConfig(), failure_threshold=1)


# Threads


def test_eight_threads_with_their_own_loops_make_exactly_the_probes_there_are(clock: VirtualClock):
    circuit = breaker(clock, half_open_max_calls=5, success_threshold=1_000_000)
    circuit.machine.fail(circuit.machine.ticket, clock.monotonic(), None)
    clock.move(10.0)
    under_way = most = admitted = 0
    lock, gate = threading.Lock(), threading.Barrier(8)

    async def probe() -> None:
        nonlocal under_way, most, admitted
        with lock:
            under_way += 1
            admitted += 1
            most = max(most, under_way)
        await asyncio.sleep(0)
        with lock:
            under_way -= 1

    async def many() -> None:
        for _ in range(50):
            await asyncio.gather(*(circuit.call(probe) for _ in range(5)), return_exceptions=True)

    def run() -> None:
        gate.wait()
        asyncio.run(many())

    _in_threads(run)
    counts = circuit.counts
    assert most <= 5
    assert circuit.half_open_calls == 0
    assert circuit.machine.successes == counts.succeeded == counts.started == admitted
    assert admitted + sum(counts.rejected.values()) == 8 * 50 * 5


def test_eight_threads_lose_no_outcome(clock: VirtualClock):
    circuit = breaker(clock, failure_threshold=None, window=10**9, failure_rate=1.0, minimum_calls=10**9)

    def run() -> None:
        for number in range(5_000):
            ticket = circuit.admit(None)
            if number % 10:
                circuit.settle(ticket, SUCCESS, 0.0)
            else:
                circuit.machine.fail(ticket, 0.0, None)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        _in_threads(run)
    finally:
        sys.setswitchinterval(interval)
    assert circuit.machine.totals(0.0) == (40_000, 4_000, 0)


def test_changes_made_by_many_threads_are_told_in_order(clock: VirtualClock, monkeypatch: pytest.MonkeyPatch):
    circuit, told = breaker(clock), []
    monkeypatch.setattr(circuit, "listening", lambda: True)
    monkeypatch.setattr(circuit.events, "handlers", {})
    monkeypatch.setattr(sys.modules[Circuit.__module__], "CircuitBreakerEvent", lambda *fields: told.append(fields))

    def run() -> None:
        for _ in range(200):
            circuit.force_open("x")
            circuit.release()

    _in_threads(run)
    changes = [fields[5:7] for fields in told if fields[5] is not fields[6]]
    assert changes
    assert all(one[1] is two[0] for one, two in itertools.pairwise(changes))
    assert not circuit.machine.notes


def _in_threads(run: object) -> None:
    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# Cancellation


async def _steps(clock: VirtualClock) -> None:
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.mark.parametrize("state", ["closed", "half_open"])
@pytest.mark.parametrize("timeout", [None, 5.0])
@pytest.mark.parametrize("again", [None, 0, 1, 2])
@pytest.mark.parametrize("step", range(8))
async def test_a_cancel_at_any_step_leaks_nothing(
    clock: VirtualClock, state: str, timeout: float | None, again: int | None, step: int
):
    circuit = await (half_open(clock, timeout=timeout) if state == "half_open" else _closed(clock, timeout))
    circuit.events.add_handler("*", lambda event: asyncio.sleep(0))
    others = await start(circuit, ok, 3)
    task = asyncio.create_task(circuit.call(_steps, clock))
    for _ in range(step):
        await asyncio.sleep(0)
    cancelled = task.cancel()
    for _ in range(again or 0):
        await asyncio.sleep(0)
    if again is not None:
        task.cancel()
    result = (await asyncio.gather(task, return_exceptions=True))[0]
    if cancelled and step == 0:
        assert isinstance(result, asyncio.CancelledError)
    await asyncio.gather(*others, return_exceptions=True)
    counts = circuit.counts
    assert counts.started == counts.succeeded + counts.failed + counts.neutral
    assert (circuit.half_open_calls, clock.pending) == (0, 0)
    assert circuit.state in (CircuitState.CLOSED, CircuitState.HALF_OPEN)
    assert await circuit.call(ok) == "ok"
    await clock.advance(0)
    await clock.advance(0)


async def _closed(clock: VirtualClock, timeout: float | None) -> CircuitBreaker:
    return breaker(clock, timeout=timeout)


async def test_an_observed_breaker_cuts_nothing_and_says_what_it_would_have_cut():
    clock, answered = VirtualClock(), asyncio.Event()
    circuit = breaker(clock, timeout=5.0, mode="observe")
    (task,) = await start(circuit, answered.wait)
    await clock.advance(6.0)
    answered.set()
    assert await task is True
    assert circuit.counts.observed == 1


async def test_a_cancel_is_never_swallowed(clock: VirtualClock):
    circuit = await half_open(clock, timeout=5.0)
    tasks = await start(circuit, forever)
    tasks[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    assert tasks[0].cancelled()


async def test_a_coroutine_destroyed_at_its_await_gives_its_place_back(clock: VirtualClock):
    circuit = await half_open(clock)
    call = circuit.call(forever)
    call.send(None)
    assert circuit.half_open_calls == 1
    call.close()
    assert circuit.half_open_calls == 0


# Cost


class CountingClock(VirtualClock):
    reads = 0

    def monotonic(self) -> float:
        self.reads += 1
        return super().monotonic()


@pytest.mark.parametrize("fields", [{}, {"window": 100, "failure_rate": 0.5}])
async def test_a_success_while_closed_reads_no_clock(fields: dict[str, object]):
    clock = CountingClock()
    circuit = CircuitBreaker(config=CircuitConfig(**fields), clock=clock)
    for _ in range(10):
        circuit.settle(circuit.admit(None), SUCCESS, 0.0)
    assert clock.reads == 0
    assert circuit.machine.window.calls == 10


@pytest.mark.parametrize("window", [None, 100, "30s"])
def test_a_success_while_closed_leaves_no_object_behind(clock: VirtualClock, window: object):
    fields = {} if window is None else {"window": window}
    circuit = CircuitBreaker(config=CircuitConfig(**fields), clock=clock)
    circuit.settle(circuit.admit(None), SUCCESS, 0.0)
    gc.collect()
    gc.disable()
    try:
        before = gc.get_count()[0]
        for _ in range(1_000):
            circuit.settle(circuit.admit(None), SUCCESS, 0.0)
        assert gc.get_count()[0] - before < 20
    finally:
        gc.enable()


async def test_no_error_is_kept_once_a_call_ended(clock: VirtualClock):
    circuit = breaker(clock, failure_threshold=100)

    class Big(Exception):
        pass

    async def fails() -> None:
        raise Big

    with pytest.raises(Big):
        await circuit.call(fails)
    gc.collect()
    assert not [thing for thing in gc.get_objects() if type(thing) is Big]


def test_a_field_of_a_breaker_from_a_file_is_refused_only_for_what_it_makes_futile_itself():
    block = "{timeout: 1s, slow_call_rate: 50%, slow_call_duration: 2s, failure_threshold: 5}"
    registry = Registry.from_text(f"{{version: 1, policies: {{p: {{circuit_breaker: {block}}}}}}}")
    breaker = registry.get("p").circuit_breaker
    breaker.failure_threshold = 3
    assert (breaker.failure_threshold, breaker.slow_call_duration) == (3, 2.0)
    with pytest.raises(ValueError, match="slow_call_duration: a call is cut after 1s"):
        breaker.slow_call_duration = 3.0
    with pytest.raises(ValueError, match="minimum_calls: the window never holds more than 5 calls"):
        breaker.window = 5
    breaker.slow_call_duration = 1.0
    with pytest.raises(ValueError, match="slow_call_duration: a call is cut after 500ms"):
        breaker.timeout = 0.5
    assert (breaker.slow_call_duration, breaker.timeout) == (1.0, 1.0)
