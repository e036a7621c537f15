"""One event loop on a thread of its own, and what becomes of it in a forked child."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Final, Protocol

THREAD_NAME: Final = "aioresilience-backend"
LAST_TURNS: Final = 3


class IoThread:
    """A loop that runs until it is stopped; the process does not wait for it at its end."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"{THREAD_NAME}-{name}", daemon=True)
        self._thread.start()

    def call(self, callback: Callable[..., object], *args: object) -> None:
        """Run the callback on the loop; RuntimeError where it is stopped."""
        self.loop.call_soon_threadsafe(callback, *args)

    def stop_after(self, work: Callable[[], Coroutine[object, object, None]]) -> None:
        """Let the loop end, and be closed, once the work is done."""
        self.call(lambda: self.loop.create_task(work()).add_done_callback(lambda _: self.loop.stop()))

    def join(self, timeout: float) -> None:
        """Wait until the loop is closed, at most so many seconds."""
        self._thread.join(timeout)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.run_until_complete(_end_tasks())
            self.loop.close()


class Forkable(Protocol):
    """Something that must not go on in a forked child as it is."""

    def forked(self) -> None:
        """Start anew; what is dropped belongs to the parent."""


_forkables: weakref.WeakSet[Forkable] = weakref.WeakSet()


def renew_in_children(one: Forkable) -> None:
    """Have it start anew in every process that is forked from this one."""
    _forkables.add(one)


def _in_child() -> None:
    for one in list(_forkables):
        one.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


async def _end_tasks() -> None:
    """Cancel what is left, and let closed connections say goodbye."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for _ in range(LAST_TURNS):
        await asyncio.sleep(0)
