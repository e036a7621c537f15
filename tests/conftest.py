"""What every test is held to: it ends, and it leaves no task and no thread behind; fixtures of a module are not."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import logging
import math
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from aioresilience import logging as library_logging, scope
from aioresilience.events import audience
from aioresilience.registry import default, names
from aioresilience.testing import EventLog

# The same examples every time, however slowly they come; `--hypothesis-profile=explore` looks where nobody has been.
BUSY = (HealthCheck.too_slow,)
settings.register_profile("suite", deadline=None, derandomize=True, suppress_health_check=BUSY)
settings.register_profile("explore", deadline=None, suppress_health_check=BUSY)
settings.load_profile("suite")

EventLog.wait_for.__defaults__ = (1, 60.0)  # an event of a real file or server comes late on a busy machine

PATIENCE = 15.0
"""Seconds that a thread may take to end: what never ends is found all the same."""

TOO_LONG = 200.0
"""Seconds for a test: many times what the longest needs. Within them faults of its own show; after them it hangs."""

# Threads that the library keeps: for handlers of events without a loop, and for overrides that are to end.
KEPT_THREADS = ("aioresilience-events", "aioresilience-overrides")


@pytest.fixture(autouse=True)
def in_bounded_time() -> Iterator[None]:
    """Fail a test that waits for what never comes; hence a test waits for an event or a thread without a deadline."""
    before = signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, TOO_LONG, 10.0)  # again, where somebody swallows what is raised
    yield
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def nothing_left_behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test whose loops close with tasks pending, or whose threads go on after it."""
    tasks: list[str] = []
    cancel_all = asyncio.runners._cancel_all_tasks  # type: ignore[attr-defined]

    def note_and_cancel_all(loop: asyncio.AbstractEventLoop) -> Any:
        tasks.extend(repr(task) for task in asyncio.all_tasks(loop))
        return cancel_all(loop)

    # Every Runner, pytest-asyncio's too, ends by cancelling what is left.
    monkeypatch.setattr(asyncio.runners, "_cancel_all_tasks", note_and_cancel_all)
    monkeypatch.setattr(library_logging, "_kinds", {})  # what one test wrote keeps no other from writing
    monkeypatch.setattr(default, "_default", None)
    monkeypatch.setattr(names, "_default", set())
    if audience.size:
        gc.collect()  # who listened for another test, and is gone, stops now and not in the middle of this one
    before = set(threading.enumerate())
    logger = logging.getLogger("aioresilience")
    level, disabled = logger.level, logger.disabled
    yield
    logger.setLevel(level)  # what one test silenced is not silent in the next
    logger.disabled = disabled
    threads = _threads_left(before)
    if tasks or threads:
        pytest.fail("left behind: " + "; ".join([*tasks, *threads]), pytrace=False)


@pytest.fixture(autouse=True)
def the_same_luck(request: pytest.FixtureRequest) -> None:
    """Let a test draw the same numbers in every run: jitter decides which calls meet, and so which circuit opens."""
    random.seed(request.node.nodeid)


@pytest.fixture
def timers_may_be_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a timer of the real clock that rings late for what it is on a busy machine: no loop that stood still."""
    monkeypatch.setattr(scope, "STALL_SECONDS", math.inf)


@pytest.fixture
def untraced() -> Iterator[None]:
    """Run without coverage a test that measures: it would be most of what is measured."""
    before, of_threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)  # type: ignore[arg-type]
    yield
    threading.settrace(of_threads)  # type: ignore[arg-type]
    sys.settrace(before)


def _threads_left(before: set[threading.Thread]) -> list[str]:
    deadline = time.monotonic() + PATIENCE
    for thread in set(threading.enumerate()) - before:
        if not thread.name.startswith(KEPT_THREADS):
            thread.join(max(0.0, deadline - time.monotonic()))
    left = set(threading.enumerate()) - before
    return [repr(thread) for thread in left if not thread.name.startswith(KEPT_THREADS)]


def _give_up(number: int, frame: FrameType | None) -> None:
    """Show where every thread and every task of this loop stands, and fail."""
    faulthandler.dump_traceback(sys.__stderr__)
    with contextlib.suppress(RuntimeError):  # no loop runs here
        for task in asyncio.all_tasks():
            task.print_stack(file=sys.stderr)
    pytest.fail("the test does not end: where it stands is in its stderr")
