"""Bounds in time: deadlines that nested calls inherit, and the timers that cut a call short.

The rules of `Scope` are those of `asyncio.timeout` (CPython 3.11): a cancel from outside is never swallowed, and only
the cancel that the scope asked for itself is turned into a timeout.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar, Token
from weakref import WeakKeyDictionary

from aioresilience.clock import SYSTEM_CLOCK, Clock, Timer

STALL_SECONDS = 0.05
STALL_SHARE = 0.1
STALL_GRACE = 0.02

_current: ContextVar[Scope | None] = ContextVar("aioresilience_scope", default=None)


class Timeline:
    """What the scopes of one bound have in common, and the one timer per loop that serves them all.

    Scopes of one length end in the order in which they began, so only the first of them needs a timer. A scope that
    ends before the one before it gets a timer of its own.
    """

    __slots__ = ("_queue", "_queues", "clock", "is_deadline", "on_stall")

    def __init__(
        self, *, clock: Clock, is_deadline: bool = False, on_stall: Callable[[float], None] | None = None
    ) -> None:
        self.clock = clock
        self.is_deadline = is_deadline
        self.on_stall = on_stall
        self._queue: TimerQueue | None = None
        self._queues: WeakKeyDictionary[asyncio.AbstractEventLoop, TimerQueue] = WeakKeyDictionary()

    def queue(self, loop: asyncio.AbstractEventLoop) -> TimerQueue:
        """Return the queue of a loop; the last one used is remembered."""
        queue = self._queue
        if queue is None or queue.loop() is not loop:
            queue = self._queues.get(loop)
            if queue is None:
                self._drop_closed()
                queue = self._queues[loop] = TimerQueue(loop, self.clock)
            self._queue = queue
        return queue

    def _drop_closed(self) -> None:
        """Forget loops that are closed: a timer left on one would keep it alive."""
        for loop in [loop for loop in list(self._queues) if loop.is_closed()]:
            self._queues.pop(loop, None)


class TimerQueue:
    """Scopes on one loop in the order of their ends, and the timer of the first.

    The timer is left to run when the first scope leaves: setting one costs more than finding nothing to do.
    """

    __slots__ = ("_clock", "_last", "_scopes", "_timer", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self.loop = weakref.ref(loop)
        self._clock = clock
        self._scopes: dict[Scope, None] = {}
        self._timer: Timer | None = None
        self._last = 0.0

    def add(self, scope: Scope, loop: asyncio.AbstractEventLoop) -> Timer | None:
        """Let the scope end at its time; return a timer where it needs one of its own."""
        when = scope.when
        if self._timer is None:
            self._timer = self._clock.call_at(loop, when, self._tick)
        elif when < self._last:
            return self._clock.call_at(loop, when, scope.fire)
        self._last = when
        self._scopes[scope] = None
        return None

    @property
    def idle(self) -> bool:
        """Whether no scope waits for its end."""
        return not self._scopes

    def remove(self, scope: Scope) -> None:
        """Forget a scope that was left."""
        self._scopes.pop(scope, None)

    def _tick(self) -> None:
        self._timer = None
        now, loop = self._clock.monotonic(), self.loop()
        while self._scopes and loop is not None:
            first = next(iter(self._scopes))
            if first.when > now:
                self._timer = self._clock.call_at(loop, first.when, self._tick)
                return
            del self._scopes[first]
            first.fire()


class Scope:
    """A bound on what runs inside it, on one task.

    `when` is a monotonic instant. `expired` is set before the task is cancelled, so that guards inside can tell our
    cut from a foreign cancel; `stalled` says that the loop, not the work, was late.
    """

    __slots__ = (
        "_cancelling", "_duration", "_line", "_parent", "_queue", "_task", "_timer", "_token",
        "deadline", "expired", "is_deadline", "stalled", "when",
    )  # fmt: skip

    def __init__(self, when: float, duration: float, line: Timeline) -> None:
        self.when = when
        self.is_deadline = line.is_deadline
        self.deadline: float | None = None
        self.expired = False
        self.stalled = False
        self._duration = duration
        self._line = line

    def enter(self) -> None:
        """Start the timer on the running task; must run on the task that will `leave`."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("a timeout needs a running task: call it from a coroutine that runs in one")
        self._task = task
        self._cancelling = task.cancelling()
        parent = self._parent = _current.get()
        inherited = None if parent is None else parent.deadline
        self.deadline = _nearer(self.when, inherited) if self.is_deadline else inherited
        self._token: Token[Scope | None] = _current.set(self)
        queue = self._queue = self._line.queue(loop)
        self._timer: Timer | None = queue.add(self, loop)

    def leave(self, error: BaseException | None) -> bool:
        """Stop the timer; return whether `error` is the cancel that this scope asked for."""
        self._queue.remove(self)
        if self._timer is not None:
            self._timer.cancel()
        try:
            _current.reset(self._token)
        except ValueError:  # left in another context, as an async generator's clean-up may be: ours sees it still
            self.deadline = None if self._parent is None else self._parent.deadline
        task = self._task
        del self._task, self._timer, self._queue  # a background task that inherited this scope must not pin this one
        if not self.expired:
            return False
        self.expired = False
        return task.uncancel() <= self._cancelling and isinstance(error, asyncio.CancelledError)

    def fire(self) -> None:
        """Cut the work, unless the timer is so late that the loop must have stood still: then grant it a moment."""
        line = self._line
        now = line.clock.monotonic()
        late = now - self.when
        if not self.stalled and late > max(STALL_SECONDS, STALL_SHARE * self._duration):
            self.stalled = True
            self._timer = line.clock.call_at(self._task.get_loop(), now + STALL_GRACE, self.fire)
            if line.on_stall is not None:
                line.on_stall(late)
            return
        self.expired = True
        self._task.cancel()


def _nearer(when: float, other: float | None) -> float:
    return when if other is None else min(when, other)


def cut_by() -> Scope | None:
    """Return the innermost scope around this code that has expired, None if none has."""
    scope = _current.get()
    while scope is not None and not scope.expired:
        scope = scope._parent
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
