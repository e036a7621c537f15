import asyncio
import contextvars
import functools
import inspect
import threading
import warnings
from unittest.mock import AsyncMock, MagicMock

import pytest

from aioresilience import callables
from aioresilience.bulkhead import Bulkhead


class Counting:
    """Counts how often it was awaited."""

    def __init__(self):
        self.awaited = 0

    async def work(self, value=1):
        self.awaited += 1
        return value

    async def __call__(self, value=1):
        return await self.work(value)


class Awaitable:
    def __init__(self, counting):
        self.counting = counting

    def __await__(self):
        return self.counting.work().__await__()


def kinds(counting):
    async def function(value=1):
        return await counting.work(value)

    @functools.wraps(function)
    def wrapped(value=1):
        return function(value)

    return {
        "function": function,
        "partial": functools.partial(function, 1),
        "partial of partial": functools.partial(functools.partial(function), 1),
        "bound method": counting.work,
        "object with async __call__": counting,
        "lambda": lambda: function(1),
        "plain wrapper of an async function": wrapped,
        "returns an awaitable object": lambda: Awaitable(counting),
    }


@pytest.mark.parametrize("kind", list(kinds(Counting())))
async def test_every_kind_of_callable_is_awaited_exactly_once(kind):
    counting = Counting()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert await Bulkhead("x").execute(kinds(counting)[kind]) == 1
    assert counting.awaited == 1


async def test_a_mock_of_an_async_function_is_awaited():
    mock = AsyncMock(return_value=3)
    assert await Bulkhead("x").execute(mock, 1, a=2) == 3
    mock.assert_awaited_once_with(1, a=2)


async def test_a_mock_of_a_plain_function_is_called_like_one():
    work = MagicMock(return_value="done")
    assert await Bulkhead().execute(work, 1) == "done"
    work.assert_called_once_with(1)


async def test_a_plain_function_runs_in_a_worker_thread_with_the_callers_context():
    variable = contextvars.ContextVar("variable")
    variable.set("here")
    thread, value = await Bulkhead("x").execute(lambda: (threading.current_thread(), variable.get()))
    assert thread is not threading.current_thread()
    assert value == "here"


async def test_a_plain_function_that_raises_stop_iteration_does_not_hang():
    with pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wait_for(Bulkhead("x").execute(lambda: next(iter([]))), 60)


async def test_the_caller_of_a_plain_function_is_cancelled_at_once():
    gate, entered = threading.Event(), threading.Event()

    def work():
        entered.set()
        gate.wait(60)

    task = asyncio.create_task(Bulkhead("x").execute(work))
    async with asyncio.timeout(15):
        while not entered.is_set():
            await asyncio.sleep(0.001)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=30)
    gate.set()
    assert done
    assert task.cancelled()


async def test_what_is_not_callable_is_refused_with_a_hint():
    counting = Counting()
    coroutine = counting.work()
    with pytest.raises(TypeError, match="pass the function"):
        await Bulkhead("x").execute(coroutine)
    coroutine.close()
    with pytest.raises(TypeError, match="expected a function"):
        await Bulkhead("x").execute(5)


@pytest.mark.parametrize("func", [lambda: 1, Counting, len])
def test_a_decorator_refuses_plain_functions(func):
    with pytest.raises(TypeError, match="async"):
        callables.require_async(func, "bulkhead")


def test_a_decorator_refuses_async_generator_functions_and_says_what_to_do():
    async def stream():
        yield 1

    class Stream:
        async def __call__(self):
            yield 1

    for func in (stream, functools.partial(stream), Stream()):
        with pytest.raises(TypeError, match=r"async with policy\.admit"):
            callables.require_async(func, "bulkhead")
        with pytest.raises(TypeError, match=r"async with policy\.admit"):
            callables.awaitable(func)


def test_a_decorated_function_keeps_its_signature():
    async def work(a: int, *, b: str = "x") -> None:
        """Say it."""

    wrapped = callables.decorate(work, Bulkhead("x").execute, "bulkhead")
    assert inspect.iscoroutinefunction(wrapped)
    assert inspect.signature(wrapped) == inspect.signature(work)
    assert wrapped.__wrapped__ is work
    assert wrapped.__doc__ == "Say it."


async def test_a_function_whose_thread_never_started_is_never_called():
    called = []
    worker = callables.Worker(lambda: called.append(1))
    assert worker.abandon() is False
    assert worker.run() is None
    assert called == []


def test_a_callback_after_the_end_runs_at_once():
    worker, seen = callables.Worker(lambda: None), []
    worker.run()
    worker.when_done(lambda: seen.append(1))
    assert seen == [1]


async def test_as_function_takes_an_awaitable_or_a_function():
    counting = Counting()
    with callables.as_function(counting.work(7)) as func:
        assert await func() == 7
    with callables.as_function(counting.work) as func:
        assert func == counting.work


def test_names_are_those_people_know():
    assert callables.name_of(functools.partial(len)) == "len"
    assert callables.name_of(Counting()) == "Counting"
