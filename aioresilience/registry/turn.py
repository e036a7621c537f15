"""Whose turn it is to change a registry: one at a time, and nobody waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from aioresilience.config import ConfigError, diagnose

LONGEST: Final = 30.0
"""Seconds that anybody waits for the turn: a file system that hangs may keep it from ever being given back."""


class HeldError(ConfigError):
    """Whoever has the turn did not give it back in time."""


class Holder(NamedTuple):
    """Who has the turn, since when, in monotonic seconds, and on which thread."""

    trigger: str
    since: float
    thread: int


class Turn:
    """A lock that knows its holder; who has it may take it again."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._holder: Holder | None = None

    @contextmanager
    def taken(self, trigger: str) -> Iterator[None]:
        """Hold the turn; HeldError where another trigger has it for too long."""
        if not self._lock.acquire(timeout=LONGEST):
            raise HeldError([diagnose("AR322", None, self._said())])
        before, self._holder = self._holder, Holder(trigger, time.monotonic(), threading.get_ident())
        try:
            yield
        finally:
            self._holder = before
            self._lock.release()

    def is_mine(self) -> bool:
        """Tell whether this thread has the turn."""
        holder = self._holder
        return holder is not None and holder.thread == threading.get_ident()

    def _said(self) -> str:
        held = self.status()
        if held is None:
            return f"others came first for {LONGEST:g} seconds"
        return f"what was begun by {held['trigger']} {held['seconds']:.0f} seconds ago has not come to its end"

    def status(self) -> dict[str, object] | None:
        """Return who has the turn and for how many seconds, None where nobody has it."""
        holder = self._holder
        return None if holder is None else {"trigger": holder.trigger, "seconds": time.monotonic() - holder.since}
