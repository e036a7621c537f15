"""Is the client still there? What is received ahead of the app, to find out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from aioresilience.integrations.asgi.types import Message, Receive


class Listener:
    """Receives while the app does not: all of a body that is there, of a longer one a single part, then the disconnect.

    What it heard the app hears later, in order. `left` is called when the client has left.
    """

    __slots__ = ("_kept", "_left", "_news", "_receive", "_task")

    def __init__(self, receive: Receive, left: Callable[[], None]) -> None:
        self._receive = receive
        self._left = left
        self._kept: deque[Message] = deque()
        self._news = asyncio.Event()
        """There is something that was heard, or nobody hears any longer."""
        self._task: asyncio.Task[None] | None = None

    def listen(self) -> None:
        """Begin, unless there is something that the app has not heard yet."""
        if not self._kept and not self._listens():
            self._task = asyncio.get_running_loop().create_task(self._hear(), name="aioresilience: disconnect?")
            self._task.add_done_callback(lambda task: self._news.set())

    def _listens(self) -> bool:
        return self._task is not None and not self._task.done()

    def stop(self) -> None:
        """Stop; what was heard is kept."""
        if self._task is not None:
            self._task.cancel()

    async def receive(self) -> Message:
        """Return the next message for the app."""
        while not self._kept:
            if not self._listens():
                return await self._receive()
            self._news.clear()
            await self._news.wait()
        return self._kept.popleft()

    async def _hear(self) -> None:
        gone = more = False
        try:
            while not (more or gone):
                message = await self._receive()
                self._kept.append(message)
                self._news.set()
                more = message.get("more_body", False)
                gone = message["type"] == "http.disconnect"
        except Exception:
            return  # the server's own trouble; the app meets it when it receives
        if gone:
            self._left()
