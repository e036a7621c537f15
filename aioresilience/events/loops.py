"""Which event loops can take work: the running ones, and a private thread's where there is none."""

from __future__ import annotations

import asyncio
import atexit
import os
from contextlib import suppress
from threading import Event, RLock, Thread

GRACE = 0.25
"""Seconds that handlers on the private thread get to finish when the process ends."""

_lock = RLock()  # reentrant: a finalizer may publish while this thread starts the other
_private: tuple[asyncio.AbstractEventLoop, Thread] | None = None


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop this thread is running, if any."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def private_loop() -> asyncio.AbstractEventLoop:
    """Return the loop of our own daemon thread, started by the first call."""
    global _private
    with _lock:
        if _private is None or not _private[0].is_running():
            _private = _start()
        return _private[0]


def _start() -> tuple[asyncio.AbstractEventLoop, Thread]:
    loop, ready = asyncio.new_event_loop(), Event()
    thread = Thread(target=_run, args=(loop,), name="aioresilience-events", daemon=True)
    loop.call_soon(ready.set)
    try:
        thread.start()
    except RuntimeError:
        loop.close()
        raise
    ready.wait()
    return loop, thread


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


@atexit.register
def _finish() -> None:
    if _private is not None:
        loop, thread = _private
        with suppress(RuntimeError):  # a handler has ended the thread
            loop.call_soon_threadsafe(lambda: loop.create_task(_rest()))
        thread.join(2 * GRACE)  # no longer: a handler may block it


async def _rest() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if tasks:
        await asyncio.wait(tasks, timeout=GRACE)
    asyncio.get_running_loop().stop()


def _forget() -> None:
    global _lock, _private
    _lock, _private = RLock(), None  # a forked child has the loop but not its thread


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
