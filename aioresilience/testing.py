"""Tools for the tests of services: a clock to move by hand, an event log, policies that let everything through."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import threading
from collections.abc import Callable, Iterator

from aioresilience.events import EventType, ResilienceEvent, global_bus
from aioresilience.policy import bypass
from aioresilience.registry import Registry, get_registry
from aioresilience.timers import TimerQueue

__all__ = ["EventLog", "VirtualClock", "VirtualTimer", "bypass", "override"]


class VirtualTimer:
    """A callback that waits for virtual time."""

    __slots__ = ("callback", "cancelled", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
        self.loop = loop
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        """Forget the callback."""
        self.cancelled = True

    @property
    def needed(self) -> bool:
        """Whether the callback would do anything."""
        owner = getattr(self.callback, "__self__", None)
        return not self.cancelled and not (isinstance(owner, TimerQueue) and owner.idle)


class VirtualClock:
    """A clock that moves only when told: give it to a registry or a pattern as `clock=`.

    Timers run in order of their times, each at its own instant, on their own loops.
    """

    def __init__(self, start: float = 1_000.0, wall: float = 1_700_000_000.0) -> None:
        self._now = start
        self._wall = wall - start
        self._timers: list[tuple[float, int, VirtualTimer]] = []
        self._order = itertools.count()
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        """Return the virtual seconds."""
        return self._now

    def wall(self) -> float:
        """Return the virtual seconds since the epoch."""
        return self._wall + self._now

    def jump_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back; the monotonic one does not notice."""
        self._wall += seconds

    def call_at(self, loop: asyncio.AbstractEventLoop, when: float, callback: Callable[[], object]) -> VirtualTimer:
        """Run `callback` on `loop` once the virtual time has reached `when`."""
        timer = VirtualTimer(loop, callback)
        with self._lock:
            heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    @property
    def pending(self) -> int:
        """How many timers wait for something; cancelled ones are left out, and shared ones that nobody needs now."""
        with self._lock:
            return sum(timer.needed for _, _, timer in self._timers)

    def move(self, seconds: float) -> None:
        """Move the time and run what is due, without letting tasks run in between."""
        end = self._now + seconds
        while (timer := self._due(end)) is not None:
            self._run(timer)
        self._now = max(self._now, end)

    async def advance(self, seconds: float) -> None:
        """Move the time and run what is due, letting the tasks of this loop run after every step."""
        end = self._now + seconds
        await _settle()
        while (timer := self._due(end)) is not None:
            self._run(timer)
            await _settle()
        self._now = max(self._now, end)
        await _settle()

    def stall(self, seconds: float) -> None:
        """Move the time while no timer runs, as a blocked event loop does; what is overdue runs at the next move."""
        self._now += seconds

    def _due(self, end: float) -> VirtualTimer | None:
        with self._lock:
            while self._timers and (self._timers[0][0] <= end or self._timers[0][2].cancelled):
                when, _, timer = heapq.heappop(self._timers)
                if not timer.cancelled:
                    self._now = max(self._now, when)
                    return timer
        return None

    def _run(self, timer: VirtualTimer) -> None:
        if asyncio._get_running_loop() is timer.loop:
            timer.callback()
        elif not timer.loop.is_closed():
            timer.loop.call_soon_threadsafe(lambda: timer.cancelled or timer.callback())


async def _settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class EventLog:
    """Collects events while it is open: `with EventLog() as log: ...`.

    Events arrive on the loop's next turns: `await log.wait_for("state_change")` waits for one.
    """

    def __init__(self, event_type: EventType | int | str = "*") -> None:
        self.events: list[ResilienceEvent] = []
        self._event_type = event_type
        self._arrived = asyncio.Event()

    def __enter__(self) -> EventLog:
        global_bus.add_handler(self._event_type, self._note)
        return self

    def __exit__(self, *reason: object) -> None:
        global_bus.remove_handler(self._event_type, self._note)

    def _note(self, event: ResilienceEvent) -> None:
        self.events.append(event)
        self._arrived.set()

    def of(self, name: str) -> list[ResilienceEvent]:
        """Return the events of that type so far."""
        return [event for event in self.events if event.to_dict()["event_type"] == name]

    async def wait_for(self, name: str, count: int = 1, timeout: float = 5.0) -> list[ResilienceEvent]:
        """Wait until `count` events of that type are there, at most `timeout` real seconds; return them."""
        async with asyncio.timeout(timeout):
            while len(found := self.of(name)) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return found


@contextlib.contextmanager
def override(name: str, *, registry: Registry | None = None, **fields: object) -> Iterator[None]:
    """Lay fields over one policy for a test: `override("payments", timeout="50ms", retry=None)`.

    Raises ConfigError where the policy with them is wrong, RuntimeError after a rollback, which keeps no text to lay
    them over; the policy is as before afterwards.
    """
    registry = get_registry() if registry is None else registry
    if name not in registry:
        registry.get(name)  # raises UnknownPolicyError with near names
    before = registry.patched(name)
    registry.patch(name, {**(before or {}), **fields})
    try:
        yield
    finally:
        registry.patch(name, before)
