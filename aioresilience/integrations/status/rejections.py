"""The last rejections of every policy, as the events tell of them."""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aioresilience.events import DecisionEvent, EventType, ResilienceEvent, global_bus
from aioresilience.events.facts import plain

KEPT: Final = 10
"""Rejections kept of each policy."""
POLICIES: Final = 10_000
"""Policies of which rejections are kept; past it the one that was heard of longest ago is forgotten."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """One call that was refused; `at` is in seconds since the epoch, `waited` in seconds."""

    at: float
    pattern: str
    reason: str
    waited: float


class Recorder:
    """Listens for rejections from `listen` on until what it returns is called; safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, deque[Rejection]] = {}

    def listen(self) -> Callable[[], object]:
        """Hear of the rejections of every policy in the process; return what ends it."""
        global_bus.add_handler(EventType.DECISION, self.note)
        return functools.partial(global_bus.remove_handler, EventType.DECISION, self.note)

    def note(self, event: ResilienceEvent) -> None:
        """Keep a rejection."""
        if not isinstance(event, DecisionEvent) or event.action != "rejected" or event.policy is None:
            return
        rejection = Rejection(event.timestamp, str(plain(event.pattern_type)), _words(event.reason), event.waited)
        with self._lock:
            kept = self._kept.pop(event.policy, None) or deque(maxlen=KEPT)
            kept.append(rejection)
            self._kept[event.policy] = kept
            if len(self._kept) > POLICIES:
                del self._kept[next(iter(self._kept))]

    def of(self, policy: str) -> tuple[Rejection, ...]:
        """Return the last rejections of a policy, the latest first."""
        with self._lock:
            return tuple(reversed(self._kept.get(policy, ())))


def _words(reason: object) -> str:
    return str(plain(reason)).lower().replace("_", " ")
