"""The short form of `make soak`."""

import os
import subprocess
import sys
from pathlib import Path


def test_ten_seconds_of_calls_and_edits_lose_nothing():
    """Without coverage, which would be most of what is measured."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    command = [sys.executable, str(Path(__file__).with_name("soak.py")), "--seconds", "10"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("every promise held\n")
