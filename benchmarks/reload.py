"""What a reload costs the event loop: the longest stall while a file of many policies is applied, ten of them changed.

A task looks at the clock every millisecond; a stall is how much later than that it looks, and ours is what of it this
process spent on the CPU and the loop's thread did not wait for one. The collector runs as it does by default. Beside it
stand the same looks with nothing going on, and the same reload called on the loop itself.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import watchfiles

from aioresilience import Policy, Registry

TICK = 0.001
SETTLE = 0.05
GOALS = {1_000: 5.0, 10_000: 20.0}
"""Milliseconds by number of policies."""
CHANGED = 10


def text(policies: int, edition: int) -> str:
    """Write a file of many policies; ten of them differ from edition to edition."""
    lines = ["version: 1", "include: ['pack:http-client']", "policies:"]
    for number in range(policies):
        timeout = 1000 + edition if number < CHANGED else 1000 + number % 7
        lines.append(
            f"  service-{number}:\n    extends: http-client\n    idempotent: true\n    timeout: {timeout}ms\n"
            f"    bulkhead: {{max_concurrent: {10 + number % 7}, max_waiting: 5}}\n"
            f"    rate_limiter: {100 + number % 13}/second"
        )
    return "\n".join(lines) + "\n"


class Stalls:
    """The longest stall of the running loop while the block runs, and the longest collection, in milliseconds."""

    async def __aenter__(self) -> Stalls:
        self.longest = self.ours = self.collection = 0.0
        self._began = 0.0
        gc.callbacks.append(self._collected)
        self._task = asyncio.create_task(self._look())
        await asyncio.sleep(SETTLE)
        self.longest = self.ours = 0.0
        return self

    async def __aexit__(self, *reason: object) -> None:
        await asyncio.sleep(SETTLE)
        self._task.cancel()
        gc.callbacks.remove(self._collected)

    def _collected(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self.collection = max(self.collection, (time.perf_counter() - self._began) * 1000)

    async def _look(self) -> None:
        last, busy, queued = time.perf_counter(), time.process_time(), waited_for_a_cpu()
        while True:
            await asyncio.sleep(TICK)
            now, used, waited = time.perf_counter(), time.process_time(), waited_for_a_cpu()
            late = now - last - TICK
            self.longest = max(self.longest, late * 1000)
            self.ours = max(self.ours, min(late - (waited - queued), used - busy) * 1000)
            last, busy, queued = now, used, waited


def waited_for_a_cpu() -> float:
    """Return the seconds that this thread was ready to run while the machine had no CPU for it; 0 where unknown."""
    try:
        with open("/proc/thread-self/schedstat", encoding="ascii") as file:
            return int(file.read().split()[1]) / 1e9
    except OSError:
        return 0.0


async def during(work: Callable[[], Awaitable[object]]) -> Stalls:
    """Measure while `work` is under way."""
    async with Stalls() as stalls:
        await work()
    return stalls


def measured(policies: int, rounds: int) -> dict[str, float]:
    """Return the median of the longest stalls of several rounds, in milliseconds, with every policy in use."""
    found: dict[str, list[float]] = {
        "stall": [],
        "ours": [],
        "collection": [],
        "nothing": [],
        "inline": [],
        "seconds": [],
    }
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        path = Path(folder, "resilience.yaml")
        _publish(path, policies, 0)
        registry = Registry.from_file(path, environ={})
        for name in registry:
            registry.get(name)
        gc.collect()
        for edition in range(1, 2 * rounds, 2):
            _publish(path, policies, edition)
            start = time.perf_counter()
            stalls = runner.run(during(registry.areload))
            seconds = time.perf_counter() - start - 2 * SETTLE
            nothing = runner.run(during(partial(asyncio.sleep, seconds))).longest
            _publish(path, policies, edition + 1)
            inline = runner.run(during(partial(_inline, registry))).longest
            assert registry.generation == edition + 2
            for name, value in zip(
                found, (stalls.longest, stalls.ours, stalls.collection, nothing, inline, seconds), strict=True
            ):
                found[name].append(value)
    return {name: round(statistics.median(values), 2) for name, values in found.items()}


def _publish(path: Path, policies: int, edition: int) -> None:
    new = path.with_suffix(".new")
    new.write_text(text(policies, edition), encoding="utf-8")
    os.replace(new, path)


async def _inline(registry: Registry) -> None:
    registry.reload()
    await asyncio.sleep(0)


def delays(renames: int, *, polling: bool = False) -> list[float]:
    """Return the milliseconds from each rename of a small file to the policy in effect, with a watcher running."""
    with tempfile.TemporaryDirectory() as folder, _accelerator(off=polling):
        path = Path(folder, "resilience.yaml")
        _publish(path, 20, 0)
        registry = Registry.from_file(path, environ={})
        policy = registry.get("service-0")
        registry.start_watching()
        time.sleep(0.3)
        found = [_delay(path, policy, edition) for edition in range(1, renames + 1)]
        registry.stop_watching()
    return found


def _delay(path: Path, policy: Policy, edition: int) -> float:
    time.sleep(random.uniform(0, 0.05))
    _publish(path, 20, edition)
    renamed, end = time.perf_counter(), time.perf_counter() + 30
    while policy.timeout is None or policy.timeout.config.timeout != (1000 + edition) / 1000:
        if time.perf_counter() > end:
            raise TimeoutError(f"edition {edition} is not in effect after half a minute")
        time.sleep(0.001)
    return (time.perf_counter() - renamed) * 1000


@contextmanager
def _accelerator(*, off: bool) -> Iterator[None]:
    """Make the system's notices fail, as an exhausted inotify limit does."""

    def refused(*paths: str, **options: object) -> None:
        raise OSError("no notices")

    watch = watchfiles.watch
    try:
        watchfiles.watch = refused if off else watch
        yield
    finally:
        watchfiles.watch = watch


def noticed(renames: int = 100) -> dict[str, dict[str, float]]:
    """Print and return how soon a rename is in effect."""
    print("\nfrom a rename to the policy in effect, in ms; goal: 99 of 100 within 1000\n")
    rows = {}
    for name, found in {"notices": delays(renames), "polling alone": delays(renames // 10, polling=True)}.items():
        late = sum(delay > 1000 for delay in found)
        rows[name] = {"median": round(statistics.median(found)), "longest": round(max(found)), "late": late}
        print(f"{name:24}median {rows[name]['median']}, longest {rows[name]['longest']}, late {late} of {len(found)}")
    return rows


def main(rounds: int = 3) -> dict[str, dict[str, float]]:
    """Print the table and return it."""
    print(
        "\nlongest stall of the event loop while a file is applied, in ms, median of the rounds; the work in seconds\n"
    )
    print(f"{'':24}{'stall':>8}{'ours':>8}{'goal':>8}{'collector':>11}{'nothing':>9}{'inline':>9}{'seconds':>9}")
    rows = {f"{policies} policies": measured(policies, rounds) | {"goal": goal} for policies, goal in GOALS.items()}
    for name, row in rows.items():
        print(
            f"{name:24}{row['stall']:8.1f}{row['ours']:8.1f}{row['goal']:8.0f}{row['collection']:11.1f}{row['nothing']:9.1f}"
            f"{row['inline']:9.0f}{row['seconds']:9.2f}"
        )
    return rows | noticed()


if __name__ == "__main__":
    main()
