"""What ASGI passes around (ASGI 3.0), as types."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def header(scope: Scope, name: bytes) -> str | None:
    """Return the first header of that name, which is given in lower case."""
    for key, value in scope.get("headers", ()):
        if key == name:
            return str(value, "latin-1")
    return None
