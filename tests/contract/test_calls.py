"""One call through each pattern: counted once, awaited once, its error its own, its cancel its own."""

from __future__ import annotations

import asyncio
import functools
import inspect
import random
import threading
import time
from unittest.mock import AsyncMock

import pytest

from aioresilience.circuit_breaker import CircuitBreaker, CircuitConfig
from aioresilience.exceptions import RejectionError
from aioresilience.policy import Policy
from aioresilience.retry import RetryConfig, RetryPolicy
from aioresilience.scope import sleep
from aioresilience.testing import VirtualClock
from aioresilience.timeout import TimeoutConfig, TimeoutManager
from tests.contract.stacks import BOUNDS, EVERY, HOLDERS, at_rest, fail, finished, key_of, make, ok, turns

PATTERN = pytest.mark.parametrize("cls", EVERY, ids=key_of)


# Counts


async def slow(clock: VirtualClock) -> None:
    await sleep(100, clock)


@PATTERN
@pytest.mark.parametrize("seed", range(6))
async def test_counts_reconcile_however_calls_end(cls, seed):
    clock, dice = VirtualClock(), random.Random(seed)
    pattern = make(cls, clock)
    made, refused, tasks = 0, 0, []
    for _ in range(60):
        made += 1
        work = dice.choice([(ok,), (fail,), (sleep, 100, clock), (sleep, 1, clock), (rejected_inside,)])
        tasks.append(asyncio.ensure_future(pattern.execute(*work)))
        if dice.random() < 0.3:
            dice.choice(tasks).cancel()
        if dice.random() < 0.6:
            await clock.advance(dice.choice([0, 0.3, 1, 15]))
    tasks[-1].cancel()
    for task in tasks:
        if dice.random() < 0.5:
            task.cancel()
    await clock.advance(500)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    refused = sum(isinstance(r, RejectionError) and r.pattern_name == "p" for r in results)
    assert sum(pattern.counts.rejected.values()) == refused
    assert pattern.counts.started <= made - refused
    at_rest(pattern)
    assert clock.pending == 0 or cls in BOUNDS  # a bound's one timer runs out by itself
    await clock.advance(500)
    assert clock.pending == 0


async def rejected_inside() -> None:
    raise RejectionError("another pattern's")


@PATTERN
async def test_each_outcome_is_counted_once(cls):
    clock = VirtualClock()
    pattern = make(cls, clock)
    counts = pattern.counts
    assert await finished(pattern.execute(ok), clock) == "ok"
    assert (counts.started, counts.succeeded, counts.failed, counts.neutral) == (1, 1, 0, 0)
    cut = asyncio.ensure_future(pattern.execute(slow, clock))
    await turns()
    assert (counts.started, counts.neutral) == (1, 0), "a call is counted when it ends"
    cut.cancel()
    await asyncio.wait([cut])
    assert cut.cancelled()
    assert (counts.started, counts.succeeded, counts.failed, counts.neutral) == (2, 1, 0, 1)
    assert not any(counts.rejected.values())


@pytest.mark.parametrize("cls", [cls for cls in EVERY if cls.key != "fallback"], ids=key_of)
async def test_a_failure_is_counted_once(cls):
    clock = VirtualClock()
    pattern = make(cls, clock)
    with pytest.raises(ConnectionError):
        await finished(pattern.execute(fail), clock)
    assert (pattern.counts.started, pattern.counts.failed) == (1, 1)


# Every kind of callable


class Kinds:
    """All that can be called, each counting how often its body ran."""

    def __init__(self) -> None:
        self.ran = 0

    async def method(self, value: int) -> int:
        self.ran += 1
        await asyncio.sleep(0)
        return value

    def plain(self, value: int) -> int:
        self.ran += 1
        return value

    def returns_awaitable(self, value: int) -> object:
        return self.method(value)

    async def __call__(self, value: int) -> int:
        return await self.method(value)

    def returns_future(self, value: int) -> object:
        return Later(self, value)


class Later:
    def __init__(self, kinds: Kinds, value: int) -> None:
        self.kinds, self.value = kinds, value

    def __await__(self):
        return self.kinds.method(self.value).__await__()


def callables_of(kinds: Kinds) -> dict[str, object]:
    async def function(value: int) -> int:
        return await kinds.method(value)

    async def keyword(*, value: int) -> int:
        return await kinds.method(value)

    return {
        "async def": function,
        "bound method": kinds.method,
        "partial": functools.partial(function),
        "partial of a partial": functools.partial(functools.partial(kinds.method)),
        "partial with keyword": functools.partial(lambda value, more: kinds.method(value), more=1),
        "object with async __call__": kinds,
        "partial of such an object": functools.partial(kinds),
        "lambda": lambda value: kinds.method(value),
        "function that returns an awaitable": kinds.returns_awaitable,
        "function that returns an object with __await__": kinds.returns_future,
        "plain function": kinds.plain,
        "wrapped": functools.wraps(function)(lambda *args: function(*args)),
        "mock": AsyncMock(side_effect=kinds.method),
        "keywords only": functools.partial(lambda value: keyword(value=value)),
    }


KINDS = list(callables_of(Kinds()))


@PATTERN
@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_callable_is_awaited_exactly_once(cls, kind):
    clock, kinds = VirtualClock(), Kinds()
    func = callables_of(kinds)[kind]
    assert await make(cls, clock).execute(func, 7) == 7
    assert kinds.ran == 1
    assert await Policy("mine", [make(cls, clock)], clock=clock).call(func, 7) == 7
    assert kinds.ran == 2


@PATTERN
async def test_a_decorator_refuses_what_it_cannot_guard(cls):
    policy = Policy("mine", [make(cls, VirtualClock())])

    async def generator():
        yield 1

    with pytest.raises(TypeError, match="async def"):
        policy(lambda: 1)
    with pytest.raises(TypeError, match=r"async generator.*guard the call"):
        policy(generator)
    with pytest.raises(TypeError):
        await policy.call(generator)
    with pytest.raises(TypeError):
        await policy.call(3)


# Threads that outlive their caller


@pytest.mark.parametrize("cls", HOLDERS, ids=key_of)
async def test_the_room_of_a_plain_function_is_kept_until_its_thread_ends(cls):
    clock, go, began = VirtualClock(), threading.Event(), threading.Event()
    pattern = make(cls, clock)

    def work() -> None:
        began.set()
        go.wait(60)

    task = asyncio.ensure_future(pattern.execute(work))
    await asyncio.to_thread(began.wait, 60)
    task.cancel()
    await asyncio.wait([task], timeout=30)
    assert task.cancelled(), "its caller is cancelled at once"
    assert places_taken(pattern) == 1, "the place is still taken"
    go.set()
    async with asyncio.timeout(15):
        while places_taken(pattern):
            await asyncio.sleep(0.005)
    at_rest(pattern)


TOTALS = [cls for cls in HOLDERS if cls.key in {"bulkhead", "adaptive_concurrency"}]


def total_of(pattern):
    return (pattern.get_metrics() if pattern.key == "bulkhead" else pattern.get_stats())["total_requests"]


@pytest.mark.parametrize("cls", TOTALS, ids=key_of)
async def test_a_call_whose_thread_goes_on_without_it_is_one_request(cls):
    go, began, pattern = threading.Event(), threading.Event(), make(cls, VirtualClock())
    task = asyncio.ensure_future(pattern.execute(lambda: began.set() or go.wait(60)))
    await asyncio.to_thread(began.wait, 60)
    assert total_of(pattern) == 1
    task.cancel()
    await asyncio.wait([task])
    assert (places_taken(pattern), total_of(pattern)) == (1, 1)
    go.set()
    async with asyncio.timeout(15):
        while places_taken(pattern):
            await asyncio.sleep(0.001)
    assert (total_of(pattern), pattern.kept) == (1, 0)


class Open:
    idempotent = None

    def __init__(self, closes: bool) -> None:
        self.closes, self.close = closes, None

    def can_send(self) -> bool:
        return True

    def when_closed(self, result, close) -> bool:
        self.close = close
        return self.closes


@pytest.mark.parametrize("closes", [True, False])
@pytest.mark.parametrize("cls", TOTALS, ids=key_of)
async def test_a_call_whose_result_is_still_open_is_one_request(cls, closes):
    pattern, exchange = make(cls, VirtualClock()), Open(closes)
    policy = Policy("p", [pattern], clock=pattern.clock)
    await policy.bind(exchange=exchange).open(ok)
    assert (places_taken(pattern), total_of(pattern)) == (int(closes), 1)
    if closes:
        exchange.close()
    assert (places_taken(pattern), total_of(pattern), pattern.kept) == (0, 1, 0)


def places_taken(pattern):
    return pattern.status()["pending" if pattern.key == "backpressure" else "active"]


@pytest.mark.parametrize("cls", HOLDERS, ids=key_of)
async def test_the_room_is_kept_for_the_thread_where_the_timeout_answers_none(cls):
    clock, go, began = VirtualClock(), threading.Event(), threading.Event()
    quiet = TimeoutManager(TimeoutConfig(timeout=1.0, raise_on_timeout=False), clock=clock)
    pattern = make(cls, clock)
    policy = Policy("p", [pattern, quiet], clock=clock)

    def work():
        began.set()
        go.wait(60)

    call = asyncio.ensure_future(policy.call(work))
    await asyncio.to_thread(began.wait, 60)
    await clock.advance(2)
    assert await call is None
    assert places_taken(pattern) == 1
    go.set()
    async with asyncio.timeout(10):
        while places_taken(pattern):
            await asyncio.sleep(0.001)
    at_rest(pattern)


@pytest.mark.parametrize("late", [False, True], ids=["cancelled before the thread ends", "in the turn after its end"])
async def test_a_coroutine_that_a_thread_returns_to_nobody_is_closed(late):
    go, began, made = threading.Event(), threading.Event(), []

    def work() -> object:
        made.append(ok())
        began.set()
        go.wait(60)
        return made[0]

    pattern = make(EVERY[0], VirtualClock())
    task = asyncio.ensure_future(pattern.execute(work))
    await asyncio.to_thread(began.wait, 60)
    if late:
        go.set()
        time.sleep(0.03)  # our loop stands still: the result is there and cannot arrive
    task.cancel()
    await asyncio.wait([task])
    go.set()
    async with asyncio.timeout(15):
        while inspect.getcoroutinestate(made[0]) != inspect.CORO_CLOSED:
            await asyncio.sleep(0.01)
    assert task.cancelled()
    assert inspect.getcoroutinestate(made[0]) == inspect.CORO_CLOSED


# Signatures


@PATTERN
def test_a_decorated_function_keeps_its_name_doc_and_signature(cls):
    policy = Policy("mine", [make(cls, VirtualClock())])

    @policy
    async def answer(a: int, /, b: str = "b", *, c: float = 1.0) -> str:
        """Answer."""
        return f"{a}{b}{c}"

    assert (answer.__name__, answer.__doc__) == ("answer", "Answer.")
    assert inspect.signature(answer) == inspect.signature(answer.__wrapped__, eval_str=True)
    assert inspect.iscoroutinefunction(answer)


# Calls that never begin


async def test_a_call_whose_arguments_do_not_fit_is_not_retried_nor_held_against_the_dependency():
    clock = VirtualClock()
    retry = RetryPolicy(RetryConfig(max_attempts=3, retry_on_exceptions=(Exception,)), clock=clock)
    circuit = CircuitBreaker("c", CircuitConfig(failure_threshold=1), clock=clock)
    policy = Policy("p", [retry, circuit], clock=clock)

    async def one(argument):
        raise TypeError("from inside")

    def plain(argument):
        return argument

    for call in (policy.call(one), policy.call(one, 1, wrong=2), policy.call(plain)):
        with pytest.raises(TypeError, match="argument"):
            await call
    assert retry.tally.retries == 0
    assert circuit.counts.neutral == 3
    with pytest.raises(TypeError, match=r"one.* missing 1 required positional argument"):
        policy(one)()  # at once, as the function itself
    assert circuit.counts.started == 3
    with pytest.raises(TypeError, match="from inside"):
        await finished(policy.call(one, 1), clock)
    assert circuit.counts.failed == 1
