"""watch: a real process on real files."""

from __future__ import annotations

import itertools
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from aioresilience.cli import watching
from aioresilience.cli.checking import examine

PATIENCE = 120
"""Seconds that a machine may take that has much else to do."""


@contextmanager
def running(*words: str) -> Iterator[queue.Queue[str]]:
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
        try:
            code = process.wait(PATIENCE)
        finally:
            process.kill()
            reader.join(PATIENCE)
            process.stdout.close()
    assert code == 0


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # whoever runs the tests in the background ignores it


def until(lines: queue.Queue[str], expected: str) -> None:
    """Wait for a summary; a file that is half written may give another one before it."""
    seen = []
    deadline = time.monotonic() + PATIENCE
    while not seen or expected not in seen[-1]:
        try:
            seen.append(lines.get(timeout=max(0.0, deadline - time.monotonic())))
        except queue.Empty:
            raise AssertionError(f"{expected!r} did not come, but {seen}") from None


def test_it_checks_again_whenever_a_file_changes(write):
    write("include: [common.yaml]\npolicies: {a: {timeout: 2s}}")
    common = write("templates: {}", "common.yaml")
    with running("resilience.yaml") as lines:
        until(lines, "fine: 1 policy in 2 files")
        write("include: [common.yaml]\npolicies: {a: {timeuot: 2s}}")
        until(lines, "unknown field 'timeuot'")
        new = write("include: [common.yaml]\npolicies: {a: {timeout: 2s}, b: {}}", "new.yaml")
        new.replace("resilience.yaml")  # as editors save
        until(lines, "fine: 2 policies")
        common.write_text("version: 1\ntemplates: {t: {timeout: 1}}\n")
        until(lines, "1 warning")
        common.unlink()
        until(lines, "AR309")
        write("templates: {}", "common.yaml")
        until(lines, "fine: 2 policies")


def test_it_looks_at_the_code_too(write):
    write("policies: {a: {timeout: 2s}}")
    code = write("", "src/service.py")
    code.write_text("")
    with running("resilience.yaml", "--code", "src", "--strict") as lines:
        until(lines, "not fine")
        code.with_name("other.py").write_text('registry.get("a")\n')
        until(lines, "fine: 1 policy")


def test_a_file_that_changes_right_after_it_was_found_is_read_again(write, monkeypatch, capsys):
    main = write("include: [common.yaml]\npolicies: {a: {}}")
    common = write("templates: {}", "common.yaml")
    looks = itertools.count()

    def examine_and_change(*args, **kwargs):
        checked = examine(*args, **kwargs)
        if "broken" not in common.read_text("utf-8"):
            write("broken: {}", common)
        return checked

    def sleep(seconds):
        if next(looks) > 20:
            raise KeyboardInterrupt

    monkeypatch.setattr(watching, "examine", examine_and_change)
    monkeypatch.setattr(watching.time, "sleep", sleep)
    assert watching.watch([str(main)], None, strict=False, code=None) == 0
    assert "unknown field 'broken'" in capsys.readouterr().out


def test_standard_input_cannot_be_watched(run):
    result = run("watch", "-", input="version: 1\n")
    assert (result.exit_code, "cannot be watched" in result.output) == (2, True)
