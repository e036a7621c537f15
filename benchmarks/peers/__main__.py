"""`python -m benchmarks.peers`: every library's patterns over the bare call, interleaved, as a table and as JSON."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
from pathlib import Path

from benchmarks.peers.environments import REQUIREMENTS, ROOT, python, subjects

CHILD = Path(__file__).with_name("child.py")
ROWS = ("circuit breaker", "open circuit", "retry", "timeout", "bulkhead", "fallback", "rate limiter", "five patterns")
Figures = dict[str, dict[str, float]]


def take(rounds: int, loop: str) -> Figures:
    """Return the best nanoseconds by library and subject; every round gives every library a process of its own."""
    interpreters = {library: python(library) for library in REQUIREMENTS}
    best: Figures = {library: {} for library in REQUIREMENTS}
    for _ in range(rounds):
        for library, interpreter in interpreters.items():
            command = [interpreter, str(CHILD), str(subjects(library)), loop]
            run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
            for name, value in json.loads(run.stdout).items():
                best[library][name] = min(value, best[library].get(name, float("inf")))
    return best


def table(figures: Figures) -> str:
    """Write a Markdown table: ratios over the bare call of the same process, and nanoseconds."""
    lines = ["| over the bare call (ns) | " + " | ".join(figures) + " |", "|---|" + "---:|" * len(figures)]
    for row in ROWS:
        cells = [_cell(taken, row) for taken in figures.values()]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(taken: dict[str, float], row: str) -> str:
    return f"{taken[row] / taken['bare']:.1f} ({taken[row]:,.0f})" if row in taken else "–"


def main() -> None:
    """Take the figures on both loops, print them, and write benchmarks/peers.json."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="processes of each library")
    rounds = parser.parse_args().rounds
    results = {}
    for loop in ("asyncio", "uvloop"):
        results[loop] = take(rounds, loop)
        print(f"\nPython {platform.python_version()}, {loop}, best of {rounds} interleaved rounds\n")
        print(table(results[loop]))
    (ROOT / "benchmarks" / "peers.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
