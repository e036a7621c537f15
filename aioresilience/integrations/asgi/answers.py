"""Answers of our own, as ASGI apps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from aioresilience.integrations.asgi.types import Receive, Scope, Send
from aioresilience.integrations.problems import MEDIA_TYPE, problem_of, whole_seconds


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
    content: object, status: int, headers: Mapping[str, str] | None = None, media_type: str = "application/json"
) -> Answer:
    """Make an answer of what JSON can say."""
    body = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    named = {"content-type": media_type, "content-length": str(len(body)), **(headers or {})}
    return Answer(status, body, tuple((name.encode("latin-1"), text.encode("latin-1")) for name, text in named.items()))


def retry_after(seconds: float | None) -> dict[str, str]:
    """Return the header Retry-After in whole seconds, rounded up; nothing where nobody knows."""
    known = whole_seconds(seconds)
    return {} if known is None else {"retry-after": str(known)}


def problem_answer(error: BaseException) -> Answer | None:
    """Answer a refusal or an overrun of ours with problem+json; None for any other error."""
    problem = problem_of(error)
    if problem is None:
        return None
    return json_answer(problem.content(), problem.status, problem.headers(), MEDIA_TYPE)
