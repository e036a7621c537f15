"""Which policy a request is made under: as it says itself, else as its client was told, else by the file's routes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

from aioresilience.config import find_route
from aioresilience.policy import Policy
from aioresilience.registry import Registry, get_registry

EXTENSION: Final = "resilience"
"""Where a request says what it wants."""
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: `host` in ASCII, an IPv6 address in brackets; `path` without its query."""

    method: str
    host: str
    port: int | None
    path: str
    scheme: str

    @property
    def origin(self) -> str:
        """The host, with the port where it is not the usual one: what fails as a whole."""
        usual = self.port is None or self.port == _PORTS.get(self.scheme)
        return self.host if usual else f"{self.host}:{self.port}"


def target(method: str, scheme: str, host: str, port: int | None, path: str) -> Target:
    """Describe where a request goes; a host with colons is an IPv6 address."""
    host = host.lower().rstrip(".")
    shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return Target(method.upper(), shown, _PORTS.get(scheme) if port is None else port, path, scheme)


@dataclass(frozen=True, slots=True)
class Wish:
    """What one request wants: another policy (None for none at all), a key and priority, to be retried or not."""

    policy: str | Policy | None = None
    key: str | None = None
    priority: str = "normal"
    idempotent: bool | None = None


_WISHES: Final = tuple(field.name for field in fields(Wish))


class Chooser:
    """Finds the policy of a request; the default registry is looked up when the first request comes."""

    def __init__(self, registry: Registry | None, policy: str | Policy | None) -> None:
        if registry is not None and not isinstance(registry, Registry):
            raise TypeError(f"expected a Registry, got {type(registry).__name__}; a policy is given as policy=")
        self._registry = registry
        self._policy = policy
        if registry is not None and isinstance(policy, str):
            registry.get(policy)  # a misspelt name fails at start

    def wish(self, said: object) -> Wish | None:
        """Read what a request says: a policy or its name, or a mapping of what `Wish` has; None where it is silent."""
        if said is None:
            return None
        if isinstance(said, (str, Policy)):
            return Wish(said)
        if not isinstance(said, Mapping) or not set(said) <= set(_WISHES):
            raise TypeError(f"expected a policy or a mapping of {', '.join(_WISHES)}, got {said!r}")
        return Wish(**said)

    def policy(self, target: Target, said: object, wish: Wish | None) -> Policy | None:
        """Return the policy of a request, None where it is made without one."""
        chosen = self._policy
        if wish is not None and (wish.policy is not None or (isinstance(said, Mapping) and "policy" in said)):
            if wish.policy is None:
                return None
            chosen = wish.policy
        if isinstance(chosen, Policy):
            return chosen
        registry = self._registry or get_registry()
        if chosen is None:
            chosen = find_route(registry.document.routes, target.method, target.host, target.port, target.path)
        return None if chosen is None else registry.get(chosen)
