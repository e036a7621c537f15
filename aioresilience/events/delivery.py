"""How one handler gets its events: a bounded queue, and one drain at a time on a loop that runs.

Emitting only appends to the queue and, where no drain is under way, starts one: on the loop where the handler was
registered while that runs, else on the emitting call's, else on a private thread's.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import RLock
from typing import Literal
from weakref import WeakSet

from aioresilience.events.drain import Drain, must_pass
from aioresilience.events.facts import ResilienceEvent, plain
from aioresilience.events.loops import private_loop, running_loop
from aioresilience.events.types import EventKey, event_named
from aioresilience.logging import log_error

MAX_PENDING = 10_000
"""Events that wait for one handler; beyond it the oldest are dropped."""

Handler = Callable[..., object]
Receipt = asyncio.Future[None]
Item = tuple[EventKey, ResilienceEvent, Receipt | None]


class Counts:
    """What became of the events of one emitter; the lock guards its handlers' queues too."""

    __slots__ = ("delivered", "failed", "dropped", "lock")

    def __init__(self) -> None:
        self.lock = RLock()  # reentrant: a finalizer may publish while this thread holds it
        self.delivered = self.failed = self.dropped = 0

    def count(self, what: Literal["delivered", "failed", "dropped"]) -> None:
        """Count one event."""
        with self.lock:
            setattr(self, what, getattr(self, what) + 1)


class Subscription:
    """One handler, the event types it asked for, and what it has not been told yet."""

    __slots__ = ("handler", "counts", "keys", "home", "pending", "dropped", "_drain", "_receipt", "__weakref__")

    def __init__(self, handler: Handler, counts: Counts) -> None:
        self.handler = handler
        self.counts = counts
        self.keys: set[EventKey] = set()
        self.home: asyncio.AbstractEventLoop | None = None
        self.pending: deque[Item] = deque()
        self.dropped = 0
        self._drain: Drain | None = None
        self._receipt: Receipt | None = None  # of the event that the handler has now
        _SUBSCRIPTIONS.add(self)

    def add(self, key: EventKey) -> None:
        """Ask for events filed under `key`; the running loop becomes the handler's own unless another still runs."""
        self.keys.add(key)
        if self.home is None or not self.home.is_running():
            self.home = running_loop()

    def put(self, key: EventKey, event: ResilienceEvent, receipt: Receipt | None = None) -> None:
        """Queue an event, the oldest giving way to it, and see to it that somebody takes it."""
        with self.counts.lock:
            if len(self.pending) >= MAX_PENDING:
                self._drop_oldest()
            self.pending.append((key, event, receipt))
            self.kick()

    def kick(self) -> None:
        """Start a drain where events wait and no running loop sees to them."""
        with self.counts.lock:
            if self._drain is not None and self._drain.loop.is_running():
                return
            if self._drain is not None:  # its loop stopped under the handler
                settle(self._receipt)
                self._drain = None
            if self.pending:
                self._start()

    async def serve_next(self, drain: Drain) -> bool:
        """Hand one event to the handler; False when there is none, or when another drain took over."""
        item = self._take(drain)
        if item is None:
            return False
        _, event, receipt = item
        try:
            await self._call(event)
        finally:
            settle(receipt)
        return True

    def release(self, drain: Drain) -> None:
        """Let another drain begin; at once where this one was cancelled with events pending."""
        with self.counts.lock:
            if self._drain is drain:
                self._drain = self._receipt = None
                if self.pending and running_loop() is drain.loop:
                    drain.loop.call_soon(self.kick)

    def forget_loops(self) -> None:
        """Start afresh in a forked child: it has copies of loops that nobody runs, of locks that nobody frees."""
        self.home = self._drain = self._receipt = None
        self.counts.lock = RLock()

    async def _call(self, event: ResilienceEvent) -> None:
        try:
            result = self.handler(event)
            if inspect.isawaitable(result):
                await result
        except BaseException as error:
            self.counts.count("failed")
            if must_pass(error):
                raise
            self._report(event, error)
        else:
            self.counts.count("delivered")

    def _report(self, event: ResilienceEvent, error: BaseException) -> None:
        name = getattr(self.handler, "__qualname__", type(self.handler).__qualname__)
        log_error("aioresilience.events", error, handler=name, event=plain(event_named(event.event_type)))

    def _take(self, drain: Drain) -> Item | None:
        with self.counts.lock:
            while self._drain is drain and self.pending:
                item = self.pending.popleft()
                if item[0] in self.keys:
                    self._receipt = item[2]
                    return item
                settle(item[2])  # unsubscribed in the meantime
            return None

    def _drop_oldest(self) -> None:
        settle(self.pending.popleft()[2])
        self.dropped += 1
        self.counts.count("dropped")

    def _start(self) -> None:
        for loop in self._places():
            self._drain = Drain(self, loop)
            if self._drain.start():
                return
        self._drain = None

    def _places(self) -> Iterator[asyncio.AbstractEventLoop]:
        if self.home is not None and self.home.is_running():
            yield self.home
        if (running := running_loop()) is not None:
            yield running
        yield private_loop()


class Inline(Subscription):
    """A handler that is called where the event happens, and hears of nothing later."""

    __slots__ = ()

    def put(self, key: EventKey, event: ResilienceEvent, receipt: Receipt | None = None) -> None:
        """Call the handler; what it raises is logged and counted."""
        try:
            self.handler(event)
        except Exception as error:
            self.counts.count("failed")
            self._report(event, error)
        else:
            self.counts.count("delivered")
        settle(receipt)


def settle(receipt: Receipt | None) -> None:
    """Tell whoever waits, on whatever loop, that this event is dealt with."""
    if receipt is not None:
        with suppress(RuntimeError):  # that loop is closed: nobody waits any more
            receipt.get_loop().call_soon_threadsafe(_resolve, receipt)


def _resolve(receipt: Receipt) -> None:
    if not receipt.done():
        receipt.set_result(None)


_SUBSCRIPTIONS: WeakSet[Subscription] = WeakSet()


def _after_fork() -> None:
    for subscription in _SUBSCRIPTIONS:
        subscription.forget_loops()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
