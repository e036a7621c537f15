"""Bounds in time: deadlines that nested calls inherit, and the timers that cut a call short.

The rules of `Scope` are those of `asyncio.timeout` (CPython 3.11): a cancel from outside is never swallowed, and only
the cancel that the scope asked for itself is turned into a timeout.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar, Token
from threading import get_ident
from typing import Protocol
from weakref import WeakKeyDictionary

from aioresilience.clock import SYSTEM_CLOCK, Clock, Timer
from aioresilience.straight import straight

STALL_SECONDS = 0.05
STALL_SHARE = 0.1
STALL_GRACE = 0.02


class Timed(Protocol):
    """What a `TimerQueue` calls when its time has come."""

    @property
    def when(self) -> float:
        """The instant, on the monotonic clock."""

    def fire(self) -> None:
        """Act; must not raise."""


_current: ContextVar[Scope | None] = ContextVar("aioresilience_scope", default=None)


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
        self._queue = TimerQueue(self, None)
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, TimerQueue] = WeakKeyDictionary()

    def open(self, limit: float) -> Scope:
        """Bound what the running task does from now until `Scope.leave` to so many seconds."""
        queue = self._queue
        task = queue.task()
        if task is None:
            queue, task = self._arrive()
        scope = Scope()
        scope.when = when = self.clock.monotonic() + limit
        scope.expired = scope.stalled = False
        scope._duration = limit
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
        queue = self._queue = self.queue(loop)
        return queue, task

    def queue(self, loop: asyncio.AbstractEventLoop) -> TimerQueue:
        """Return the queue of a loop."""
        queue = self._queues.get(loop)
        if queue is None:
            self._drop_closed()
            queue = self._queues[loop] = TimerQueue(self, loop)
        return queue

    def _drop_closed(self) -> None:
        """Forget loops that are closed: a timer left on one would keep it alive."""
        for loop in [loop for loop in list(self._queues) if loop.is_closed()]:
            self._queues.pop(loop, None)


_running_tasks: dict[asyncio.AbstractEventLoop | None, asyncio.Task[object]] = getattr(
    asyncio.tasks, "_current_tasks", {}
)
"""The running task of each loop: what `asyncio.current_task` reads, at a tenth of its price on CPython 3.11.

Where asyncio keeps it elsewhere (3.14) it is empty, and asyncio is asked.
"""


class TimerQueue:
    """Scopes on one loop in the order of their ends, and the timer of the first.

    The timer is left to run when the first scope leaves: setting one costs more than finding nothing to do.
    """

    __slots__ = ("_last", "_live", "_loop", "_scopes", "_timer", "_timers", "line")

    def __init__(self, line: Timeline, loop: asyncio.AbstractEventLoop | None) -> None:
        self.line = line
        self._loop = None if loop is None else weakref.ref(loop)
        self._live: asyncio.BaseEventLoop | None = None
        """The loop while a timer is set, which holds it anyway; None for loops that do not tell their thread."""
        self._scopes: dict[Timed, None] = {}
        self._timer: Timer | None = None
        self._timers: dict[Timed, Timer] = {}
        """Those of scopes that have one of their own."""
        self._last = 0.0

    def task(self) -> asyncio.Task[object] | None:
        """Return the task that runs now, None where its loop is another one or has no timer here yet."""
        loop = self._live
        if loop is None or loop._thread_id != get_ident():  # type: ignore[attr-defined]  # of every BaseEventLoop
            return None
        return _running_tasks.get(loop)

    @straight
    def add(self, scope: Timed, when: float) -> None:
        """Let the scope end at its time."""
        if self._timer is None or when < self._last:
            return self._add(scope, when)
        self._last = when
        self._scopes[scope] = None
        return None

    def _add(self, scope: Timed, when: float) -> None:
        if self._timer is not None:
            return self.ring(scope, when)
        self._set(self._here(), when)
        self._last = when
        self._scopes[scope] = None
        return None

    def ring(self, scope: Timed, when: float) -> None:
        """Set a timer for one scope alone."""
        self._timers[scope] = self.line.clock.call_at(self._here(), when, scope.fire)

    def _here(self) -> asyncio.AbstractEventLoop:
        loop = None if self._loop is None else self._loop()
        assert loop is not None, "whoever calls runs on it"
        return loop

    def _set(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        self._timer = self.line.clock.call_at(loop, when, self._tick)
        self._live = loop if hasattr(loop, "_thread_id") else None  # type: ignore[assignment]  # told apart by it

    @property
    def idle(self) -> bool:
        """Whether no scope waits for its end."""
        return not self._scopes

    def remove(self, scope: Timed) -> None:
        """Forget a scope that was left."""
        try:
            del self._scopes[scope]
        except KeyError:  # it has fired, or has a timer of its own
            self._silence(scope)

    def _silence(self, scope: Timed) -> None:
        timer = self._timers.pop(scope, None)
        if timer is not None:
            timer.cancel()

    def _tick(self) -> None:
        self._timer = self._live = None
        now, loop = self.line.clock.monotonic(), None if self._loop is None else self._loop()
        while self._scopes and loop is not None:
            first = next(iter(self._scopes))
            if first.when > now:
                self._set(loop, first.when)
                return
            del self._scopes[first]
            first.fire()


class Scope:
    """A bound on what runs inside it, on one task; `Timeline.open` makes it.

    `when` is a monotonic instant. `expired` is set before the task is cancelled, so that guards inside can tell our
    cut from a foreign cancel; `stalled` says that the loop, not the work, was late.
    """

    __slots__ = (
        "_cancelling", "_duration", "_queue", "_task", "_token", "expired", "stalled", "when",
    )  # fmt: skip

    when: float
    expired: bool
    stalled: bool
    _duration: float
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
        if not self.stalled and late > max(STALL_SECONDS, STALL_SHARE * self._duration):
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
