"""Run hostile files through the loader, each in a process of its own; print seconds of CPU and MB of memory as JSON."""

from __future__ import annotations

import itertools
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aioresilience.config import ConfigError, FileSource, load
from aioresilience.policy import BUILTIN

SIZE = 8 * 1024 * 1024
CHUNK = 1000
ENOUGH = 0.8
"""Seconds; what took longer is measured again, for the machine may have been busy."""

Line = Callable[[int], str]

CASES: dict[str, tuple[str, Line, str]] = {
    # name: how the file begins, its further entries until it is 8 MiB long, how it ends
    "unique keys": ("metadata:\n", lambda n: f"  k{n}: v{n}\n", ""),
    "policies": ("policies:\n", lambda n: f"  p{n}: {{timeout: {n}ms}}\n", ""),
    "unknown fields": ("policies:\n", lambda n: f"  p{n}: {{x{n}: 1}}\n", ""),
    "anchors": ("x-a:\n", lambda n: f"  &a{n} k{n}: 1\n", ""),
    "empty blocks": ("x-a: [", lambda n: "{},", "]"),
    "doubled keys": ("", lambda n: "a: 1\n", ""),
    "comments that silence": ("", lambda n: "# aioresilience: ignore[AR402]\n", ""),
    "one long text": ("x-a: '", lambda n: "some words ", "'"),
    "open brackets": ("x-a: ", lambda n: "[", ""),
    "a key without end": ("policies: {", lambda n: "a-", ": {}}"),
    "unset variables": ("service: '", lambda n: "${X}", "'"),
    "variables": ("metadata:\n", lambda n: f"- ${{V{n}:-v}}\n", ""),
    "unknown names": ("policies: {a: {retry: {retry_on_exceptions: [", lambda n: f"r{n},", "]}}}"),
    "dependencies": ("policies:\n", lambda n: f"  k{n}: {{retry: 3, about: {{depends_on: [k{n + 1}]}}}}\n", ""),
}


def write(name: str, path: Path) -> None:
    """Write a case to a file, in pieces."""
    start, line, end = CASES[name]
    left = SIZE - len(end)
    with path.open("w", encoding="utf-8") as file:
        left -= file.write(f"version: 1\n{start}")
        for number in itertools.count(0, CHUNK):
            entries = "".join(map(line, range(number, number + CHUNK)))
            if len(entries) > left:
                break
            left -= file.write(entries)
        file.write(end)


def measured(path: Path) -> dict[str, Any]:
    """Load a file and return what it took."""
    memory, begun = _peak(), time.process_time()
    try:
        load(FileSource(path), patterns=BUILTIN, environ={})
        shown, ids = "fine", []
    except ConfigError as error:
        shown, ids = str(error), sorted({one.id for one in error.diagnostics})
    seconds = time.process_time() - begun
    return {"seconds": seconds, "megabytes": _peak() - memory, "length": len(shown), "ids": ids}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_child(path: Path) -> dict[str, Any]:
    """Measure in a forked child, whose peak begins at what it inherits."""
    receiving, sending = os.pipe()
    child = os.fork()
    if not child:
        os.write(sending, json.dumps(measured(path)).encode())
        os._exit(0)
    os.close(sending)
    with os.fdopen(receiving) as answer:
        found: dict[str, Any] = json.loads(answer.read())
    os.waitpid(child, 0)
    return found


def main(folder: Path, names: list[str]) -> None:
    """Write and measure the named cases, or all of them."""
    found = {}
    for name in names or list(CASES):
        path = folder / "hostile.yaml"
        write(name, path)
        rounds = [in_child(path)]
        while rounds[-1]["seconds"] > ENOUGH and len(rounds) < 5:
            rounds.append(in_child(path))
        found[name] = min(rounds, key=lambda one: one["seconds"])
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
