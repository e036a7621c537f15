"""What a container may use, and uses: cgroup v1 and v2.

A limit of any parent holds too, so every directory from the process's own cgroup up to the root is read. Files and
meanings: the kernel's Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, Protocol

_UNLIMITED_BYTES: Final = 1 << 60
"""Version 1 writes "no limit" as the largest number of pages."""


class CpuUse(NamedTuple):
    """Seconds of CPU used so far by a cgroup that may use so many CPUs."""

    group: Path
    seconds: float
    cpus: float


class MemoryUse(NamedTuple):
    """Bytes in use without the page cache, in a cgroup that may use so many."""

    used: int
    limit: int


class Cgroup(Protocol):
    """The limited cgroups that this process is in; nothing where no limit is set or nothing can be read."""

    def cpu(self) -> Iterator[CpuUse]:
        """Return the CPU use wherever it is limited."""

    def memory(self) -> Iterator[MemoryUse]:
        """Return the memory use wherever it is limited."""


def find(root: Path) -> Cgroup:
    """Return the reader for the version that is mounted below `root`, "/" on a real system."""
    mount = root / "sys/fs/cgroup"
    paths = _own_paths(root / "proc/self/cgroup")
    if (mount / "cgroup.controllers").exists():
        return CgroupV2(_upward(mount, paths.get("", "/")))
    return CgroupV1(mount, paths)


class CgroupV2:
    """One hierarchy for everything."""

    def __init__(self, groups: list[Path]) -> None:
        self._groups = groups

    def cpu(self) -> Iterator[CpuUse]:
        """Return the CPU use wherever `cpu.max` sets a quota."""
        for group in self._groups:
            quota, period = [*_numbers(group / "cpu.max"), None, None][:2]
            usage = _table(group / "cpu.stat").get("usage_usec")
            if quota and period and usage is not None:
                yield CpuUse(group, usage / 1e6, quota / period)

    def memory(self) -> Iterator[MemoryUse]:
        """Return the memory use wherever `memory.max` sets a limit."""
        for group in self._groups:
            limit, current = _first(group / "memory.max"), _first(group / "memory.current")
            if limit and current is not None:
                stat = _table(group / "memory.stat")
                cache = stat.get("inactive_file", 0) + stat.get("active_file", 0)
                yield MemoryUse(max(0, current - cache), limit)


class CgroupV1:
    """One hierarchy for each controller."""

    def __init__(self, mount: Path, paths: dict[str, str]) -> None:
        self._accounts = _upward(_mounted(mount, "cpuacct"), paths.get("cpuacct", "/"))
        self._cpu = _upward(_mounted(mount, "cpu"), paths.get("cpu", "/"))
        self._memory = _upward(_mounted(mount, "memory"), paths.get("memory", "/"))

    def cpu(self) -> Iterator[CpuUse]:
        """Return the CPU use wherever `cpu.cfs_quota_us` is set."""
        offset = len(self._accounts) - len(self._cpu)  # the two may hang at different depths below their mounts
        for depth, group in enumerate(self._cpu):
            quota, period = _first(group / "cpu.cfs_quota_us"), _first(group / "cpu.cfs_period_us")
            usage = _first(self._accounts[max(0, depth + offset)] / "cpuacct.usage")
            if quota and quota > 0 and period and usage is not None:
                yield CpuUse(group, usage / 1e9, quota / period)

    def memory(self) -> Iterator[MemoryUse]:
        """Return the memory use wherever `memory.limit_in_bytes` sets a limit."""
        for group in self._memory:
            limit, current = _first(group / "memory.limit_in_bytes"), _first(group / "memory.usage_in_bytes")
            if limit and limit < _UNLIMITED_BYTES and current is not None:
                stat = _table(group / "memory.stat")
                cache = stat.get("total_inactive_file", 0) + stat.get("total_active_file", 0)
                yield MemoryUse(max(0, current - cache), limit)


def _own_paths(listing: Path) -> dict[str, str]:
    """Read which cgroup the process is in, by controller; version 2 has the empty name."""
    paths: dict[str, str] = {}
    for line in _text(listing).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        paths.update(dict.fromkeys(controllers.split(","), path))
    return paths


def _upward(mount: Path, path: str) -> list[Path]:
    """Return the group and its parents as far as they exist below the mount, which in a container shows its own."""
    parts = [part for part in path.split("/") if part and part != ".."]
    groups = [mount.joinpath(*parts[:depth]) for depth in range(len(parts), 0, -1)]
    return [*filter(Path.is_dir, groups), mount]


def _mounted(mount: Path, controller: str) -> Path:
    names = (controller, "cpu,cpuacct", "cpuacct,cpu") if controller != "memory" else (controller,)
    return next((mount / name for name in names if (mount / name).is_dir()), mount / controller)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _numbers(path: Path) -> list[int | None]:
    """Read the numbers of a file; None for "max" and the like."""
    return [_number(word) for word in _text(path).split()]


def _first(path: Path) -> int | None:
    return next(iter(_numbers(path)), None)


def _number(word: str) -> int | None:
    try:
        return int(word)
    except ValueError:
        return None


def _table(path: Path) -> dict[str, int]:
    """Read lines of a name and a number."""
    rows = (line.split() for line in _text(path).splitlines())
    numbers = {row[0]: _number(row[1]) for row in rows if len(row) == 2}
    return {name: number for name, number in numbers.items() if number is not None}
