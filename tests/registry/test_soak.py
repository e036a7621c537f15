"""The short form of `make soak`."""

import os
import subprocess
import sys
from pathlib import Path

OF_THE_MACHINE = ("a loop was stalled by us", "too few edits", "too few calls")
"""What a busy machine may do, too; and then it does not come three times. All else counts at once."""


def soak() -> subprocess.CompletedProcess[str]:
    """Run it without coverage, which would be most of what is measured."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    command = [sys.executable, str(Path(__file__).with_name("soak.py")), "--seconds", "10"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environ)


def test_ten_seconds_of_calls_and_edits_lose_nothing():
    done = soak()
    for _ in range(2):
        _, _, broken = done.stdout.rpartition("\n}\n")
        if not all(promise.startswith(OF_THE_MACHINE) for promise in broken.splitlines()):
            break
        done = soak()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("every promise held\n")
