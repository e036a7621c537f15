"""`make demo`, run for real: the promises hold within 20 seconds, and a broken one is told."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from aioresilience.cli.demo.story import BROKEN, GOOD, Edit
from aioresilience.policy import BUILTIN
from aioresilience.config import ConfigError, TextSource, load
from aioresilience.resources import resource

ROOT = Path(__file__).parents[2]

RUNS = {
    "as shipped": ["-m", "aioresilience", "demo"],
    # Sabotage: the edit that should be broken breaks nothing, or the good one is as broken.
    "harmless": ["-c", "from aioresilience.cli.demo import *; from aioresilience.cli.demo.story import *; "
                 "raise SystemExit(run(Script(broken=Edit(()))))"],
    "never good": ["-c", "from aioresilience.cli.demo import *; from aioresilience.cli.demo.story import *; "
                   "raise SystemExit(run(Script(good=BROKEN, patience=1.5)))"],
}  # fmt: skip


@dataclass(frozen=True)
class Ran:
    code: int
    seconds: float
    output: str


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ran]]:
    """Run all three side by side, away from the source tree."""
    folder = tmp_path_factory.mktemp("demo")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AIORESILIENCE_", "COV_"))}
    started, running = time.monotonic(), {}
    for name, arguments in RUNS.items():
        running[name] = subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", *arguments],
            cwd=folder,
            env=clean | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
            stdin=subprocess.DEVNULL,
            stdout=(folder / f"{name}.txt").open("w"),
            stderr=subprocess.STDOUT,
        )
    done = {}
    try:
        for name, process in running.items():
            code = process.wait(timeout=60)
            done[name] = Ran(code, time.monotonic() - started, (folder / f"{name}.txt").read_text(encoding="utf-8"))
        yield done
    finally:
        for process in running.values():
            process.kill()
            process.wait()


def broken(run: Ran) -> str:
    return "\n".join(line for line in run.output.splitlines() if "BROKEN" in line)


def test_every_promise_holds_within_20_seconds(ran: dict[str, Ran]):
    demo = ran["as shipped"]
    assert demo.code == 0, demo.output
    assert demo.seconds < 20
    assert "All promises held" in demo.output
    assert not broken(demo)


def test_the_broken_edit_is_shown_as_a_user_would_see_it(ran: dict[str, Ran]):
    lines = ran["as shipped"].output.splitlines()
    errors = [line.strip() for line in lines if ": error AR" in line]
    assert [error.partition(": error ")[2].partition(":")[0] for error in errors] == [
        "AR201 policies.payments.circuit_breaker",
        "AR205 policies.quotes.timeout",
    ]
    assert all(error.startswith("resilience.yaml:") for error in errors)
    assert sum("did you mean 'failure_rate'?" in line for line in lines) == 1


def test_nothing_is_left_on_the_console_but_the_story(ran: dict[str, Ran]):
    for run in ran.values():
        for noise in ("Traceback", "ResourceWarning", "never awaited", "Task was destroyed"):
            assert noise not in run.output, run.output


def test_an_edit_that_should_be_refused_and_is_not_breaks_the_promise(ran: dict[str, Ran]):
    demo = ran["harmless"]
    assert demo.code == 1, demo.output
    assert "the broken file was refused" in broken(demo)
    assert "Not every promise held" in demo.output


def test_a_reload_that_does_not_come_breaks_the_promise(ran: dict[str, Ran]):
    demo = ran["never good"]
    assert demo.code == 1, demo.output
    for claim in ("the good file was applied", "those calls ended", "the open circuit stayed open", "enforce rejects"):
        assert claim in broken(demo)


def test_the_edits_fit_the_shipped_file():
    text = resource("demo", "resilience.yaml").read_text(encoding="utf-8")
    with pytest.raises(ConfigError):
        load(TextSource(BROKEN.of(text)), patterns=BUILTIN, in_service=False)
    for good in (text, GOOD.of(text)):
        found = load(TextSource(good), patterns=BUILTIN, in_service=False).findings
        assert [finding.severity for finding in found] == ["note"]  # the callable, which the service brings


def test_an_edit_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="once"):
        Edit((("nowhere", "x"),)).of("a: 1")
