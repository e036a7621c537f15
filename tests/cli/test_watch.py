"""watch: a real process on real files."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 60


@contextmanager
def watching(*words: str) -> Iterator[queue.Queue[str]]:
    """Run the command; what it prints comes line by line; it must end well when it is interrupted."""
    command = [sys.executable, "-m", "aioresilience", "watch", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=_heed_interrupts)
    lines: queue.Queue[str] = queue.Queue()
    reader = threading.Thread(target=lambda: [lines.put(line) for line in process.stdout])
    reader.start()
    try:
        yield lines
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(PATIENCE)
        reader.join(PATIENCE)
        process.stdout.close()
    assert code == 0


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever runs the tests in the background ignores it


def summary(lines: queue.Queue[str]) -> str:
    """Return the last line of the next check."""
    while True:
        line = lines.get(timeout=PATIENCE)
        if line.startswith(("fine", "refused", "not fine")):
            return line


def test_it_checks_again_whenever_a_file_changes(write):
    write("include: [common.yaml]\npolicies: {a: {timeout: 2s}}")
    common = write("templates: {}", "common.yaml")
    with watching("resilience.yaml") as lines:
        assert summary(lines).startswith("fine: 1 policy in 2 files")
        write("include: [common.yaml]\npolicies: {a: {timeuot: 2s}}")
        assert summary(lines).startswith("refused: 1 error")
        new = write("include: [common.yaml]\npolicies: {a: {timeout: 2s}, b: {}}", "new.yaml")
        new.replace("resilience.yaml")  # as editors save
        assert summary(lines).startswith("fine: 2 policies")
        common.write_text("version: 1\ntemplates: {t: {timeout: 1}}\n")
        assert "1 warning" in summary(lines)
        common.unlink()
        assert summary(lines).startswith("refused")
        write("templates: {}", "common.yaml")
        assert summary(lines).startswith("fine: 2 policies")


def test_it_looks_at_the_code_too(write):
    write("policies: {a: {timeout: 2s}}")
    code = write("", "src/service.py")
    code.write_text("")
    with watching("resilience.yaml", "--code", "src", "--strict") as lines:
        assert summary(lines).startswith("not fine")
        code.with_name("other.py").write_text('registry.get("a")\n')
        assert summary(lines).startswith("fine")


def test_standard_input_cannot_be_watched(run):
    result = run("watch", "-", input="version: 1\n")
    assert (result.exit_code, "cannot be watched" in result.output) == (2, True)
