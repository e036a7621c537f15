"""`python -m benchmarks.redis`: decisions a second on a real server, ours beside others', interleaved, with goals."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from benchmarks.peers.environments import ROOT, environment
from tests.redis.servers import server

FOLDER = Path(__file__).parent / "redis_peers"
REDIS = "redis==8.1.0"
TASKS = ("1", "50", "1000")
Figures = dict[str, dict[str, float]]


class Subject(NamedTuple):
    """A file of `redis_peers`, and what its environment holds; nothing means ours."""

    file: str
    packages: tuple[str, ...] = ()


SUBJECTS = {
    "redis-py: EVALSHA that does nothing": Subject("bare.py", (REDIS,)),
    "limits: moving window": Subject("of_limits.py", ("limits==5.8.0", REDIS)),
    "throttled-py: GCRA": Subject("of_throttled.py", ("throttled-py==3.5.0", REDIS)),
    "pyrate-limiter": Subject("of_pyrate.py", ("pyrate-limiter==4.5.1", REDIS)),
    "aioresilience 0.2.1": Subject("of_0_2.py", ("aioresilience==0.2.1", REDIS)),
    "RedisRateLimiter": Subject("ours.py"),
    "batched": Subject("ours.py"),
    "a key each": Subject("ours.py"),
    "leased": Subject("ours.py"),
}
OTHERS = ("limits: moving window", "throttled-py: GCRA", "pyrate-limiter")


def interpreter(name: str, subject: Subject) -> str:
    """Return the Python that has what the subject needs."""
    library = f"redis {name.partition(':')[0]}".replace(" ", "-")
    return environment(library, list(subject.packages)) if subject.packages else sys.executable


def take(rounds: int, seconds: float) -> Figures:
    """Return the most decisions a second by subject and tasks; every round gives each a process and a fresh server."""
    interpreters = {name: interpreter(name, subject) for name, subject in SUBJECTS.items()}
    best: Figures = {name: {} for name in SUBJECTS}
    for _ in range(rounds):
        for name, subject in SUBJECTS.items():
            with server() as one:
                command = [interpreters[name], str(FOLDER / "child.py"), str(FOLDER / subject.file), one.url]
                run = subprocess.run(
                    [*command, str(seconds), name], stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT
                )
            for tasks, value in json.loads(run.stdout).items():
                best[name][tasks] = max(value, best[name].get(tasks, 0.0))
    return best


def goals(figures: Figures) -> list[tuple[str, float, float]]:
    """Return what was reached at 50 tasks beside each goal."""
    before, other = figures["aioresilience 0.2.1"]["50"], max(figures[name]["50"] for name in OTHERS)
    batched, leased = figures["batched"]["50"], figures["leased"]["50"]
    return [
        ("batched over 0.2.1", batched / before, 8),
        ("batched over the best other", batched / other, 4),
        ("leased over 0.2.1", leased / before, 40),
    ]


def main() -> None:
    """Take the figures, print them with the goals, and write benchmarks/redis.json."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="processes of each subject")
    parser.add_argument("--seconds", type=float, default=0.7, help="of each measurement")
    given = parser.parse_args()
    figures = take(given.rounds, given.seconds)
    print(f"Python {platform.python_version()}, decisions a second, best of {given.rounds} interleaved rounds\n")
    print("| tasks | " + " | ".join(TASKS) + " |\n|---|" + "---:|" * len(TASKS))
    for name, row in figures.items():
        print(f"| {name} | " + " | ".join(f"{row[tasks]:,.0f}" for tasks in TASKS) + " |")
    print()
    for what, reached, goal in goals(figures):
        print(f"{what}: {reached:.1f} × (goal: {goal} ×)")
    (ROOT / "benchmarks" / "redis.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
