"""Run one subject on a server with 1, 50 and 1,000 tasks; print the decisions a second as JSON."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import time


async def per_second(hit, tasks: int, seconds: float) -> float:
    """Let so many tasks decide over and over, for so long."""
    done, end = 0, time.perf_counter() + seconds

    async def work() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await hit()
            done += 1

    begun = time.perf_counter()
    await asyncio.gather(*[work() for _ in range(tasks)])
    return done / (time.perf_counter() - begun)


async def main(path: str, url: str, seconds: float, name: str) -> None:
    spec = importlib.util.spec_from_file_location("subject", path)
    subject = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(subject)
    hit, close = await subject.make(url, name)
    await per_second(hit, 10, 0.1)
    print(json.dumps({tasks: await per_second(hit, tasks, seconds) for tasks in (1, 50, 1000)}))
    await close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4]))
