"""One request and its answer under an admission: from the guards to the last byte."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from aioresilience.calls import Caller
from aioresilience.clock import SYSTEM_CLOCK
from aioresilience.integrations.asgi.listener import Listener
from aioresilience.integrations.asgi.types import Message, Receive, Send
from aioresilience.policy import Admission, Entrance
from aioresilience.scope import Timeline

WATCH_AFTER: Final = 0.05
"""Seconds: a request that takes longer is watched for a client that leaves."""

_WATCHES: Final = Timeline(clock=SYSTEM_CLOCK)
"""One timer per loop begins all watches."""
_now: Final = SYSTEM_CLOCK.monotonic


class Exchange(Admission):
    """An admission that ends with the last byte of an answer, not with the app that gives it.

    `arrive`, where that is not enough `stay`; then the app with `receive` and `send`; then `returned` or `raised`. The
    outcome is the status; a client that leaves makes it neutral, and cancels an app that does not listen, where
    `cancels` says so. `first` is another admission, which ends when the answer begins. `adorn` may change the message
    that begins it.
    """

    __slots__ = (
        "_cancels", "_cut", "_ended", "_gone", "_hearing", "_listener", "_queue", "_receive", "_send", "_task",
        "_trailers", "adorn", "first", "status", "when",
    )  # fmt: skip

    when: float

    def __init__(self, entrance: Entrance, caller: Caller, receive: Receive, send: Send, cancels: bool = True) -> None:
        Admission.__init__(self, entrance, caller)
        self._receive = receive
        self._send = send
        self._cancels = cancels
        self._queue, self._task = _WATCHES.here()
        self.first: Admission | None = None
        self.adorn: Callable[[Message], None] | None = None
        self.status = 0
        self._ended = self._trailers = self._gone = self._cut = False
        self._hearing = 0
        self._listener: Listener | None = None

    # The way in

    def arrive(self) -> bool:
        """Enter as far as nobody waits, watched from now on; tell whether that is all."""
        self.when = when = _now() + WATCH_AFTER
        self._queue.add(self, when)
        return self.begin() and self.first is None

    async def stay(self) -> None:
        """Enter where that takes a wait."""
        if self._started is None:
            await self.wait()
        if self.first is not None:
            await self.first.enter()

    # What the app hears

    async def receive(self) -> Message:
        """Return the next message, as the app hears it."""
        self._hearing += 1
        try:
            listener = self._listener
            message = await (self._receive() if listener is None else listener.receive())
        finally:
            self._hearing -= 1
        if message["type"] == "http.disconnect":
            self._gone = True
        elif self._listener is not None:
            self._listen(self._listener)
        return message

    def fire(self) -> None:
        """Listen for a disconnect from now on, since this takes long."""
        self._listener = Listener(self._receive, self._left)
        self._listen(self._listener)

    def _listen(self, listener: Listener) -> None:
        if not self._hearing and not self._ended:
            listener.listen()

    def _left(self) -> None:
        """Cancel an app that does not hear by itself that its client has left, and that nobody else has cancelled."""
        self._gone, task = True, self._task
        if self._cancels and not (self._hearing or self._ended or task.cancelling()):
            self._cut = True
            task.cancel()

    def _was_cut(self, error: BaseException | None) -> bool:
        """Tell, once, whether we have cancelled the app and `error` is nothing but that."""
        if not self._cut:
            return False
        self._cut = False
        return self._task.uncancel() == 0 and isinstance(error, asyncio.CancelledError)

    # What the app says

    async def send(self, message: Message) -> None:
        """Pass a message on; the last one ends the exchange."""
        kind = message["type"]
        if kind == "http.response.start":
            self.status = message["status"]
            if self.first is not None or self.adorn is not None or "trailers" in message:
                self._begin(message)
        try:
            await self._send(message)
        except OSError:
            self._gone = True  # ASGI, spec 2.4: the client has left
            raise
        if kind == "http.response.body":
            if not (message.get("more_body")) and not self._trailers:
                self._leave(None)
        elif kind != "http.response.start" and _ends(message):
            self._leave(None)

    def _begin(self, message: Message) -> None:
        self._trailers = message.get("trailers", False)
        if self.first is not None:
            self.first.answered(self.status)
        if self.adorn is not None:
            self.adorn(message)

    # The end

    def returned(self) -> None:
        """Note that the app is through; an answer that is not whole by now never will be."""
        if not self._ended:
            self.status = 500  # the server makes an error of it
            self._leave(None)
        if self._cut:
            self._was_cut(None)

    async def raised(self, error: BaseException) -> Exception | None:
        """Raise what is to become of an error, or return the refusal or the overrun that is to be answered."""
        refusal = error if self._started is None and isinstance(error, Exception) else None
        left = self._leave(error)
        try:
            if self._was_cut(error):
                return None
            if refusal is not None:
                return refusal
            await self.report()
            if left is error or left is None:
                raise error
            if self.status or not isinstance(left, Exception):
                raise left
            return left
        finally:
            del error, left, refusal  # this frame is in their tracebacks, and must not keep them alive

    def _leave(self, error: BaseException | None) -> BaseException | None:
        """End, once; return the error to raise, which is another one where a bound of ours cut the app."""
        if self._ended:
            return error
        self._ended = True
        self._queue.remove(self)
        if self._listener is not None:
            self._listener.stop()
        if self._gone:
            self._settle(asyncio.CancelledError())
        elif error is not None:
            return self._settle(error)
        else:
            self.answered(self.status)
        return error

    def _settle(self, error: BaseException) -> BaseException | None:
        return self.leave(error if self.first is None else self.first.leave(error))


def _ends(message: Message) -> bool:
    """Tell whether a message that is neither the start nor a part of a body is the last one."""
    kind = message["type"]
    return kind == "http.response.pathsend" or (kind == "http.response.trailers" and not message.get("more_trailers"))
