"""CPU and memory, sampled by one thread of the process while a load shedder wants to know."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from aioresilience.extras import install, is_installed, needs
from aioresilience.load_shedding import cgroup
from aioresilience.logging import log_error

_FIRST_PAUSE: Final = 0.1
"""Seconds after which the first CPU use is known: it is a difference of two readings."""


class Sample(NamedTuple):
    """What is in use, in percent of what this process's container, or else the machine, has."""

    cpu_percent: float
    memory_percent: float


Reader = Callable[[], Sample]


def require_psutil() -> None:
    """Raise ModuleNotFoundError that names the extra when psutil is not installed; imports nothing."""
    if not is_installed("psutil"):
        raise ModuleNotFoundError(f"{needs('sampling', 'system')}: {install('system')}", name="psutil")


class SystemReader:
    """Reads the container's use where it is limited, the machine's where it is not."""

    def __init__(self, root: Path = Path("/"), monotonic: Callable[[], float] = time.monotonic) -> None:
        import psutil

        self._psutil = psutil
        self._cgroup = cgroup.find(root)
        self._monotonic = monotonic
        self._before: dict[Path, tuple[float, float]] = {}
        psutil.cpu_percent(None)
        self._contained_cpu()

    def __call__(self) -> Sample:
        """Read both; the CPU use is that since the last reading."""
        cpu, memory = self._contained_cpu(), self._contained_memory()
        machine_cpu = self._psutil.cpu_percent(None)
        return Sample(
            machine_cpu if cpu is None else cpu,
            self._psutil.virtual_memory().percent if memory is None else memory,
        )

    def _contained_cpu(self) -> float | None:
        now, before, percents = self._monotonic(), self._before, []
        self._before = {}
        for group, seconds, cpus in self._cgroup.cpu():
            self._before[group] = (now, seconds)
            then, used = before.get(group, (now, seconds))
            percents.append(100.0 * max(0.0, seconds - used) / ((now - then) * cpus) if now > then else 0.0)
        return max(percents, default=None)

    def _contained_memory(self) -> float | None:
        return max((100.0 * used / limit for used, limit in self._cgroup.memory()), default=None)


class Subscription:
    """What a subscriber of a sampler holds."""

    __slots__ = ("_number", "_sampler", "end")

    def __init__(self, sampler: SystemSampler, number: int, end: Callable[[], object]) -> None:
        self._sampler = sampler
        self._number = number
        self.end = end

    @property
    def latest(self) -> Sample | None:
        """The latest sample; sees to it that the thread runs, which it does not after a fork."""
        if not self._sampler.running:
            self._sampler.ensure_running()
        return self._sampler.sample

    def every(self, interval: float) -> None:
        """Sample at another interval, in seconds."""
        self._sampler.change(self._number, interval)


class SystemSampler:
    """One daemon thread that samples for all subscribers, at the shortest of their intervals, while any lives.

    `sample` is what callers read; None until the first one, and while reading fails.
    """

    def __init__(
        self, open_reader: Callable[[], Reader] = SystemReader, require: Callable[[], None] = require_psutil
    ) -> None:
        self.sample: Sample | None = None
        self.running = False
        self._open_reader = open_reader
        self._require = require
        self._intervals: dict[int, float] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()

    def subscribe(self, owner: object, interval: float) -> Subscription:
        """Sample every `interval` seconds as long as `owner` lives, or until the subscription is ended."""
        self._require()
        number = next(self._numbers)
        self._intervals[number] = interval
        ending = weakref.finalize(owner, self._leave, number)
        ending.atexit = False
        self._notice()
        self.ensure_running()
        return Subscription(self, number, ending)

    def change(self, number: int, interval: float) -> None:
        """Sample at another interval for a subscriber."""
        if number in self._intervals:
            self._intervals[number] = interval
            self._notice()

    def ensure_running(self) -> None:
        """Start the thread unless it runs; after a fork it does not."""
        with self._lock:
            if not self.running and self._intervals:
                self.running = True
                threading.Thread(target=self._run, name="aioresilience-load-sampler", daemon=True).start()

    def _leave(self, number: int) -> None:
        """Forget a subscriber: may run inside the garbage collector, so it takes no lock."""
        self._intervals.pop(number, None)
        self._notice()

    def _notice(self) -> None:
        if self.running:
            self._wake.put(None)

    def _run(self) -> None:
        sampling = _Sampling(self._open_reader)
        last, pause = time.monotonic(), _FIRST_PAUSE
        while (interval := self._shortest_or_stop()) is not None:
            left = last + min(interval, pause) - time.monotonic()
            if left > 0:
                self._sleep(left)
                continue
            self.sample = sampling.read()
            last, pause = time.monotonic(), math.inf

    def _shortest_or_stop(self) -> float | None:
        with self._lock:
            interval = min(tuple(self._intervals.values()), default=None)
            if interval is None:
                self.running = False
                self.sample = None
            return interval

    def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(queue.Empty):
            self._wake.get(timeout=seconds)

    def forget_thread(self) -> None:
        """Take note that a fork left the thread behind."""
        self._lock = threading.Lock()
        self._wake = queue.SimpleQueue()
        self.running = False
        self.sample = None


class _Sampling:
    """Opens the reader, and again after it failed; a failure is reported once until the next success."""

    __slots__ = ("_failing", "_open_reader", "_reader")

    def __init__(self, open_reader: Callable[[], Reader]) -> None:
        self._open_reader = open_reader
        self._reader: Reader | None = None
        self._failing = False
        self.read()

    def read(self) -> Sample | None:
        try:
            if self._reader is None:
                self._reader = self._open_reader()
                return None
            sample = self._reader()
        except Exception as error:
            if not self._failing:
                log_error("aioresilience.load_shedding", error, doing="sampling CPU and memory")
            self._reader, self._failing = None, True
            return None
        self._failing = False
        return sample


SAMPLER: Final = SystemSampler()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=SAMPLER.forget_thread)
