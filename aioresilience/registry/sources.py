"""Where a registry's documents come from, and whether the files are settled."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from aioresilience.config import AnySource, ConfigError, FileSource, MappingSource, TextSource, diagnose
from aioresilience.config.reading import read_bytes

Given = str | Path | Mapping[str, object]


def file_sources(paths: str | Path | Sequence[str | Path]) -> tuple[FileSource, ...]:
    """Turn paths into sources, low to high."""
    listed = [paths] if isinstance(paths, (str, Path)) else list(paths)
    return tuple(FileSource(Path(path)) for path in listed)


def given_source(given: Given) -> AnySource:
    """Tell what `apply` and `plan` were given: a str is YAML text, a Path a file, a mapping a document."""
    if isinstance(given, str):
        return TextSource(given)
    if isinstance(given, Path):
        return FileSource(given)
    if isinstance(given, Mapping):
        return MappingSource(given)
    raise TypeError(f"expected YAML text, a Path or a mapping, got {type(given).__name__}")


def read_settled(path: Path, tries: int = 5) -> bytes:
    """Read a file twice and return it once both reads agree; OSError when it never holds still."""
    before = _read(path)
    for _ in range(tries):
        again = _read(path)
        if again == before:
            return again
        before = again
    raise OSError(f"{path} changes while it is read")


def touch(paths: Iterable[str]) -> None:
    """Read files for nothing: where that hangs, who asked does alone, and holds back no other trigger."""
    for path in list(paths):
        with contextlib.suppress(OSError):
            read_settled(Path(path))


def _read(path: Path) -> bytes:
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # to read from a pipe may be to wait for ever
        raise OSError("it is neither a regular file nor a link to one")
    return read_bytes(path, 64 * 1024 * 1024)


def absolute(source: AnySource) -> str:
    """Name a source for people: the absolute path of a file."""
    return os.path.abspath(source.path) if isinstance(source, FileSource) else source.name


def unreadable(path: str, why: str) -> ConfigError:
    """Build the error of a file that cannot be watched or read."""
    return ConfigError([diagnose("AR101", None, f"{path}: {why}")])
