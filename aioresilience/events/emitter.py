"""Where handlers are registered and events published: an emitter per pattern, and one bus for all of them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from threading import RLock
from typing import TypeVar

from aioresilience.events.delivery import Counts, Handler, Inline, Receipt, Subscription
from aioresilience.events.drain import in_handler
from aioresilience.events.facts import ResilienceEvent
from aioresilience.events.types import EVERY, OCCASIONAL, EventKey, EventType, filed_under, registered_as
from aioresilience.forks import held_at_forks
from aioresilience.logging import log_error

PATIENCE = 0.2
"""Seconds after which `emit` looks whether the loop it waits for still runs."""

Handlers = dict[EventKey, tuple[Subscription, ...]]
_Handler = TypeVar("_Handler", bound=Handler)

_NOBODY: Handlers = {}
_registering = RLock()
held_at_forks(_registering)


class Audience:
    """Count the publishers that have handlers: while there are none, one look tells that nobody listens.

    `steady` counts those with handlers for what happens at every call, and not only where one is refused or delayed.
    """

    __slots__ = ("size", "steady")

    def __init__(self) -> None:
        self.size = self.steady = 0


audience = Audience()


class _Publisher:
    """Keep handlers and publish events to them.

    `handlers` is replaced, never changed: whoever publishes reads it once, without a lock. It is empty while nobody
    listens, so that a call path need not even build its event.
    """

    __slots__ = ("_counts", "handlers")

    def __init__(self) -> None:
        self.handlers = _NOBODY
        self._counts: Counts | None = None

    def on(self, event_type: EventType | int | str) -> Callable[[_Handler], _Handler]:
        """Register the decorated function for an EventType, its value or name, or `"*"` for every event."""
        registered_as(event_type)

        def register(handler: _Handler) -> _Handler:
            self.add_handler(event_type, handler)
            return handler

        return register

    def add_handler(self, event_type: EventType | int | str, handler: Handler, *, inline: bool = False) -> None:
        """Register a plain or async function of one event; it runs on the loop that is running now, while that runs.

        Registering a handler twice for the same events changes nothing. Raises ValueError for an unknown event type.
        With `inline` a plain function is called by the emitting call itself, in its context: for tracers, which must
        know the call's span, and for nothing that takes time or may wait.
        """
        key = registered_as(event_type)
        _check(handler)
        if inline and inspect.iscoroutinefunction(handler):
            raise TypeError(f"{handler!r} is async, and nothing awaits an inline handler")
        with _registering:
            if self._counts is None:
                self._counts = Counts()
            kind = Inline if inline else Subscription
            subscription = self._find(handler) or kind(handler, self._counts)
            subscription.add(key)
            known = self.handlers.get(key, ())
            if subscription not in known:
                self._keep(self.handlers | {key: (*known, subscription)})

    def remove_handler(self, event_type: EventType | int | str, handler: Handler) -> bool:
        """Take back a registration, with the events still pending under it; False where there was none."""
        key = registered_as(event_type)
        with _registering:
            subscription = self._find(handler)
            if subscription is None or key not in subscription.keys:
                return False
            subscription.keys.discard(key)
            rest = tuple(other for other in self.handlers[key] if other is not subscription)
            self._keep({k: subs for k, subs in (self.handlers | {key: rest}).items() if subs})
            return True

    def clear(self) -> None:
        """Take back all registrations."""
        with _registering:
            handlers = self.handlers
            self._keep(_NOBODY)
        for subscription in _all(handlers):
            subscription.keys.clear()

    def _keep(self, handlers: Handlers) -> None:
        """Replace the handlers, and the count in the audience with them; the caller holds the lock."""
        audience.size += bool(handlers) - bool(self.handlers)
        audience.steady += _steady(handlers) - _steady(self.handlers)
        self.handlers = handlers

    def __del__(self) -> None:
        if self.handlers:
            with _registering:
                self._keep(_NOBODY)

    @property
    def handler_count(self) -> int:
        """How many registrations there are."""
        return len(_all(self.handlers))

    def get_handlers(self, event_type: EventType | int | str | None = None) -> list[Handler]:
        """Return the handlers registered for this type, or all of them."""
        handlers = self.handlers
        chosen = _all(handlers) if event_type is None else handlers.get(registered_as(event_type), ())
        return [subscription.handler for subscription in chosen]

    def stats(self) -> dict[str, int]:
        """Return how many deliveries succeeded (delivered), raised (failed) or gave way to newer events (dropped)."""
        counts = self._counts or Counts()
        return {"delivered": counts.delivered, "failed": counts.failed, "dropped": counts.dropped}

    def publish(self, event: ResilienceEvent) -> None:
        """Queue an event for whoever listens; never waits, never raises, calls no handler."""
        self._spread(event, None)

    async def emit(self, event: ResilienceEvent) -> None:
        """Publish an event and wait until the handlers registered now have had it; their errors stay with them.

        Inside a handler it does not wait: the handler would wait for itself.
        """
        waiting: dict[Receipt, Subscription] = {}
        self._spread(event, None if in_handler.get() else waiting)
        while waiting:
            done, _ = await asyncio.wait(waiting, timeout=PATIENCE)
            for receipt in done:
                del waiting[receipt]
            for subscription in waiting.values():
                subscription.kick()

    def _spread(self, event: ResilienceEvent, waiting: dict[Receipt, Subscription] | None) -> None:
        try:
            for handlers in self._audiences():
                if handlers:
                    _put(handlers, event, waiting)
        except Exception as error:
            log_error("aioresilience.events", error, publishing=type(event).__name__)

    def _audiences(self) -> tuple[Handlers, ...]:
        return (self.handlers,)

    def _find(self, handler: Handler) -> Subscription | None:
        return next((known for known in _all(self.handlers) if known.handler == handler), None)


class EventBus(_Publisher):
    """Hear every event of every emitter."""

    __slots__ = ()

    @property
    def is_active(self) -> bool:
        """Whether anybody listens."""
        return bool(self.handlers)

    def has_listeners(self) -> bool:
        """Say whether anybody listens."""
        return bool(self.handlers)


global_bus = EventBus()


class EventEmitter(_Publisher):
    """Publish what happens to one pattern, to its own handlers and to the global bus."""

    __slots__ = ("pattern_name",)

    def __init__(self, pattern_name: str) -> None:
        super().__init__()
        self.pattern_name = pattern_name

    def has_listeners(self) -> bool:
        """Say whether anybody listens here or on the global bus."""
        return bool(self.handlers or global_bus.handlers)

    def is_global_bus_enabled(self) -> bool:
        """Say whether anybody listens on the global bus, which gets every event published here."""
        return global_bus.is_active

    def get_global_bus(self) -> EventBus:
        """Return the global bus."""
        return global_bus

    def _audiences(self) -> tuple[Handlers, ...]:
        return self.handlers, global_bus.handlers


def _steady(handlers: Handlers) -> bool:
    return not handlers.keys() <= OCCASIONAL


def _all(handlers: Handlers) -> list[Subscription]:
    return [subscription for subscriptions in handlers.values() for subscription in subscriptions]


def _put(handlers: Handlers, event: ResilienceEvent, waiting: dict[Receipt, Subscription] | None) -> None:
    for key in (filed_under(event.event_type), EVERY):
        for subscription in handlers.get(key, ()):
            receipt = None
            if waiting is not None:
                receipt = asyncio.get_running_loop().create_future()
                waiting[receipt] = subscription
            subscription.put(key, event, receipt)


def _check(handler: object) -> None:
    if not callable(handler):
        raise TypeError(f"a handler is a function of one event, not {handler!r}")
    if inspect.isasyncgenfunction(handler) or inspect.isgeneratorfunction(handler):
        raise TypeError(f"{handler!r} yields; a handler returns, or is awaited: leave out the yield")
