"""What tells that a file may have changed: every file and link on the way to it, and the file itself."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

Fingerprint = tuple[tuple[str, tuple[int, ...] | None, str | None], ...]
Folders = tuple[tuple[str, int, int], ...]
"""Path, device and inode: a folder that was deleted and made again is another one."""


def fingerprint(paths: Iterable[str]) -> Fingerprint:
    """Return the state of each path: the real file's identity, size and times, and where links lead.

    A path that cannot be looked at is part of the picture as None.
    """
    return tuple(_look(path) for path in paths)


def _look(path: str) -> tuple[str, tuple[int, ...] | None, str | None]:
    real = os.path.realpath(path)
    try:
        found = os.stat(real)
    except OSError:
        return path, None, real
    identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_mode)
    return path, identity, real


def folders(paths: Iterable[str]) -> Folders:
    """Return the existing folders to watch: the parent of each path, of each link on the way, and of the real file.

    Of a folder that is not there, the nearest one above it: that is where it will appear.
    """
    found: dict[str, tuple[str, int, int]] = {}
    for path in paths:
        for folder in _folders_of(os.path.abspath(path)):
            known = _nearest(folder)
            if known is not None:
                found[known[0]] = known
    return tuple(found.values())


def _folders_of(path: str) -> Iterator[str]:
    for _ in range(40):
        yield os.path.dirname(path)
        yield from map(os.path.dirname, _linked_parents(path))
        if not os.path.islink(path):
            break
        path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
    yield os.path.dirname(os.path.realpath(path))


def _nearest(folder: str) -> tuple[str, int, int] | None:
    while True:
        try:
            found = os.stat(folder)
        except OSError:
            above = os.path.dirname(folder)
            if above == folder:
                return None
            folder = above
            continue
        return folder, found.st_dev, found.st_ino


def _linked_parents(path: str) -> Iterator[str]:
    while (parent := os.path.dirname(path)) != path:
        if os.path.islink(parent):
            yield parent
        path = parent
