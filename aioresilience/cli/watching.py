"""`aioresilience watch`: check again at every change, until Ctrl-C."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from aioresilience.cli.checking import Checked, examine, summary
from aioresilience.cli.console import faint, say
from aioresilience.cli.formats import as_text
from aioresilience.cli.reading import FINE, STDIN, Trouble
from aioresilience.registry.fingerprint import fingerprint

CLEAR: Final = "\x1b[2J\x1b[3J\x1b[H"
"""What empties a terminal and its memory, and goes to its first place."""
Look = dict[str, tuple[object, object]]
PAUSE: Final = 0.3
"""Seconds between two looks; a look is a stat of each file, so that every kind of file system will do."""


def watch(files: Sequence[str], environment: str | None, *, strict: bool, code: Path | None) -> int:
    """Check, print, wait for a change, and begin anew; returns the exit code when it is interrupted."""
    if STDIN in files:
        raise Trouble("standard input cannot be watched")
    watched = dict.fromkeys(files)
    try:
        while True:
            before = _look(watched, code)
            checked = examine(files, environment, strict=strict, code=code)
            if learned := dict.fromkeys(file for file in _files(checked) if file not in watched):
                watched.update(learned)
                continue  # they may have changed since they were read
            _show(checked)
            _wait(watched, code, before)
    except KeyboardInterrupt:
        return FINE


def _wait(watched: Iterable[str], code: Path | None, before: Look) -> None:
    """Return once something has changed and then stayed the same for a moment: editors save in several steps."""
    while (now := _look(watched, code)) == before:
        time.sleep(PAUSE)
    while (later := _settled(watched, code)) != now:
        now = later


def _settled(watched: Iterable[str], code: Path | None) -> Look:
    time.sleep(PAUSE / 3)
    return _look(watched, code)


def _look(watched: Iterable[str], code: Path | None) -> Look:
    """Return the state of every file: of those that were read, and of the code."""
    sources = map(str, sorted(code.rglob("*.py"))) if code is not None and code.is_dir() else []
    return {path: (stat, real) for path, stat, real in fingerprint([*watched, *sources])}


def _files(checked: Checked) -> Iterator[str]:
    """Yield the files that were read; of refused ones those that have something wrong."""
    if checked.document is not None:
        yield from (path for path, _ in checked.document.files)
    yield from (one.file for one in checked.found if one.line)


def _show(checked: Checked) -> None:
    if sys.stdout.isatty():
        sys.stdout.write(CLEAR)
    if checked.found:
        say(as_text(checked.found))
    say(f"{summary(checked)} {faint(time.strftime('at %H:%M:%S'))}")
    sys.stdout.flush()
