"""One request and its answer under an admission: from the guards to the last byte."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aioresilience.integrations.asgi.listener import Listener
from aioresilience.integrations.asgi.types import App, Message, Receive, Scope, Send
from aioresilience.policy import Admission


class Exchange:
    """Runs an app under an admission, which ends with the last byte of the answer, not with the app.

    Its outcome is `status_code`; a client that leaves makes it neutral. `first` is another admission, which ends when
    the answer begins. `adorn` may change the message that begins it.
    """

    __slots__ = ("_admission", "_ended", "_first", "_listener", "_send", "_trailers", "adorn", "began", "status_code")

    def __init__(
        self, receive: Receive, send: Send, admission: Admission, first: Admission | None = None, *, cancel: bool = True
    ) -> None:
        self._listener = Listener(receive, cancel=cancel)
        self._send = send
        self._admission = admission
        self._first = first
        self._ended = self._trailers = self.began = False
        self.status_code = 500
        self.adorn: Callable[[Message], None] | None = None

    async def run(self, app: App, scope: Scope) -> Exception | None:
        """Let the app answer; return the refusal or the overrun of ours that is to be answered in its place."""
        listener = self._listener
        listener.start()
        try:
            refusal = await self._enter()
            if refusal is not None:
                return refusal
            await app(scope, listener.receive, self.send)
        except BaseException as error:
            return self._raised(error)
        finally:
            listener.end()
        self._returned()
        return None

    async def _enter(self) -> Exception | None:
        try:
            await self._admission.enter()
            if self._first is not None:
                await self._first.enter()
        except Exception as refusal:
            self._leave(refusal)
            return refusal
        return None

    async def send(self, message: Message) -> None:
        """Pass a message on; the last one ends the exchange."""
        kind = message["type"]
        if kind == "http.response.start":
            self._begin(message)
        try:
            await self._send(message)
        except OSError:
            self._listener.gone = True  # ASGI, spec 2.4: the client has left
            raise
        if kind == "http.response.body":
            if not (message.get("more_body", False) or self._trailers):
                self._leave(None)
        elif kind == "http.response.pathsend" or (
            kind == "http.response.trailers" and not message.get("more_trailers", False)
        ):
            self._leave(None)

    def _begin(self, message: Message) -> None:
        self.began = True
        self.status_code = message["status"]
        self._trailers = message.get("trailers", False)
        if self._first is not None:
            self._first.leave(None, self)
        if self.adorn is not None:
            self.adorn(message)

    def _leave(self, error: BaseException | None) -> BaseException | None:
        """End, once; return the error to raise, which is another one where a bound of ours cut the app."""
        if self._ended:
            return error
        self._ended = True
        self._listener.end()
        if self._listener.gone:
            self._settle(asyncio.CancelledError())
            return error
        return self._settle(error)

    def _settle(self, error: BaseException | None) -> BaseException | None:
        result = self if error is None else None
        if self._first is not None:
            error = self._first.leave(error, result)
        return self._admission.leave(error, result)

    def _returned(self) -> None:
        if not self._ended:  # an answer that is not whole by now never will be
            self.status_code = 500
            self._leave(None)
        self._listener.cut()

    def _raised(self, error: BaseException) -> Exception | None:
        left = self._leave(error)
        if self._listener.cut(error):
            return None
        if left is error or left is None:
            raise error
        if self.began or not isinstance(left, Exception):
            raise left
        return left
