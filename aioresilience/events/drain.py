"""One run through a queue of events, as a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from contextlib import suppress
from contextvars import Context, ContextVar
from types import TracebackType
from typing import Protocol

from aioresilience.events.loops import running_loop

BATCH = 256
"""Events that one handler gets before the loop has its turn."""

in_handler: ContextVar[bool] = ContextVar("aioresilience_in_handler", default=False)
_CONTEXT = Context()  # handlers inherit nothing from a call: neither its deadline nor its request
_CONTEXT.run(in_handler.set, True)


class Source(Protocol):
    """What a drain empties."""

    async def serve_next(self, drain: Drain) -> bool:
        """Deal with one event; False when there is none, or when another drain took over."""

    def release(self, drain: Drain) -> None:
        """Let another drain begin."""


class Drain(Coroutine[object, None, None]):
    """Serve what is pending, on one loop.

    A coroutine object of our own making: one that its loop never gets to leaves no "never awaited" behind.
    """

    __slots__ = ("_source", "_task", "_work", "loop")

    def __init__(self, source: Source, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._source = source
        self._task: asyncio.Task[None] | None = None  # loops hold their tasks weakly
        self._work: Coroutine[object, None, None] | None = None

    def start(self) -> bool:
        """Begin with the loop's next turn; False where the loop does not take it."""
        try:
            if running_loop() is self.loop:
                self._begin()
            else:
                self.loop.call_soon_threadsafe(self._begin)
        except RuntimeError:  # closed a moment ago
            return False
        return True

    def send(self, value: None, /) -> object:
        """Take one step."""
        try:
            return self._running().send(value)
        except BaseException:
            self._end()
            raise

    def throw(
        self, error: type[BaseException] | BaseException, value: object = None, trace: TracebackType | None = None, /
    ) -> object:
        """Take one step by raising `error`."""
        try:
            return self._running().throw(error)
        except BaseException:
            self._end()
            raise

    def close(self) -> None:
        """Stop where it stands."""
        self._running().close()
        self._end()

    def __await__(self) -> Generator[object, None, None]:
        return self._serve_all().__await__()

    def _begin(self) -> None:
        # Not create_task: an eager task factory would call the handler inside the emitting call.
        self._task = asyncio.Task(self, loop=self.loop, name="aioresilience-events", context=_CONTEXT.copy())
        with suppress(AttributeError):  # a loop closed with tasks pending complains of each; this one may be lost
            self._task._log_destroy_pending = False  # type: ignore[attr-defined]

    def _running(self) -> Coroutine[object, None, None]:
        if self._work is None:
            self._work = self._serve_all()
        return self._work

    def _end(self) -> None:
        self._task = None
        self._source.release(self)

    async def _serve_all(self) -> None:
        served = 0
        while await self._source.serve_next(self):
            served += 1
            if served % BATCH == 0:
                await asyncio.sleep(0)


def must_pass(error: BaseException) -> bool:
    """Say whether an error out of foreign code is meant for the task rather than for whoever called that code."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, KeyboardInterrupt | GeneratorExit)
