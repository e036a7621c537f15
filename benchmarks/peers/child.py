"""Times the subjects of one file in this interpreter and prints nanoseconds by name; needs nothing but the library.

`python child.py SUBJECTS.py asyncio|uvloop`
"""

from __future__ import annotations

import asyncio
import gc
import json
import runpy
import sys
import time
from collections.abc import Awaitable, Callable

SECONDS = 0.02
"""How long one pass over one subject takes."""
PASSES = 3


async def bare() -> int:
    """Return at once."""
    return 1


async def nanoseconds(subject: Callable[[], Awaitable[object]], calls: int) -> float:
    """Return what one call takes over `calls` of them."""
    begun = time.perf_counter_ns()
    for _ in range(calls):
        await subject()
    return (time.perf_counter_ns() - begun) / calls


async def measure(path: str) -> dict[str, float]:
    """Return the best of the passes for every subject of the file, the bare call first."""
    made = runpy.run_path(path)["subjects"](bare)
    subjects = {"bare": bare, **(await made if asyncio.iscoroutine(made) else made)}
    calls = {name: max(20, int(SECONDS * 1e9 / await nanoseconds(subject, 20))) for name, subject in subjects.items()}
    best = dict.fromkeys(subjects, float("inf"))
    gc.collect()
    gc.disable()
    for _ in range(PASSES):
        for name, subject in subjects.items():
            best[name] = min(best[name], await nanoseconds(subject, calls[name]))
    return best


def main() -> None:
    """Measure on the loop that the second argument names."""
    path, loop = sys.argv[1:]
    if loop == "uvloop":
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    else:
        runner = asyncio.Runner()
    with runner:
        print(json.dumps(runner.run(measure(path))))


if __name__ == "__main__":
    main()
