"""Cancel a task at every step of the event loop, once and twice, and see what is left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass
class Swept:
    """How one run of a sweep ended."""

    step: int
    outcome: str


async def cancel_at(step: int, make: Callable[[], Awaitable[object]], times: int = 1) -> Swept:
    """Start the work as a task, let the loop turn `step` times, cancel it, and wait for its end."""
    task = asyncio.ensure_future(make())
    for _ in range(step):
        if task.done():
            break
        await asyncio.sleep(0)
    finished = task.done()
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    done, _ = await asyncio.wait([task], timeout=5)
    assert done, f"hangs when cancelled at step {step}"
    if task.cancelled():
        return Swept(step, "cancelled")
    assert finished or task.exception() is not None or step > 0, "finished although cancelled before its first step"
    return Swept(step, "finished" if finished else "swallowed" if task.exception() is None else "raised")


async def sweep(
    make: Callable[[], Awaitable[object]],
    check: Callable[[], None],
    *,
    steps: int = 30,
    settle: Callable[[], Awaitable[object]] | None = None,
) -> list[Swept]:
    """Cancel at every step, once and twice, and call `check` after each run."""
    results = []
    for times in (1, 2):
        for step in range(steps):
            swept = await cancel_at(step, make, times)
            if settle is not None:
                await settle()
            for _ in range(5):
                await asyncio.sleep(0)
            check()
            results.append(swept)
            if swept.outcome == "finished":
                break
    return results
