"""What tells that a file may have changed: every file and link on the way to it, and the file itself."""

from __future__ import annotations

import os
from collections.abc import Iterable

Fingerprint = tuple[tuple[str, tuple[int, ...] | None, str | None], ...]


def fingerprint(paths: Iterable[str]) -> Fingerprint:
    """Return the state of each path: the real file's identity, size and times, and where links lead.

    A path that cannot be looked at is part of the picture as None.
    """
    return tuple(_look(path) for path in paths)


def _look(path: str) -> tuple[str, tuple[int, ...] | None, str | None]:
    try:
        real = os.path.realpath(path)
        found = os.stat(real)
    except OSError:
        return path, None, None
    identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_mode)
    return path, identity, real


def folders(paths: Iterable[str]) -> tuple[str, ...]:
    """Return the existing folders to watch: the parent of each path, of each link on the way, and of the real file."""
    found: dict[str, None] = {}
    for path in paths:
        current = os.path.abspath(path)
        for _ in range(40):
            found.setdefault(os.path.dirname(current))
            for parent in _linked_parents(current):
                found.setdefault(os.path.dirname(parent))
            if not os.path.islink(current):
                break
            current = os.path.normpath(os.path.join(os.path.dirname(current), os.readlink(current)))
        found.setdefault(os.path.dirname(os.path.realpath(path)))
    return tuple(folder for folder in found if os.path.isdir(folder))


def _linked_parents(path: str) -> list[str]:
    parents = []
    while (parent := os.path.dirname(path)) != path:
        if os.path.islink(parent):
            parents.append(parent)
        path = parent
    return parents
