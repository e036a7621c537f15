"""`python -m benchmarks`: every figure as a ratio over the bare call, with its goal, as a table and as JSON."""

from __future__ import annotations

import asyncio
import json
import platform
import subprocess
import sys
from pathlib import Path

from benchmarks import asgi, config, reload, scale
from benchmarks.call import subjects
from benchmarks.measure import nanoseconds

GOALS = {
    "circuit-breaker": 4, "consecutive": 4, "bulkhead": 4, "rate-limiter": 4, "load-shedder": 4, "backpressure": 4,
    "adaptive-concurrency": 4, "retry": 4, "fallback": 4, "five": 10, "open": 10,
}  # fmt: skip
"""Ratios over the bare call; the timeout's goal is a fifth of asyncio.timeout."""

Rows = dict[str, dict[str, float | None]]


def ratios() -> Rows:
    """Measure, and return nanoseconds, ratio and goal by name."""
    taken = asyncio.run(nanoseconds(subjects() | scale.ways()))
    heard = asyncio.run(nanoseconds({"one listener": scale.listened_to()}, rounds=30, calls=100))
    bare = taken["bare"]
    goals = GOALS | {"timeout": round(taken["asyncio.timeout"] / bare / 5, 1)}
    return {
        name: {"nanoseconds": round(value), "ratio": round(value / bare, 2), "goal": goals.get(name)}
        for name, value in (taken | heard).items()
    }


def sizes() -> dict[str, object]:
    """Print and return what comes in crowds: calls at once, keys, policies."""
    crowd, keys, policies = asyncio.run(scale.crowd_ratio()), scale.keyed_limits(), scale.policy_bytes()
    print(f"\n1,000 calls at once through five patterns {crowd:.2f} × bare (goal: 1.6)")
    for count, of in keys.items():
        print(f"limit by key, {count:,} keys: {of['bytes']} B a key (goal: 100), {of['nanoseconds']} ns a call")
    for what, size in policies.items():
        print(f"a policy of five patterns, {what}: {size:,} B")
    return {"crowd": crowd, "keys": {str(count): of for count, of in keys.items()}, "policy_bytes": policies}


def import_milliseconds(module: str, rounds: int = 5) -> float:
    """Return the best time of importing a module in an interpreter of its own, start-up taken off."""
    code = f"import time; t = time.perf_counter(); import {module}; print((time.perf_counter() - t) * 1000)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True) for _ in range(rounds)]
    return min(float(run.stdout) for run in runs)


def main() -> None:
    """Print the table and write benchmarks/results.json."""
    rows = ratios()
    print(f"Python {platform.python_version()}, ratios over the bare call, best of interleaved rounds\n")
    print(f"{'':24}{'ns':>8}{'ratio':>8}{'goal':>8}")
    for name, row in rows.items():
        goal = f"{row['goal']}" if row["goal"] is not None else ""
        print(f"{name:24}{row['nanoseconds']:8}{row['ratio']:8}{goal:>8}")
    ours, loop = import_milliseconds("aioresilience"), import_milliseconds("asyncio")
    both = import_milliseconds("asyncio, aioresilience")
    print(f"\nimport aioresilience {ours:.1f} ms, asyncio {loop:.1f} ms, both {both:.1f} ms (goal: 1.2 × asyncio)")
    results = {
        "python": platform.python_version(),
        "calls": rows,
        "sizes": sizes(),
        "import_ms": {"aioresilience": ours, "asyncio": loop},
        "reload_ms": reload.main(),
        "requests": asgi.show(),
        "config_s": config.show(),
    }
    Path("benchmarks/results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
