"""Eight threads, each with a loop of its own, on one pattern: caps are exact, nothing is lost, counts add up."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest

from aioresilience.circuit_breaker import CircuitBreaker, CircuitConfig, CircuitState
from aioresilience.exceptions import RejectionError
from aioresilience.policy import BUILTIN, Policy
from aioresilience.retry import RetryBudget, RetryConfig, RetryPolicy
from tests.contract.stacks import GUARDS, HOLDERS, at_rest, class_of, key_of

THREADS = 8
CAP = 37
EXACT = {
    "load_shedder": {"max_requests": CAP},
    "backpressure": {"max_pending": 500, "high_water_mark": CAP, "low_water_mark": 5, "timeout": 0.0},
    "circuit_breaker": {"failure_threshold": 1, "recovery_timeout": 1e-9, "half_open_max_calls": CAP},
    "rate_limiter": {"rate": {"permits": CAP, "per": 1e6}},
    "adaptive_concurrency": {"initial_limit": CAP, "min_limit": 1, "max_limit": CAP},
    "bulkhead": {"max_concurrent": CAP},
}
WAITING = {
    "backpressure": {"max_pending": 5000, "high_water_mark": CAP, "low_water_mark": 30, "timeout": 30.0},
    "bulkhead": {"max_concurrent": CAP, "max_waiting": 5000},
}


@pytest.fixture(autouse=True)
def switching() -> Iterator[None]:
    """Let threads take turns as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def build(key: str, **changes: object):
    cls = class_of(key)
    pattern = cls(name="p", config=cls.config_type(**{**EXACT[key], **changes}))
    if key == "circuit_breaker":
        pattern.machine.fail(pattern.machine.ticket, pattern.clock.monotonic(), None)
        pattern.retune(pattern.config.model_copy(update={"half_open_timeout": None}))
    return pattern


def in_threads(work: Callable[[int], Awaitable[object]]) -> None:
    """Run the coroutine function in eight threads at once; raise what any of them raises."""
    errors: list[BaseException] = []
    begin = threading.Barrier(THREADS)

    def body(number: int) -> None:
        begin.wait()
        try:
            asyncio.run(asyncio.wait_for(work(number), 60))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=body, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"


class Gauge:
    """How many are inside at once, seen from outside of the pattern."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = self.peak = self.total = 0

    async def hold(self, until: threading.Event) -> None:
        self.enter()
        try:
            async with asyncio.timeout(60):
                while not until.is_set():
                    await asyncio.sleep(0.001)
        finally:
            self.leave()

    async def pass_by(self, turns: int) -> None:
        self.enter()
        try:
            for _ in range(turns):
                await asyncio.sleep(0)
        finally:
            self.leave()

    def enter(self) -> None:
        with self.lock:
            self.inside += 1
            self.total += 1
            self.peak = max(self.peak, self.inside)

    def leave(self) -> None:
        with self.lock:
            self.inside -= 1


def test_every_guard_has_a_cap_here():
    assert set(EXACT) == {cls.key for cls in GUARDS}


@pytest.mark.parametrize("cls", GUARDS, ids=key_of)
@pytest.mark.parametrize("fused", [True, False], ids=["policy", "alone"])
def test_exactly_so_many_are_let_in(cls, fused):
    pattern, gauge, go = build(cls.key), Gauge(), threading.Event()
    call = Policy("mine", [pattern]).call if fused else pattern.execute
    refused, lock = 0, threading.Lock()

    async def one() -> None:
        nonlocal refused
        try:
            await call(gauge.hold, go)
        except RejectionError:
            with lock:
                refused += 1

    async def crowd(number: int) -> None:
        await asyncio.gather(*(decided(one(), gauge, lambda: refused, go) for _ in range(40)))

    in_threads(crowd)
    assert gauge.total == gauge.peak == CAP
    assert refused == THREADS * 40 - CAP == sum(pattern.counts.rejected.values())
    assert pattern.counts.started == pattern.counts.succeeded == CAP
    at_rest(pattern)


async def decided(work: Awaitable[None], gauge: Gauge, refused: Callable[[], int], go: threading.Event) -> None:
    """Let everybody out once each caller is either inside or refused."""
    task = asyncio.ensure_future(work)
    async with asyncio.timeout(60):
        while not task.done():
            if gauge.total + refused() >= THREADS * 40:
                go.set()
            await asyncio.wait([task], timeout=0.002)
    await task


@pytest.mark.parametrize("cls", HOLDERS, ids=key_of)
@pytest.mark.parametrize("fused", [True, False], ids=["policy", "alone"])
def test_a_cap_holds_through_thousands_of_calls(cls, fused):
    pattern, gauge = build(cls.key), Gauge()
    call = Policy("mine", [pattern]).call if fused else pattern.execute
    refused, lock = 0, threading.Lock()

    async def caller(number: int) -> None:
        nonlocal refused
        for turn in range(25):
            try:
                await call(gauge.pass_by, (number + turn) % 4)
            except RejectionError:
                with lock:
                    refused += 1

    async def crowd(number: int) -> None:
        await asyncio.gather(*(caller(number + each) for each in range(12)))

    in_threads(crowd)
    assert gauge.peak <= CAP
    assert gauge.total + refused == THREADS * 12 * 25
    assert pattern.counts.started == gauge.total
    assert sum(pattern.counts.rejected.values()) == refused
    at_rest(pattern)


@pytest.mark.parametrize("key", sorted(WAITING))
def test_who_waits_is_woken_on_whatever_loop_and_the_cap_holds(key):
    pattern, gauge = build(key, **WAITING[key]), Gauge()

    async def crowd(number: int) -> None:
        await asyncio.gather(*(pattern.execute(gauge.pass_by, each % 5) for each in range(150)))

    in_threads(crowd)
    assert gauge.total == THREADS * 150, "everybody was served"
    assert gauge.peak <= CAP
    assert pattern.counts.delayed > 0
    at_rest(pattern)


@pytest.mark.parametrize("key", sorted(WAITING))
def test_cancelled_waiters_of_other_loops_lose_no_place(key):
    pattern, gauge = build(key, **WAITING[key]), Gauge()

    async def crowd(number: int) -> None:
        tasks = [asyncio.ensure_future(pattern.execute(gauge.pass_by, 3)) for _ in range(120)]
        for step, task in enumerate(tasks):
            if step % 3 == 0:
                task.cancel()
            if step % 7 == 0:
                await asyncio.sleep(0)
        await asyncio.wait(tasks)

    in_threads(crowd)
    assert gauge.peak <= CAP
    assert gauge.inside == 0
    at_rest(pattern)


@pytest.mark.parametrize("cls", HOLDERS, ids=key_of)
def test_retuning_from_a_thread_of_its_own_loses_no_place(cls):
    pattern, gauge, done = build(cls.key), Gauge(), threading.Event()
    wide = pattern.config
    narrow = type(wide)(**{**EXACT[cls.key], **NARROW[cls.key]})

    def retunes() -> None:
        while not done.is_set():
            pattern.retune(narrow)
            pattern.retune(wide)

    thread = threading.Thread(target=retunes)
    thread.start()

    async def crowd(number: int) -> None:
        for _ in range(25):
            await asyncio.gather(*(pattern.execute(gauge.pass_by, 2) for _ in range(8)), return_exceptions=True)

    try:
        in_threads(crowd)
    finally:
        done.set()
        thread.join()
    assert gauge.peak <= CAP
    assert pattern.counts.started == gauge.total
    at_rest(pattern)


NARROW = {
    "load_shedder": {"max_requests": 3},
    "backpressure": {"high_water_mark": 3, "low_water_mark": 1},
    "adaptive_concurrency": {"max_limit": 3, "initial_limit": 3},
    "bulkhead": {"max_concurrent": 3},
}


@pytest.mark.parametrize("places", [1, 5])
def test_probes_are_exact_in_every_round(places):
    """Eight threads race for the probes of one breaker, round after round; a failed probe opens it again."""
    config = CircuitConfig(
        failure_threshold=1, recovery_timeout=1e-9, half_open_max_calls=places, half_open_timeout=None
    )
    breaker, gauge = CircuitBreaker("p", config), Gauge()

    async def probe() -> None:
        await gauge.pass_by(2)
        raise ConnectionError

    async def crowd(number: int) -> None:
        for _ in range(20):
            await asyncio.gather(*(breaker.call(probe) for _ in range(10)), return_exceptions=True)

    breaker.machine.fail(breaker.machine.ticket, breaker.clock.monotonic(), None)
    in_threads(crowd)
    assert breaker.half_open_calls == 0 or breaker.state is CircuitState.HALF_OPEN
    assert gauge.total > places
    at_rest(breaker)


def test_a_retry_budget_is_exact():
    budget = RetryBudget(ratio=0.1, min_per_second=0.0, window=10_000.0)
    retry = RetryPolicy(RetryConfig(max_attempts=2, initial_delay=0.0, max_delay=0.0, budget=budget), name="p")
    calls, lock = 0, threading.Lock()

    async def fails() -> None:
        nonlocal calls
        with lock:
            calls += 1
        raise ConnectionError

    async def crowd(number: int) -> None:
        await asyncio.gather(*(retry.execute(fails) for _ in range(200)), return_exceptions=True)

    in_threads(crowd)
    assert THREADS * 200 < calls <= THREADS * 200 * 1.1
    assert calls - THREADS * 200 == retry.metrics.total_attempts - THREADS * 200
    at_rest(retry)


def test_a_whole_stack_serves_eight_threads():
    stack = []
    for cls in BUILTIN:
        fields = {**EXACT, **WAITING}.get(cls.key, {})
        fields = {"rate": "1000000/second"} if cls.key == "rate_limiter" else fields
        fields = {"failure_rate": 0.99, "window": 100} if cls.key == "circuit_breaker" else fields
        fields = {"initial_delay": 0.0, "max_attempts": 2} if cls.key == "retry" else fields
        fields = {"max_requests": 10_000} if cls.key == "load_shedder" else fields
        fields = {"initial_limit": 10_000, "max_limit": 10_000} if cls.key == "adaptive_concurrency" else fields
        stack.append(cls(name="p", config=cls.config_type(**fields)))
    policy, gauge = Policy("mine", stack), Gauge()

    async def work(number: int) -> int:
        await gauge.pass_by(number % 3)
        if number % 10 == 0:
            raise ConnectionError
        return number

    async def crowd(number: int) -> None:
        results = await asyncio.gather(*(policy.call(work, each) for each in range(100)))
        assert [r for r in results if r is not None] == [each for each in range(100) if each % 10]

    in_threads(crowd)
    assert gauge.peak <= CAP
    for pattern in stack:
        at_rest(pattern)
