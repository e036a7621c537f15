"""One limit: its buckets, and for each key that must wait a line, first in, first out.

A permit is charged when it is granted, and one timer serves the head of each line: a refill wakes one waiter.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from aioresilience.clock import Clock, Timer
from aioresilience.events import EventEmitter
from aioresilience.rate_limiting.buckets import AnyBuckets, Census
from aioresilience.rate_limiting.gcra import Gcra
from aioresilience.rate_limiting.leaky import LeakyBucket
from aioresilience.rate_limiting.meter import Meter
from aioresilience.rate_limiting.sliding_window import SlidingWindow
from aioresilience.scope import current_deadline
from aioresilience.units import Rate
from aioresilience.waiters import Waiter, WaitQueue

ALGORITHMS: Final[dict[str, Callable[[Rate, int, Census], AnyBuckets]]] = {
    kind.algorithm: kind for kind in (Gcra, SlidingWindow, LeakyBucket)
}

Ticket = tuple[AnyBuckets, str, float]
"""Which bucket was charged, and the charge."""

Inherit = Callable[[AnyBuckets, AnyBuckets, float], None]
"""How new buckets are charged with what was spent in old ones: `Buckets.inherit`, `split` or `join`."""


class Line:
    """Those who wait for one key."""

    __slots__ = ("alarm", "granted", "key", "loop", "queue", "timer")

    def __init__(self, key: str) -> None:
        self.key = key
        self.queue = WaitQueue()
        self.granted: deque[Ticket] = deque()
        self.alarm: object = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.timer: Timer | None = None

    def is_deaf(self) -> bool:
        """Tell whether no timer will come, because its loop is closed or nobody set one."""
        return self.loop is None or self.loop.is_closed()


_NO_LINES: Final[dict[str, Line]] = {}
"""The lines of limits for which nobody ever waited."""


class Limit:
    """The buckets of one rate, and the lines before them.

    Locks are taken in this order: the limit's, a line's, the census'.
    """

    __slots__ = ("by_key", "clock", "emitter", "lines", "lock", "meter", "monotonic", "table")

    meter: Meter | None
    """The table where it is one bucket for all calls, and nobody waits: then a call need look no further."""

    def __init__(self, table: AnyBuckets, clock: Clock, emitter: EventEmitter, *, by_key: bool = True) -> None:
        self.clock = clock
        self.monotonic = clock.monotonic
        self.emitter = emitter
        self.by_key = by_key
        self.lock = threading.RLock()
        self.lines = _NO_LINES
        self._use(table)

    def _use(self, table: AnyBuckets) -> None:
        self.table = table
        self.meter = table if isinstance(table, Meter) and not self.lines else None

    def take(self, key: str) -> Ticket | None:
        """Take a permit if there is one and nobody waits for it."""
        lines = self.lines
        if lines and key in lines:
            return self._take_past(key)
        table = self.table
        charge = table.take(key, self.monotonic())
        if charge is not None:
            return table, key, charge
        return self._take_after_change(key) if table.retired else None

    def _take_past(self, key: str) -> Ticket | None:
        """Take a permit where the line turns out to be gone, with its loop or just now."""
        with self.lock:
            line = self.lines.get(key)
            if line is not None and line.is_deaf():
                self._pump(line)
            return None if key in self.lines else self.take(key)

    def _take_after_change(self, key: str) -> Ticket | None:
        with self.lock:  # held while the buckets are replaced
            return self.take(key)

    def give_back(self, ticket: Ticket) -> None:
        """Refund a permit that was not used."""
        table, key, charge = ticket
        table.give_back(key, charge, self.monotonic())
        if key in self.lines:
            with self.lock:
                line = self.lines.get(key)
                if line is not None:
                    self._pump(line)

    def delay(self, key: str) -> float:
        """Return the seconds until a permit is due to one who asks now, behind those who wait."""
        line = self.lines.get(key)
        return self.table.delay(key, self.monotonic(), 0 if line is None else line.queue.waiting)

    def in_time(self, key: str) -> bool:
        """Tell whether one who asks now has a permit before the deadline around, which would only cut a longer wait."""
        deadline = current_deadline()
        return deadline is None or self.monotonic() + self.delay(key) <= deadline

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(line.queue.waiting for line in list(self.lines.values())) if self.lines else 0

    def replace(self, table: AnyBuckets, inherit: Inherit) -> None:
        """Put new buckets in place of the old ones, charged with what was spent; wake whom that serves."""
        with self.lock:
            old = self.table
            old.retire()
            inherit(table, old, self.monotonic())
            table.census.tables = [table if known is old else known for known in table.census.tables]
            self._use(table)
            for line in list(self.lines.values()):
                self._pump(line)

    async def wait(self, key: str, until: float | None, longest: int | None = None) -> Ticket | None:
        """Wait for a permit until that instant; None when it did not come, or `longest` wait already."""
        with self.lock:
            line = self.lines.get(key)
            if line is None:
                ticket = self.take(key)
                if ticket is not None:
                    return ticket
                line = self._begin(key)
            if longest is not None and line.queue.waiting >= longest:
                return None
            waiter = self._join(line)
        return await self._wait_in(line, waiter, until)

    def _begin(self, key: str) -> Line:
        if self.lines is _NO_LINES:
            self.lines = {}
        self.meter = None
        line = self.lines[key] = Line(key)
        return line

    def _join(self, line: Line) -> Waiter:
        with line.queue.lock:
            waiter = line.queue.join()
        if line.is_deaf():
            self._pump(line)
        return waiter

    async def _wait_in(self, line: Line, waiter: Waiter, until: float | None) -> Ticket | None:
        expire = partial(self._expire, line, waiter)
        timer = None if until is None else self.clock.call_at(waiter.loop, until, expire)
        try:
            granted = await line.queue.wait(waiter, None, self.clock, partial(self._return, line))
        except BaseException:
            self._left(line)
            raise
        finally:
            if timer is not None:
                timer.cancel()
        return line.granted.popleft() if granted else None

    def _expire(self, line: Line, waiter: Waiter) -> None:
        """Send a waiter away, unless its permit is due at this very instant."""
        with self.lock:
            self._left(line)
            line.queue.expire(waiter)
            self._left(line)

    def _return(self, line: Line) -> None:
        self.give_back(line.granted.popleft())

    def _left(self, line: Line) -> None:
        with self.lock:
            if self.lines.get(line.key) is line:
                self._pump(line)

    def _pump(self, line: Line) -> None:
        """Grant what is due, in order of arrival, and set the timer for the next; the caller holds the lock."""
        queue, table = line.queue, self.table
        with queue.lock:
            while queue.waiting:
                charge = table.take(line.key, self.monotonic())
                if charge is None:
                    self._arm(line)
                    return
                line.granted.append((table, line.key, charge))
                if not queue.grant():
                    table.give_back(*line.granted.pop()[1:], self.monotonic())
        self._close(line)

    def _arm(self, line: Line) -> None:
        now = self.monotonic()
        due = now + self.table.delay(line.key, now)
        self._disarm(line)
        while (head := line.queue.first()) is not None:
            line.alarm, line.loop = alarm, loop = object(), head.loop
            if asyncio._get_running_loop() is loop:
                self._set(line, alarm, due)
                return
            try:
                loop.call_soon_threadsafe(self._set, line, alarm, due)
            except RuntimeError:  # closed with its tasks pending
                line.queue.leave(head)
                continue
            return
        self._close(line)

    def _set(self, line: Line, alarm: object, due: float) -> None:
        with self.lock:
            if line.alarm is alarm and line.loop is not None:
                line.timer = self.clock.call_at(line.loop, due, partial(self._ring, line, alarm))

    def _ring(self, line: Line, alarm: object) -> None:
        with self.lock:
            if line.alarm is alarm:
                self._pump(line)

    def _disarm(self, line: Line) -> None:
        """Forget the timer; one of another loop is left to ring for nothing, since only its loop may cancel it."""
        if line.timer is not None and asyncio._get_running_loop() is line.loop:
            line.timer.cancel()
        line.alarm = line.timer = line.loop = None

    def _close(self, line: Line) -> None:
        self._disarm(line)
        if self.lines.get(line.key) is line:
            del self.lines[line.key]
            self._use(self.table)


def build(algorithm: str, rate: Rate, burst: int, census: Census, *, by_key: bool = True) -> AnyBuckets:
    """Build the empty buckets of a rate."""
    if algorithm == Meter.algorithm and not by_key:
        return Meter(rate, burst, census)
    return ALGORITHMS[algorithm](rate, burst, census)
