"""Interleaved timing: every subject in turn, many short rounds, the best round of each.

A round is shorter than the slice of time that a busy machine gives us, so that the best one is undisturbed.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable, Mapping

Subject = Callable[[], Awaitable[object]]


async def nanoseconds(subjects: Mapping[str, Subject], *, rounds: int = 150, calls: int = 300) -> dict[str, float]:
    """Return the best nanoseconds per call of each subject over interleaved rounds."""
    best = dict.fromkeys(subjects, float("inf"))
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, subject in subjects.items():
                begun = time.perf_counter_ns()
                for _ in range(calls):
                    await subject()
                best[name] = min(best[name], (time.perf_counter_ns() - begun) / calls)
    finally:
        gc.enable()
    return best
