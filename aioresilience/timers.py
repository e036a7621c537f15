"""What ends on a loop, in order, and the one timer that serves it."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from threading import get_ident
from typing import Final, Protocol

from aioresilience.clock import Clock, Timer
from aioresilience.straight import straight


class Line(Protocol):
    """What those in a queue have in common."""

    clock: Clock
    is_deadline: bool
    on_stall: Callable[[float], None] | None


class Timed(Protocol):
    """What a `TimerQueue` calls when its time has come."""

    @property
    def when(self) -> float:
        """The instant, on the monotonic clock."""

    def fire(self) -> None:
        """Act; must not raise."""


_running_tasks: dict[asyncio.AbstractEventLoop | None, asyncio.Task[object]] = getattr(
    asyncio.tasks, "_current_tasks", {}
)
"""The running task of each loop: what `asyncio.current_task` reads, at a tenth of its price on CPython 3.11.

Where asyncio keeps it elsewhere (3.14) it is empty, and asyncio is asked.
"""


_NONE: Final[dict[Timed, Timer]] = {}


class TimerQueue:
    """Scopes on one loop in the order of their ends, and the timer of the first.

    The timer is left to run when the first scope leaves: setting one costs more than finding nothing to do.
    """

    __slots__ = ("_last", "_live", "_scopes", "_timer", "_timers", "line", "loop_ref")

    def __init__(self, line: Line, loop: asyncio.AbstractEventLoop | None) -> None:
        self.line = line
        self.loop_ref = None if loop is None else weakref.ref(loop)
        self._live: asyncio.BaseEventLoop | None = None
        """The loop while a timer is set, which holds it anyway; None for loops that do not tell their thread."""
        self._scopes: dict[Timed, None] = {}
        self._timer: Timer | None = None
        self._timers = _NONE
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
        if self._timers is _NONE:
            self._timers = {}
        self._timers[scope] = self.line.clock.call_at(self._here(), when, scope.fire)

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop, None where it is gone."""
        return None if self.loop_ref is None else self.loop_ref()

    @property
    def is_over(self) -> bool:
        """Whether the loop is gone or closed: a timer left on it would keep it alive."""
        loop = self.loop
        return loop is None or loop.is_closed()

    def _here(self) -> asyncio.AbstractEventLoop:
        loop = self.loop
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
        now, loop = self.line.clock.monotonic(), self.loop
        while self._scopes and loop is not None:
            first = next(iter(self._scopes))
            if first.when > now:
                self._set(loop, first.when)
                return
            del self._scopes[first]
            first.fire()
