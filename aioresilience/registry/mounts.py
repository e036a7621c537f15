"""Finding files whose changes can never arrive: mounted one by one into a container, they stay what they were."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

MOUNTS = "/proc/self/mountinfo"


def mounted_alone(paths: Iterable[str], mounts: str = MOUNTS) -> list[str]:
    """Return the paths that are mount points themselves: a single-file bind mount, or a Kubernetes `subPath`."""
    points = set(_points(mounts))
    return [path for path in paths if os.path.realpath(path) in points]


def _points(mounts: str) -> Iterator[str]:
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                fields = line.split(" ", 5)
                if len(fields) == 6:
                    yield re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
    except OSError:  # no such file but on Linux
        return
