"""What it takes to let an app answer twice: a request that can be read again, an answer that can be taken back."""

from __future__ import annotations

from collections.abc import Collection

from aioresilience.integrations.asgi.types import Message, Receive, Send


class ReplayableBody:
    """A request's body, kept up to `limit` bytes so that it can be read again from its beginning."""

    __slots__ = ("_complete", "_kept", "_limit", "_receive", "gone", "overflowed")

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._kept: list[Message] = []
        self._complete = False
        self.overflowed = False
        """Whether parts have passed that are not kept, so that it can be read only once."""
        self.gone = False

    def reader(self) -> Receive:
        """Return a `receive` that begins at the beginning."""
        place = 0

        async def receive() -> Message:
            nonlocal place
            if place < len(self._kept):
                place += 1
                return self._kept[place - 1]
            message = await self._receive()
            if self._keep(message):
                place += 1
            return message

        return receive

    def _keep(self, message: Message) -> bool:
        self.gone = self.gone or message["type"] == "http.disconnect"
        if self._complete or self.overflowed or self.gone:
            return False
        self._limit -= len(message.get("body", b""))
        self.overflowed = self._limit < 0
        self._complete = not message.get("more_body", False)
        if not self.overflowed:
            self._kept.append(message)
        return not self.overflowed


class HeldAnswer:
    """An answer that is held back while its status is one of `statuses` and it is no longer than `limit` bytes.

    Any other passes at once: it has begun, and nobody can take it back.
    """

    __slots__ = ("_held", "_limit", "_send", "_statuses", "began", "headers", "status_code")

    def __init__(self, send: Send, statuses: Collection[int], limit: int) -> None:
        self._send = send
        self._statuses = statuses
        self._limit = limit
        self._held: list[Message] = []
        self.began = False
        self.status_code: int | None = None
        self.headers: dict[str, str] = {}

    async def send(self, message: Message) -> None:
        """Pass a message on or hold it."""
        if message["type"] == "http.response.start":
            self.status_code = message["status"]
            self.headers = {str(k, "latin-1").lower(): str(v, "latin-1") for k, v in message.get("headers", ())}
            self.began = self.status_code not in self._statuses
        if self.began:
            await self._send(message)
            return
        self._held.append(message)
        self._limit -= len(message.get("body", b""))
        if self._limit < 0:
            await self.release()

    async def release(self) -> None:
        """Send what was held back; there is no other answer."""
        self.began = True
        held, self._held = self._held, []
        for message in held:
            await self._send(message)
