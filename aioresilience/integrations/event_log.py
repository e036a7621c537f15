"""Events as log lines, for any logging library: escaped, and no more of one kind than somebody can read."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

from aioresilience.events import DecisionEvent, EventType, RegistryEvent, ResilienceEvent, global_bus
from aioresilience.events.types import event_named
from aioresilience.logging import escape

Write = Callable[[int, str, Mapping[str, object]], object]
"""Takes a level of the standard library, the event's name, and its fields."""

LEVELS: Final[Mapping[EventType, int]] = {
    EventType.DECISION: logging.WARNING,
    EventType.STATE_CHANGE: logging.WARNING,
    EventType.CIRCUIT_FORCED: logging.WARNING,
    EventType.CIRCUIT_RELEASED: logging.WARNING,
    EventType.RETRY_EXHAUSTED: logging.INFO,
    EventType.BUDGET_EXHAUSTED: logging.WARNING,
    EventType.FALLBACK_EXECUTED: logging.INFO,
    EventType.LOOP_STALLED: logging.WARNING,
    EventType.KEY_OVERFLOW: logging.WARNING,
    EventType.BACKEND_DEGRADED: logging.ERROR,
    EventType.BACKEND_RECOVERED: logging.INFO,
    EventType.RELOAD_APPLIED: logging.INFO,
    EventType.RELOAD_REJECTED: logging.ERROR,
    EventType.RELOAD_RECOVERED: logging.INFO,
    EventType.OVERRIDE_EXPIRING: logging.WARNING,
    EventType.OVERRIDE_EXPIRED: logging.INFO,
    EventType.WATCHER_DEGRADED: logging.ERROR,
}
"""The events that are written."""
ALWAYS: Final = frozenset({EventType.STATE_CHANGE, EventType.CIRCUIT_FORCED, EventType.CIRCUIT_RELEASED})
"""Rare by themselves: every single one counts."""
MAX_KINDS: Final = 1000
SHOWN: Final = 500
"""Characters of a field."""


def write_events(write: Write, *, every: float = 10.0, now: Callable[[], float] = time.monotonic) -> Callable[[], None]:
    """Write what patterns and registries decide; return what ends it.

    Of events of one kind (event, policy, pattern, action and reason) the first is written at once, then one in `every`
    seconds, with the number of those left out as `more`. Changes of a circuit's state, and what registries do, are
    all written. `write` runs on the event loop, not in the calls, and must not wait.
    """
    log = _EventLog(write, every, now)
    for event_type in LEVELS:
        global_bus.add_handler(event_type, log.note)
    return log.stop


class _EventLog:
    """Writes events, and remembers when it last wrote each kind."""

    def __init__(self, write: Write, every: float, now: Callable[[], float]) -> None:
        self._write = write
        self._every = every
        self._now = now
        self._kinds: dict[tuple[object, ...], list[float]] = {}

    def stop(self) -> None:
        """Hear of nothing more."""
        for event_type in LEVELS:
            global_bus.remove_handler(event_type, self.note)

    def note(self, event: ResilienceEvent) -> None:
        """Write an event, or count it."""
        event_type = event_named(event.event_type)
        assert isinstance(event_type, EventType)  # only these were asked for
        more = 0 if event_type in ALWAYS or isinstance(event, RegistryEvent) else self._left_out(_kind(event))
        if more is not None:
            fields = _fields(event) | ({"more": more} if more else {})
            name = event.action if isinstance(event, DecisionEvent) else event_type.name.lower()
            self._write(LEVELS[event_type], escape(name), fields)

    def _left_out(self, kind: tuple[object, ...]) -> int | None:
        """Return how many of that kind were left out before, None where this one is to be."""
        now, known = self._now(), self._kinds.get(kind)
        if known is not None and now - known[0] < self._every:
            known[1] += 1
            return None
        if known is None and len(self._kinds) >= MAX_KINDS:
            self._kinds.pop(next(iter(self._kinds)))
        self._kinds[kind] = [now, 0]
        return 0 if known is None else int(known[1])


def _kind(event: ResilienceEvent) -> tuple[object, ...]:
    named = [getattr(event, name, None) for name in ("policy", "action", "reason")]
    return (event.event_type, event.pattern_type, event.pattern_name, *map(str, named))


def _fields(event: ResilienceEvent) -> dict[str, object]:
    told = {name: value for name, value in event.to_dict().items() if value not in (None, {}, [], "")}
    return {name: _shown(value) for name, value in told.items() if name not in ("event_type", "trace", "timestamp")}


def _shown(value: object) -> object:
    """Escape what is text, within blocks and lists too, and cut what is long."""
    if isinstance(value, Mapping):
        return {_shown(key): _shown(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shown(one) for one in value[:20]]
    if isinstance(value, str):
        return escape(value if len(value) <= SHOWN else f"{value[:SHOWN]}…")
    return value
