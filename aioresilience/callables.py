"""Whatever can be called: told apart once, awaited exactly once.

Coroutine functions run on the loop; a plain function runs in a worker thread, and what it returns is awaited if it is
awaitable.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from types import FunctionType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., object])

_COROUTINE = inspect.CO_COROUTINE
_MARK = getattr(asyncio.coroutines, "_is_coroutine", object())
"""By which asyncio lets an object say that calling it gives a coroutine; mocks have an attribute of every name."""


class WorkerRunningError(asyncio.CancelledError):
    """The caller was cancelled while its plain function still runs in a thread."""

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self.worker = worker


class Worker:
    """One plain function in one thread, with an end that others can wait for."""

    __slots__ = ("_callbacks", "_given_up", "_lock", "_result", "_state", "_work")

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], object]] = []
        self._state = "waiting"
        self._given_up = False
        self._result: object = None

    def run(self) -> object:
        """Run in the thread, unless the caller gave up before a thread was free."""
        with self._lock:
            if self._given_up:
                return None
            self._state = "running"
        try:
            self._result = self._work()
            return self._result
        except StopIteration as error:  # a future refuses it, and its caller would wait for ever
            raise RuntimeError("the function raised StopIteration") from error
        finally:
            self._finish()

    def abandon(self) -> bool:
        """Give up; return whether the function runs on regardless."""
        with self._lock:
            self._given_up = True
            self._drop_result()
            return self._state == "running"

    def when_done(self, callback: Callable[[], object]) -> None:
        """Call back from the thread at its end, at once if it has ended."""
        with self._lock:
            if self._state == "running":
                self._callbacks.append(callback)
                return
        callback()

    def _finish(self) -> None:
        with self._lock:
            self._state = "done"
            self._drop_result()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def _drop_result(self) -> None:
        """Close a coroutine that came back to nobody, so that it warns of nothing; the caller holds the lock."""
        if self._state == "done" and self._given_up and inspect.iscoroutine(self._result):
            self._result.close()


def unfinished_worker(error: BaseException | None) -> Worker | None:
    """Find the thread that outlives a cut call, through the errors that our own scopes made of the cancel."""
    while error is not None:
        if isinstance(error, WorkerRunningError):
            return error.worker
        error = error.__cause__
    return None


def is_coroutine_callable(func: Callable[..., object]) -> bool:
    """Tell whether calling `func` gives a coroutine: partials, methods and objects with async `__call__` included."""
    if type(func) is FunctionType and func.__code__.co_flags & _COROUTINE:
        return True
    while isinstance(func, functools.partial):
        func = func.func
    if inspect.iscoroutinefunction(func) or getattr(func, "_is_coroutine", None) is _MARK:
        return True
    call = getattr(type(func), "__call__", None)  # noqa: B004  # what it is, not whether it is there
    return not inspect.isroutine(func) and inspect.iscoroutinefunction(call)


def in_worker(func: Callable[..., object]) -> Callable[..., Awaitable[object]]:
    """Make a coroutine function of a plain one."""

    async def run(*args: object, **kwargs: object) -> object:
        context = contextvars.copy_context()
        worker = Worker(lambda: context.run(func, *args, **kwargs))
        try:
            result = await asyncio.get_running_loop().run_in_executor(None, worker.run)
        except asyncio.CancelledError as error:
            if worker.abandon():
                raise WorkerRunningError(worker) from error
            raise
        return await result if inspect.isawaitable(result) else result

    return run


def awaitable(func: Callable[..., object]) -> Callable[..., Awaitable[object]]:
    """Return `func` itself if it is a coroutine function, else a form of it that runs in a worker thread."""
    if is_coroutine_callable(func):
        return func  # type: ignore[return-value]  # told apart at run time
    if not callable(func):
        raise TypeError(f"expected a function, got {type(func).__name__}; pass the function, not what it returns")
    if _generates(func):
        raise TypeError(_generator_refused(func))
    return in_worker(func)


@contextlib.contextmanager
def as_function(
    awaitable_or_func: Awaitable[T] | Callable[..., Awaitable[T]],
) -> Iterator[Callable[..., Awaitable[T]]]:
    """Give a function for what is either one already or an awaitable to be awaited once.

    A coroutine that nobody came to await is closed at the end, so that it warns of nothing.
    """
    if not inspect.isawaitable(awaitable_or_func):
        yield awaitable_or_func
        return

    async def once() -> T:
        return await awaitable_or_func

    try:
        yield once
    finally:
        if inspect.iscoroutine(awaitable_or_func):
            awaitable_or_func.close()


def require_async(func: Callable[..., object], decorator: str) -> None:
    """Refuse what a decorator cannot guard: plain functions and async generator functions."""
    if _generates(func):
        raise TypeError(_generator_refused(func))
    if not is_coroutine_callable(func):
        raise TypeError(
            f"{decorator} can only be applied to async functions, and {name_of(func)} is not one: "
            f"make it 'async def', or pass it to call(), which runs plain functions in a worker thread"
        )


def wraps(func: Callable[..., object]) -> Callable[[F], F]:
    """Make a wrapper look like `func`, as functools.wraps does; what annotations name is looked up beside `func`.

    Frameworks that read annotations written as text through the wrapper (FastAPI before 0.124) look beside the wrapper.
    """

    def apply(wrapper: F) -> F:
        functools.update_wrapper(wrapper, func)
        if any(isinstance(note, str) for note in getattr(func, "__annotations__", {}).values()):
            with contextlib.suppress(Exception):  # a name that only type checkers import, or that comes later
                wrapper.__signature__ = inspect.signature(func, eval_str=True)  # type: ignore[attr-defined]
        return wrapper

    return apply


def decorate(
    func: Callable[P, Awaitable[T]], execute: Callable[..., Awaitable[T]], decorator: str
) -> Callable[P, Coroutine[object, object, T]]:
    """Wrap an async function so that every call goes through `execute(func, *args, **kwargs)`; keep its signature."""
    require_async(func, decorator)

    @wraps(func)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        return await execute(func, *args, **kwargs)

    return wrapper


def _generates(func: Callable[..., object]) -> bool:
    return inspect.isasyncgenfunction(func) or inspect.isasyncgenfunction(getattr(type(func), "__call__", None))  # noqa: B004


def _generator_refused(func: Callable[..., object]) -> str:
    return (
        f"{name_of(func)} is an async generator function, whose call never ends as one result: "
        f"guard the call that it makes inside, or wrap the loop in 'async with policy.admit():'"
    )


def name_of(func: object) -> str:
    """Name a callable as people know it."""
    while isinstance(func, functools.partial):
        func = func.func
    return str(getattr(func, "__qualname__", None) or type(func).__name__)
