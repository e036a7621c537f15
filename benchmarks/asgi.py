"""What middleware adds to a request, in microseconds: ours, Starlette's base class, and 0.2.1, interleaved."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.environments import ROOT, environment

FOLDER = Path(__file__).with_name("requests")
CHILD = Path(__file__).with_name("peers") / "child.py"
GOAL = 3.0
"""Microseconds that pure-ASGI middleware may add to a request."""
Figures = dict[str, dict[str, float]]


def take(rounds: int = 3) -> Figures:
    """Return the best nanoseconds by version and subject; each round gives each version a process of its own."""
    release = environment("aioresilience-0.2-requests", ["aioresilience==0.2.1", "fastapi"])
    versions = {"ours": (sys.executable, "ours.py"), "0.2.1": (release, "release_0_2.py")}
    best: Figures = {version: {} for version in versions}
    for _ in range(rounds):
        for version, (interpreter, file) in versions.items():
            command = [interpreter, str(CHILD), str(FOLDER / file), "asyncio"]
            run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
            for name, value in json.loads(run.stdout).items():
                best[version][name] = min(value, best[version].get(name, float("inf")))
    return best


def show() -> Figures:
    """Take the figures and print what each middleware adds over the bare app of its own process."""
    figures = take()
    ours, release = ({name: (t[name] - t["app"]) / 1000 for name in t} for t in figures.values())
    print(f"\n{'a request, µs added':24}{'ours':>8}{'0.2.1':>8}{'goal':>8}")
    for name, added in ours.items():
        if name not in ("app", "bare"):
            before = f"{release[name]:.1f}" if name in release else ""
            goal = "" if name == "BaseHTTPMiddleware" else GOAL
            print(f"{name:24}{added:8.2f}{before:>8}{goal:>8}")
    return figures
