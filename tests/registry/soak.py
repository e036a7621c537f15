"""Calls go on while the file changes a thousand times, one edit in ten of it broken: nothing is lost, nothing grows.

`python tests/registry/soak.py` takes two minutes and exits with 1 when a promise breaks; `--seconds 10` is the short
form. Twenty policies, five hundred calls a second from several tasks on two loops in two threads, and an editor in a
process of its own.

A loop that looks at the clock too late was stalled by us as far as this process was on the CPU meanwhile, whichever of
its threads was, and the loop's own thread was not waiting for a CPU. The rest is the machine's; what a process beside
us suffers that does nothing but look at the clock is allowed to us too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from aioresilience import Registry, RejectionError, disable_logging

CALLS_PER_SECOND = 500
TASKS_PER_LOOP = 10
POLICIES = 20
TICK = 0.005
STALL = 0.020
WARM = 1.0
"""Seconds in which every path is taken once before anything is measured."""
GROWTH = 5.0
"""Megabytes."""


# The editor


def document(chance: random.Random, edition: int) -> str:
    """Write an edition: the same policies, other values."""
    lines = [f"metadata: {{edition: {edition}}}", "version: 1", "policies:"]
    for number in range(POLICIES):
        lines.append(f"  p{number}:\n    idempotent: true\n    timeout: {chance.randint(2, 9)}s")
        lines.append(f"    bulkhead: {{max_concurrent: {chance.randint(1, 8)}, max_waiting: {chance.randint(0, 9)}}}")
        lines.extend(f"    {more}" for more in chosen(chance, number))
    return "\n".join([*lines, "end: true", ""])


def chosen(chance: random.Random, number: int) -> list[str]:
    """Return what else a policy has, by its number, so that the shape stays while the values change."""
    retry = f"retry: {{max_attempts: {chance.randint(1, 3)}, initial_delay: 1ms, max_delay: 5ms}}"
    breaker = f"circuit_breaker: {{failure_threshold: {chance.randint(3, 9)}, window: {chance.choice(['10s', 50])}}}"
    adaptive = f"adaptive_concurrency: {{initial_limit: {chance.randint(2, 9)}, min_limit: 2, max_limit: 30}}"
    rate = f"rate_limiter: {chance.randint(5, 40)}/second"
    pressure = f"backpressure: {{max_pending: 50, high_water_mark: {chance.randint(5, 20)}, low_water_mark: 3}}"
    if number == 0:
        return [f"rate_limiter: {{rate: {chance.randint(5, 10)}/hour, burst: {chance.randint(5, 10)}}}"]
    if number % 5 == 4 and chance.random() < 0.5:
        return [rate]  # a pattern that comes and goes
    return [[retry, breaker], [adaptive], [rate, retry], [pressure, breaker], [retry]][number % 5]


def broken(chance: random.Random, text: str) -> str:
    """Break an edition in one of the ways in which people break files."""
    return chance.choice(
        [
            text[: len(text) // 2],
            text.replace("timeout: ", "timeot: ", 1),
            text.replace("max_waiting: ", "max_waiting: -", 3),
            "",
            text + "policies: {}\n",
        ]
    )


def edit(path: Path, seconds: float, edits: int) -> None:
    """Publish editions by renames and by writing in place; the last one is good."""
    chance = random.Random(7)
    begun = time.monotonic()
    for edition in range(1, edits + 1):
        text = document(chance, edition)
        if edition % 10 == 0 and edition != edits:
            text = broken(chance, text)
        if edition % 3:
            new = path.with_suffix(".new")
            new.write_text(text, encoding="utf-8")
            os.replace(new, path)
        else:
            path.write_text(text, encoding="utf-8")
        time.sleep(max(0.0, begun + seconds * edition / edits - time.monotonic()))


# The stalls


class Stalls:
    """How late a loop looks at the clock, and how much of that this process was on the CPU."""

    def __init__(self) -> None:
        self.longest = self.ours = 0.0

    async def look(self, warm: float = 0.0) -> None:
        await asyncio.sleep(warm)
        last, busy, queued = time.perf_counter(), time.process_time(), waited_for_a_cpu()
        while True:
            await asyncio.sleep(TICK)
            now, used, waited = time.perf_counter(), time.process_time(), waited_for_a_cpu()
            late = now - last - TICK
            self.longest = max(self.longest, late)
            self.ours = max(self.ours, min(late - (waited - queued), used - busy))
            last, busy, queued = now, used, waited


def waited_for_a_cpu() -> float:
    """Return the seconds that this thread was ready to run while the machine had no CPU for it."""
    with open("/proc/thread-self/schedstat", encoding="ascii") as file:
        return int(file.read().split()[1]) / 1e9


def control(seconds: float) -> None:
    """Look at the clock in a process where nothing else happens, and print the longest delay in milliseconds."""

    async def main() -> None:
        stalls = Stalls()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stalls.look(), seconds)
        print(f"{stalls.longest * 1000:.1f}")

    asyncio.run(main())


# The calls


class Traffic:
    """The calls of one loop, in a thread of its own, and what became of them."""

    def __init__(self, registry: Registry, seed: int) -> None:
        self.registry = registry
        self.outcomes: Counter[str] = Counter()
        self.admitted: Counter[str] = Counter()
        self.stalls = Stalls()
        self.tasks = 0
        self._chance = random.Random(seed)
        self._stop = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._main()))

    async def _main(self) -> None:
        looking = asyncio.create_task(self.stalls.look(WARM))
        async with asyncio.TaskGroup() as group:
            for _ in range(TASKS_PER_LOOP):
                group.create_task(self._calls())
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await asyncio.sleep(0.2)
        self.tasks = len(asyncio.all_tasks()) - 1

    async def _calls(self) -> None:
        pause = 2 * TASKS_PER_LOOP / CALLS_PER_SECOND
        due = time.monotonic()
        running: set[asyncio.Task[None]] = set()
        while not self._stop.is_set():
            task = asyncio.create_task(self._call(f"p{self._chance.randrange(POLICIES)}"))
            running.add(task)
            task.add_done_callback(running.discard)
            due += pause
            await asyncio.sleep(due - time.monotonic())
        await asyncio.gather(*running)

    async def _call(self, name: str) -> None:
        try:
            if self._chance.random() < 0.02:
                await asyncio.wait_for(self.registry.get(name).call(self._work, 1.0), 0.005)
            else:
                await self.registry.get(name).call(self._work, self._chance.uniform(0.001, 0.02))
            self.outcomes["succeeded"] += 1
            self.admitted[name] += 1
        except RejectionError as error:
            self.outcomes[f"rejected by {error.pattern_type}"] += 1
        except TimeoutError as error:
            self.outcomes["cancelled from outside" if type(error) is TimeoutError else repr(error)] += 1
            self.admitted[name] += 1
        except Exception as error:
            self.outcomes[repr(error)] += 1

    @staticmethod
    async def _work(seconds: float) -> None:
        await asyncio.sleep(seconds)

    def stop(self) -> None:
        self._stop.set()
        self.thread.join()


# What must not grow, and what must come back


def sizes() -> dict[str, float]:
    """Return what a leak would show in: the least of some looks, between which a file is read and closed again."""
    looks = []
    for _ in range(10):
        looks.append(sizes_now())
        time.sleep(0.02)
    return {name: min(look[name] for look in looks) for name in looks[0]}


def sizes_now() -> dict[str, float]:
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[1])
    return {
        "megabytes": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        "threads": threading.active_count(),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


def lost(registry: Registry) -> list[str]:
    """Return every permit that has not come back, with all calls at an end."""
    found = []
    for name, policy in registry.policies.items():
        for key, status in policy.status()["patterns"].items():  # type: ignore[union-attr]
            taken = {field: status.get(field) for field in ("active", "waiting", "pending", "half_open_calls")}
            found.extend(f"{name}.{key}: {field} {value}" for field, value in taken.items() if value)
            ended = status["succeeded"] + status["failed"] + status["neutral"]
            if status["started"] != ended:
                found.append(f"{name}.{key}: started {status['started']}, ended {ended}")
    return found


def soak(seconds: float, edits: int) -> tuple[dict[str, object], list[str]]:
    """Run, and return the figures and the broken promises."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "resilience.yaml")
        path.write_text(document(random.Random(1), 0), encoding="utf-8")
        registry = Registry.from_file(path, environ={})
        registry.start_watching()
        for name in registry:
            assert registry.get(name).patterns  # the first use of a policy makes them, on whichever thread that is
        gc.collect()
        gc.freeze()  # as a service does after its start: what is there for good is not looked through again
        traffics = [Traffic(registry, seed) for seed in (1, 2)]
        for traffic in traffics:
            traffic.thread.start()
        this = [sys.executable, __file__]
        beside = subprocess.Popen([*this, "--control", str(seconds)], stdout=subprocess.PIPE, text=True)
        editor = subprocess.Popen([*this, "--edit", str(path), "--seconds", str(seconds), "--edits", str(edits)])
        time.sleep(seconds * 0.3)
        before = sizes()
        editor.wait()
        after = sizes()
        machine, _ = beside.communicate()
        revision = Registry.from_file(path, environ={}).revision
        caught_up = until(lambda: registry.revision == revision)
        for traffic in traffics:
            traffic.stop()
        registry.stop_watching()
        outcomes = sum((traffic.outcomes for traffic in traffics), Counter())
        figures: dict[str, object] = {
            "calls": sum(outcomes.values()),
            "outcomes": dict(outcomes),
            "reloads": registry.status()["reloads"],
            "growth": {name: round(after[name] - before[name], 2) for name in after},
            "longest_stall_ms": [round(traffic.stalls.longest * 1000, 1) for traffic in traffics],
            "longest_stall_by_us_ms": [round(traffic.stalls.ours * 1000, 1) for traffic in traffics],
            "longest_stall_of_a_process_that_does_nothing_ms": float(machine),
        }
        return figures, list(broken_promises(registry, traffics, figures, seconds, edits, caught_up=caught_up))


def until(happened, patience: float = 30.0) -> bool:
    """Wait for something; False when it does not happen."""
    end = time.monotonic() + patience
    while not happened():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def broken_promises(registry, traffics, figures, seconds, edits, *, caught_up):
    """Yield what must not be."""
    allowed = ("succeeded", "cancelled from outside", "rejected by ")
    yield from (f"a call failed: {name}" for name in figures["outcomes"] if not name.startswith(allowed))
    yield from (f"a lost permit: {one}" for one in lost(registry))
    if not caught_up:
        yield f"the last edition is not in effect: {registry.status()['last_error']}"
    spent = sum(traffic.admitted["p0"] for traffic in traffics)
    if spent > 11:  # at most ten at once, and at most ten an hour
        yield f"a free refill: {spent} calls under five to ten an hour"
    reloads = figures["reloads"]
    if reloads["applied"] < edits * 0.3 or reloads["rejected"] < edits * 0.02:
        yield f"too few edits of {edits} were seen: {reloads}"
    if figures["calls"] < CALLS_PER_SECOND * seconds * 0.5:
        yield f"too few calls: {figures['calls']}"
    growth = figures["growth"]
    if growth["megabytes"] > GROWTH or growth["threads"] > 0 or growth["descriptors"] > 0:
        yield f"it grows: {growth}"
    tasks = [traffic.tasks for traffic in traffics]
    if any(tasks) or registry.events.handler_count:
        yield f"left behind: {tasks} tasks, {registry.events.handler_count} handlers"
    if (
        max(figures["longest_stall_by_us_ms"])
        > STALL * 1000 + figures["longest_stall_of_a_process_that_does_nothing_ms"]
    ):
        yield f"a loop was stalled by us: {figures['longest_stall_by_us_ms']} ms"


def main() -> int:
    """Read the arguments, run, print figures and broken promises."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--edits", type=int)
    parser.add_argument("--edit", type=Path)
    parser.add_argument("--control", type=float)
    given = parser.parse_args()
    edits = given.edits or round(given.seconds * 1000 / 120)
    if given.control is not None:
        control(given.control)
    elif given.edit is not None:
        edit(given.edit, given.seconds, edits)
    else:
        disable_logging()  # one edit in ten is broken on purpose
        figures, promises = soak(given.seconds, edits)
        print(json.dumps(figures, indent=2))
        print("\n".join(promises) or "every promise held")
        return 1 if promises else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
