"""Time as a dependency: durations are monotonic, the wall clock is for dates people wrote."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A callback that waits for its time."""

    def cancel(self) -> None:
        """Forget the callback; harmless once it ran."""


class Clock(Protocol):
    """Where every pattern takes the time from.

    The three methods may be plain functions of a module or of a test; nothing else of a clock is used.
    """

    def monotonic(self) -> float:
        """Return seconds that never jump back."""

    def wall(self) -> float:
        """Return seconds since the epoch, as people date things."""

    def call_at(self, loop: asyncio.AbstractEventLoop, when: float, callback: Callable[[], object]) -> Timer:
        """Run `callback` on `loop` once `monotonic()` has reached `when`; call it on the loop's own thread."""


class SystemClock:
    """The machine's clocks and the loop's own timers."""

    __slots__ = ()

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)

    @staticmethod
    def call_at(loop: asyncio.AbstractEventLoop, when: float, callback: Callable[[], object]) -> Timer:
        """Set a timer of the loop, whatever its own time base is."""
        return loop.call_later(max(0.0, when - time.monotonic()), callback)


SYSTEM_CLOCK = SystemClock()
