"""What comes from the client, and whether it is still there."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from aioresilience.clock import SYSTEM_CLOCK
from aioresilience.integrations.asgi.types import Message, Receive
from aioresilience.scope import Timeline, TimerQueue

WATCH_AFTER: Final = 0.05
"""Seconds: a request that takes longer is watched for a client that leaves."""

_WATCHES: Final = Timeline(clock=SYSTEM_CLOCK)
"""One timer per loop begins all watches."""


class Listener:
    """Receives for the app; once a request takes long, also by itself while the app does not, to notice a disconnect.

    `gone` says that the client has left. An app that does not listen is then cancelled, if `cancel` says so.
    """

    __slots__ = (
        "_cancel", "_cancelling", "_cut", "_ended", "_hearing", "_kept", "_loop", "_queue", "_receive", "_task",
        "_watch", "_watching", "gone", "when",
    )  # fmt: skip

    def __init__(self, receive: Receive, *, cancel: bool) -> None:
        self._receive = receive
        self._cancel = cancel
        self._hearing = 0
        self._kept: deque[Message] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._watching = self._ended = self._cut = False
        self.gone = False

    def start(self) -> None:
        """Begin; must run on the task that runs the app."""
        loop = self._loop = asyncio.get_running_loop()
        task = self._task = asyncio.current_task(loop)
        self._cancelling = 0 if task is None else task.cancelling()
        self.when = SYSTEM_CLOCK.monotonic() + WATCH_AFTER
        queue: TimerQueue = _WATCHES.queue(loop)
        self._queue = queue
        queue.add(self, self.when)

    def end(self) -> None:
        """Stop watching: the answer is out, or the app has returned."""
        if not self._ended:
            self._ended = True
            self._queue.remove(self)
            if self._watch is not None:
                self._watch.cancel()

    def fire(self) -> None:
        """Watch from now on."""
        self._watching = True
        self._listen()

    async def receive(self) -> Message:
        """Return the next message, as the app sees it."""
        self._hearing += 1
        try:
            message = await self._next()
        finally:
            self._hearing -= 1
        if message["type"] == "http.disconnect":
            self.gone = True
        elif self._watching:
            self._listen()
        return message

    async def _next(self) -> Message:
        while not self._kept:
            watch = self._watch
            if watch is None:
                return await self._receive()
            await asyncio.wait([watch])
        return self._kept.popleft()

    def _listen(self) -> None:
        if not (self._ended or self._hearing or self._kept or self._watch):
            self._kept = deque()
            self._watch = self._loop.create_task(self._hear(), name="aioresilience: is the client still there?")

    async def _hear(self) -> None:
        """Receive ahead: all of a body that is there, of a longer one a single part, then wait for the disconnect."""
        assert self._kept is not None
        try:
            more = False
            while not (more or self.gone):
                message = await self._receive()
                self._kept.append(message)
                more = message.get("more_body", False)
                self.gone = message["type"] == "http.disconnect"
        except Exception:
            return  # the server's own trouble; the app meets it when it receives
        finally:
            self._watch = None
        if self.gone:
            self._left()

    def _left(self) -> None:
        """Cancel an app that does not hear of it by itself."""
        if self._cancel and not self._hearing and not self._ended and self._task is not None:
            self._cut = True
            self._task.cancel()

    def cut(self, error: BaseException | None = None) -> bool:
        """Tell, once, whether we have cancelled the app and `error` is nothing but that."""
        if not self._cut or self._task is None:
            return False
        self._cut = False
        return self._task.uncancel() <= self._cancelling and isinstance(error, asyncio.CancelledError)
