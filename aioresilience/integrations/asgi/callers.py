"""Who makes a request, and how much it matters, as the connection says and as far as it is believed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from aioresilience.integrations.addresses import TrustedProxies
from aioresilience.integrations.asgi.types import Scope, header

RANKS: Final = {"low": 0, "normal": 1, "high": 2}


class ClientAddress:
    """The address of the client; `X-Forwarded-For` counts only where a trusted proxy sends it."""

    __slots__ = ("_proxies",)

    def __init__(self, trusted_proxies: Iterable[str] = ()) -> None:
        self._proxies = TrustedProxies(trusted_proxies)

    def __call__(self, scope: Scope) -> str:
        """Return the address of the one who sent this request."""
        peer = scope.get("client")
        lines = [str(value, "latin-1") for name, value in scope.get("headers", ()) if name == b"x-forwarded-for"]
        return self._proxies.client(peer[0] if peer else None, lines)


class PriorityHeader:
    """The priority that a header asks for: low, normal or high.

    Anybody may ask for less than the default; for more only where `allow` says so, for all requests or for this one.
    """

    __slots__ = ("_allow", "_default", "_name")

    def __init__(
        self, name: str = "X-Priority", default: str = "normal", *, allow: bool | Callable[[Scope], bool] = False
    ) -> None:
        if default not in RANKS:
            raise ValueError(f"a priority is one of {', '.join(RANKS)}, got {default!r}")
        self._name = name.lower().encode("latin-1")
        self._default = default
        self._allow = allow

    def __call__(self, scope: Scope) -> str:
        """Return the priority of this request."""
        said = header(scope, self._name)
        if said is None:
            return self._default
        asked = said.strip().lower()
        if asked == self._default or asked not in RANKS:
            return self._default
        if RANKS[asked] < RANKS[self._default]:
            return asked
        allowed = self._allow(scope) if callable(self._allow) else self._allow
        return asked if allowed else self._default
