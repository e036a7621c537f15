"""Bounds in time: deadlines that nested calls inherit, and the timers that cut a call short.

The rules of `Scope` are those of `asyncio.timeout` (CPython 3.11): a cancel from outside is never swallowed, and only
the cancel that the scope asked for itself is turned into a timeout.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar, Token
from typing import Final

from aioresilience.clock import SYSTEM_CLOCK, Clock
from aioresilience.timers import TimerQueue

STALL_SECONDS = 0.05
STALL_SHARE = 0.1
STALL_GRACE = 0.02


_current: ContextVar[Scope | None] = ContextVar("aioresilience_scope", default=None)


class _Nowhere:
    clock: Clock = SYSTEM_CLOCK
    is_deadline = False
    on_stall: Callable[[float], None] | None = None


_NO_LOOP: Final = TimerQueue(_Nowhere(), None)
"""The queue of no loop, whose task is None."""


class Timeline:
    """What the scopes of one bound have in common, and the one timer per loop that serves them all.

    Scopes of one length end in the order in which they began, so only the first of them needs a timer. A scope that
    ends before the one before it gets a timer of its own.
    """

    __slots__ = ("_queue", "_queues", "clock", "is_deadline", "on_stall")

    _queue: TimerQueue
    """The last one used."""

    def __init__(
        self, *, clock: Clock, is_deadline: bool = False, on_stall: Callable[[float], None] | None = None
    ) -> None:
        self.clock = clock
        self.is_deadline = is_deadline
        self.on_stall = on_stall
        self._queue = _NO_LOOP
        self._queues: tuple[TimerQueue, ...] = ()
        """One for each loop; of one that another thread overwrites, the scopes that it has go on."""

    def open(self, limit: float) -> Scope:
        """Bound what the running task does from now until `Scope.leave` to so many seconds."""
        queue = self._queue
        task = queue.task()
        if task is None:
            queue, task = self._arrive()
        scope = Scope()
        scope.opened = now = self.clock.monotonic()
        scope.when = when = now + limit
        scope.expired = scope.stalled = False
        scope._task = task
        scope._cancelling = task.cancelling()
        scope._token = _current.set(scope)
        scope._queue = queue
        queue.add(scope, when)
        return scope

    def here(self) -> tuple[TimerQueue, asyncio.Task[object]]:
        """Return the queue of the running loop, for whatever else takes time, and the running task."""
        queue = self._queue  # read once: a thread with another loop may put its own there at any moment
        task = queue.task()
        return self._arrive() if task is None else (queue, task)

    def _arrive(self) -> tuple[TimerQueue, asyncio.Task[object]]:
        """Return the queue of the running loop and the running task, and keep the queue at hand."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("a timeout needs a running task: call it from a coroutine that runs in one")
        queue = self._queue
        if queue.loop_ref is None or queue.loop_ref() is not loop:
            queue = self._queue = self.queue(loop)
        return queue, task

    def queue(self, loop: asyncio.AbstractEventLoop) -> TimerQueue:
        """Return the queue of a loop."""
        for queue in self._queues:
            if queue.loop is loop:
                return queue
        queue = TimerQueue(self, loop)
        self._queues = (*(one for one in self._queues if not one.is_over), queue)
        return queue


class Scope:
    """A bound on what runs inside it, on one task; `Timeline.open` makes it.

    `opened` and `when` are monotonic instants, its begin and its end. `expired` is set before the task is cancelled, so
    that guards inside can tell our cut from a foreign cancel; `stalled` says that the loop, not the work, was late.
    """

    __slots__ = (
        "_cancelling", "_queue", "_task", "_token", "expired", "opened", "stalled", "when",
    )  # fmt: skip

    opened: float
    when: float
    expired: bool
    stalled: bool
    _queue: TimerQueue
    _task: asyncio.Task[object] | None
    _cancelling: int
    _token: Token[Scope | None]

    @property
    def task(self) -> asyncio.Task[object]:
        """The task that runs inside, until the scope is left."""
        assert self._task is not None
        return self._task

    @property
    def parent(self) -> Scope | None:
        """The scope around this one."""
        around = self._token.old_value
        return None if around is Token.MISSING else around

    @property
    def is_deadline(self) -> bool:
        """Whether the bound is one of the whole call, which nested calls inherit."""
        return self._queue.line.is_deadline

    @property
    def deadline(self) -> float | None:
        """The nearest deadline among this scope and those around it."""
        nearest = None
        scope: Scope | None = self
        while scope is not None:
            if scope.is_deadline and scope.when < math.inf:
                nearest = scope.when if nearest is None else min(scope.when, nearest)
            scope = scope.parent
        return nearest

    def leave(self, error: BaseException | None) -> bool:
        """Stop the timer; return whether `error` is the cancel that this scope asked for."""
        self._queue.remove(self)
        try:
            _current.reset(self._token)
        except ValueError:  # left in another context, as an async generator's clean-up may be: ours sees it still
            self.when = math.inf
        ours = self._asked(error) if self.expired else False
        self._task = None  # a background task that inherited this scope must not pin this one
        return ours

    def _asked(self, error: BaseException | None) -> bool:
        """Take the cancel of this scope back; tell whether it is what ended the work."""
        self.expired = False
        return self.task.uncancel() <= self._cancelling and isinstance(error, asyncio.CancelledError)

    def fire(self) -> None:
        """Cut the work, unless the timer is so late that the loop must have stood still: then grant it a moment."""
        line = self._queue.line
        now = line.clock.monotonic()
        late = now - self.when
        if not self.stalled and late > max(STALL_SECONDS, STALL_SHARE * (self.when - self.opened)):
            self.stalled = True
            self._queue.ring(self, now + STALL_GRACE)
            if line.on_stall is not None:
                line.on_stall(late)
            return
        self.expired = True
        self.task.cancel()


def cut_by() -> Scope | None:
    """Return the innermost scope around this code that has expired, None if none has."""
    scope = _current.get()
    while scope is not None and not scope.expired:
        scope = scope.parent
    return scope


def current_deadline() -> float | None:
    """Return the nearest deadline around this code as an instant of the monotonic clock, None without one.

    Subtract the clock's `monotonic()` to get the seconds left, for a header that forwards them.
    """
    scope = _current.get()
    return None if scope is None else scope.deadline


@contextlib.contextmanager
def detached_deadline() -> Iterator[None]:
    """Run work that must outlive the caller, such as a background task, without the caller's deadline."""
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)


async def sleep(delay: float, clock: Clock = SYSTEM_CLOCK) -> None:
    """Wait `delay` seconds of `clock`; cancelling leaves no timer behind."""
    if delay <= 0:
        await asyncio.sleep(0)
        return
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    timer = clock.call_at(loop, clock.monotonic() + delay, lambda: _wake(future))
    try:
        await future
    finally:
        timer.cancel()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
