"""Cancel a task at every step of the event loop, once and twice, and see what is left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

TURNS_AFTER = 8
"""Turns of the loop within which a cancelled task must have ended, and everything behind it."""


@dataclass
class Swept:
    """How one run of a sweep ended: `finished` before it was cancelled, or `cancelled`."""

    step: int
    outcome: str


async def cancel_at(step: int, make: Callable[[], Awaitable[object]], times: int = 1) -> Swept:
    """Start the work as a task, let the loop turn `step` times, cancel it, and wait for its end.

    Raises AssertionError when the cancel was swallowed, turned into something else, or did not end the task.
    """
    task = asyncio.ensure_future(make())
    for _ in range(step):
        if task.done():
            break
        await asyncio.sleep(0)
    if task.done():
        if not task.cancelled():
            task.exception()  # seen
        return Swept(step, "finished")
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    done, _ = await asyncio.wait([task], timeout=5)
    assert done, f"hangs when cancelled at step {step}"
    assert task.cancelled(), f"the cancel at step {step} was swallowed: {task.exception() or task.result()!r}"
    return Swept(step, "cancelled")


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
            for _ in range(TURNS_AFTER):
                await asyncio.sleep(0)
            check()
            results.append(swept)
            if swept.outcome == "finished":
                break
    assert any(swept.outcome == "cancelled" for swept in results), "nothing was ever cancelled, so nothing is proven"
    return results
