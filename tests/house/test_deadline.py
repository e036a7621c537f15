"""A test that waits for what never comes fails, and says where it stands."""

from __future__ import annotations

import asyncio
import queue
import signal
import threading
from collections.abc import Callable

import pytest


def soon() -> None:
    """Let the deadline that every test has be over."""
    signal.setitimer(signal.ITIMER_REAL, 0.02)


@pytest.mark.parametrize("wait", [threading.Event().wait, queue.Queue[int]().get], ids=["event", "queue"])
def test_a_thread_that_waits_is_given_up(wait: Callable[[], object], capfd: pytest.CaptureFixture[str]):
    soon()
    with pytest.raises(pytest.fail.Exception, match="does not end"):
        wait()
    assert "in test_a_thread_that_waits_is_given_up" in capfd.readouterr().err


def test_a_loop_that_waits_is_given_up_and_its_tasks_are_shown(capfd: pytest.CaptureFixture[str]):
    loop = asyncio.new_event_loop()
    task = loop.create_task(never(asyncio.Event()))
    soon()
    with pytest.raises(pytest.fail.Exception, match="does not end"):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()
    assert "await event.wait()" in capfd.readouterr().err


async def never(event: asyncio.Event) -> None:
    await event.wait()
