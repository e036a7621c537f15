"""Every built-in pattern in a small size, and what the contract tests share.

A pattern that is added to `BUILTIN` needs a line in `SMALL`; the tests of `test_building.py` demand it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from aioresilience.bound import Bound
from aioresilience.calls import ANYONE
from aioresilience.guard import Guard
from aioresilience.pattern import AnyPattern
from aioresilience.policy import BUILTIN
from aioresilience.scope import sleep
from aioresilience.testing import VirtualClock

T = TypeVar("T")


async def instead(*args: object, **kwargs: object) -> str:
    await asyncio.sleep(0)
    return "instead"


SMALL: dict[str, dict[str, object]] = {
    "fallback": {"fallback": instead},
    "deadline": {"timeout": 50.0},
    "load_shedder": {"max_requests": 2},
    "backpressure": {"max_pending": 6, "high_water_mark": 2, "low_water_mark": 1, "timeout": 5.0},
    "retry": {"max_attempts": 2, "initial_delay": 1.0, "jitter": 0.0},
    "circuit_breaker": {"failure_threshold": 2, "recovery_timeout": 10.0, "success_threshold": 1},
    "rate_limiter": {"rate": "2/minute"},
    "adaptive_concurrency": {"initial_limit": 2, "min_limit": 1, "max_limit": 2},
    "bulkhead": {"max_concurrent": 2, "max_waiting": 0},
    "timeout": {"timeout": 20.0},
}
"""Each refuses a third call, or cuts one after so many seconds, or acts on the first failure."""

EVERY = list(BUILTIN)
GUARDS = [cls for cls in BUILTIN if issubclass(cls, Guard)]
BOUNDS = [cls for cls in BUILTIN if issubclass(cls, Bound)]
HOLDERS = [cls for cls in GUARDS if cls.holds]
"""Guards whose tickets stand for room in use."""


def key_of(cls: object) -> str:
    return str(getattr(cls, "key", cls))


def config_of(cls: type[AnyPattern], **changes: object) -> object:
    return cls.config_type(**{**SMALL[cls.key], **changes})


def make(cls: type[AnyPattern], clock: VirtualClock, **changes: object) -> AnyPattern:
    return cls(name="p", config=config_of(cls, **changes), clock=clock)


def class_of(key: str) -> type[AnyPattern]:
    return next(cls for cls in BUILTIN if cls.key == key)


async def ok() -> str:
    return "ok"


async def fail() -> None:
    raise ConnectionError("down")


def held(pattern: AnyPattern, clock: VirtualClock) -> Coroutine[object, object, object]:
    """Call a function that ends after 5 s."""
    return pattern.execute(sleep, 5.0, clock)


async def turns(count: int = 12) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def fill(pattern: AnyPattern, clock: VirtualClock) -> list[asyncio.Task[object]]:
    """Bring a guard to where it refuses the next call; the tasks hold what must be held for it."""
    if pattern.key == "circuit_breaker":
        for _ in range(2):
            await asyncio.gather(pattern.execute(fail), return_exceptions=True)
        return []
    if pattern.key == "rate_limiter":
        for _ in range(2):
            await pattern.execute(ok)
        return []
    tasks = [asyncio.ensure_future(held(pattern, clock)) for _ in range(2)]
    await turns()
    assert pattern.admit(ANYONE) is None, "the guard should be full by now"
    return tasks


async def finished(work: Coroutine[object, object, T], clock: VirtualClock, seconds: float = 120.0) -> T:
    """Move the time until the work has ended."""
    task = asyncio.ensure_future(work)
    await turns()
    for _ in range(int(seconds)):
        if task.done():
            break
        await clock.advance(1.0)
    if not task.done():
        task.cancel()
        await asyncio.wait([task])
        raise AssertionError(f"it hangs for {seconds} seconds")
    return await task


def live(pattern: AnyPattern) -> dict[str, object]:
    """Return the live state alone, without what is only counted."""
    counted = set(pattern.counts.as_dict()) | {"name", "tried", "answered", "timed_out", "overflowed", "keyless"}
    return {name: value for name, value in pattern.status().items() if name not in counted}


def at_rest(pattern: AnyPattern) -> None:
    """Check that nothing is held and that the counts reconcile."""
    counts = pattern.counts
    assert counts.started == counts.succeeded + counts.failed + counts.neutral, (pattern.key, counts.as_dict())
    status = pattern.status()
    for name in ("active", "pending", "waiting", "half_open_calls"):
        assert not status.get(name), (pattern.key, name, status)
    assert not getattr(pattern, "_holders", None), (pattern.key, "a task is still noted as a holder")
    assert not getattr(pattern, "_held", None), (pattern.key, "a ticket is still noted")
    queue = getattr(getattr(pattern, "machine", None), "queue", None)
    assert queue is None or (queue.waiting == 0 and queue.first() is None), (pattern.key, "somebody queues")


def runs_at_once(work: Coroutine[object, object, object]) -> object:
    """Run a coroutine that must end without once giving way to the loop, and return its result."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    finally:
        work.close()
    raise AssertionError("it waited")
