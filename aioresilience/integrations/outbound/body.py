"""The body of a response that may be read long after the call: bounded by the deadline, and closed exactly once."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Final, Protocol

from aioresilience.exceptions import OperationTimeoutError, TimeoutReason
from aioresilience.scope import Timeline

PREFETCHED: Final = 64 * 1024
"""Bytes of an error's body that are read at once, so that its connection is free while the retry waits."""


def overrun(policy: str) -> OperationTimeoutError:
    """Build the error of a response that was not read in time."""
    return OperationTimeoutError(
        f"the deadline of {policy!r} passed while the response was read", policy, "deadline",
        TimeoutReason.DEADLINE_EXCEEDED, policy=policy,
    )  # fmt: skip


class Stream(AsyncIterable[bytes], Protocol):
    """What a client's transport gives: chunks, and a way to let go of the connection."""

    async def aclose(self) -> None:
        """Let go of the connection."""


class Body:
    """Chunks of another stream; who asked with `when_closed` hears of the end, even if nobody closes it."""

    def __init__(self, stream: Stream, deadline: float | None, line: Timeline, policy: str) -> None:
        self._stream = stream
        self._chunks = aiter(stream)
        self._read: list[bytes] = []
        self._ended = self._closed = False
        self._callbacks: list[Callable[[], object]] = []
        self._deadline = deadline
        self._policy = policy
        self._line = line

    def when_closed(self, callback: Callable[[], object]) -> bool:
        """Call back once the body is closed; False where it is already."""
        if not self._closed:
            self._callbacks.append(callback)
        return not self._closed

    async def prefetch(self, most: int = PREFETCHED) -> None:
        """Read what there is, up to about `most` bytes; a body that ends there is closed and stays readable."""
        size = 0
        while size <= most and not self._ended:
            chunk = await self._next()
            if chunk is not None:
                self._read.append(chunk)
                size += len(chunk)
        if self._ended:
            await self.aclose()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Give what was read already, then the rest."""
        while self._read:
            yield self._read.pop(0)
        while not self._ended:
            chunk = await self._next()
            if chunk is not None:
                yield chunk

    async def _next(self) -> bytes | None:
        """Return the next chunk, None at the end; raises OperationTimeoutError at the deadline."""
        if self._deadline is None:
            return await self._pull()
        left = self._deadline - self._line.clock.monotonic()
        if left <= 0:
            raise overrun(self._policy)
        scope = self._line.open(left)
        try:
            chunk = await self._pull()
        except BaseException as error:
            if scope.leave(error):
                raise overrun(self._policy) from error
            raise
        scope.leave(None)
        return chunk

    async def _pull(self) -> bytes | None:
        try:
            return await anext(self._chunks)
        except StopAsyncIteration:
            self._ended = True
            return None

    async def aclose(self) -> None:
        """Let go of the connection; what was read already stays readable."""
        if self._closed:
            return
        self._closed = self._ended = True
        try:
            await self._stream.aclose()
        finally:
            self._tell()

    def _tell(self) -> None:
        while self._callbacks:
            self._callbacks.pop()()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # a place that a forgotten response holds must not be lost
            self._tell()
