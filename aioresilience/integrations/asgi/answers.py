"""Answers of our own, as ASGI apps."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from aioresilience.exceptions import RejectionError
from aioresilience.integrations.asgi.types import Receive, Scope, Send


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer in two messages."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        await send({"type": "http.response.start", "status": self.status, "headers": list(self.headers)})
        await send({"type": "http.response.body", "body": self.body})


def json_answer(
    content: object,
    status: int,
    headers: Mapping[str, str] | None = None,
    media_type: str = "application/json",
) -> Answer:
    """Make an answer of what JSON can say."""
    body = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    named = {"content-type": media_type, "content-length": str(len(body))}
    named |= {name.lower(): value for name, value in (headers or {}).items()}
    return Answer(status, body, tuple((name.encode("latin-1"), text.encode("latin-1")) for name, text in named.items()))


def retry_after(seconds: float | None) -> dict[str, str]:
    """Return the header Retry-After (RFC 9110, 10.2.3) in whole seconds, rounded up; nothing where nobody knows."""
    return {} if seconds is None or not math.isfinite(seconds) else {"retry-after": str(max(0, math.ceil(seconds)))}


def rejection_in(error: BaseException | None) -> RejectionError | None:
    """Find the refusal in an error, which an ExceptionConfig may have made into another one."""
    if error is not None and not isinstance(error, RejectionError):
        error = error.__cause__
    return error if isinstance(error, RejectionError) else None
