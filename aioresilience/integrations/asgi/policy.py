"""Requests under the policies of a registry."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping

from aioresilience.calls import Caller
from aioresilience.integrations.asgi.answers import problem_answer
from aioresilience.integrations.asgi.exchange import Exchange
from aioresilience.integrations.asgi.middleware import AdmissionMiddleware
from aioresilience.integrations.asgi.types import App, Message, Receive, Scope
from aioresilience.integrations.paths import route_path
from aioresilience.integrations.serving import PolicyFinder, rate_limit_headers
from aioresilience.policy import Entrance, Policy
from aioresilience.registry import Registry


class PolicyMiddleware(AdmissionMiddleware):
    """Puts requests under policies: `policy` for all, or `routes={"POST /pay": "payments"}` for those named.

    Both may be given: the route wins. Without `registry` the default one is meant, whatever it is by then. `key`,
    `priority` and `arrived` are called with the ASGI scope, for limits per key and for shedding. A refused request is
    answered with problem+json; `rate_limit_headers` tells clients what is left of their rate, as in
    draft-ietf-httpapi-ratelimit-headers-09.

    Raises ValueError without policy and routes or for a rule that is none; where the registry is given also
    UnknownPolicyError, and TypeError for a policy with retry or fallback, which cannot take an answer back.
    """

    def __init__(
        self,
        app: App,
        registry: Registry | None = None,
        *,
        policy: str | None = None,
        routes: Mapping[str, str] | None = None,
        exclude_paths: Iterable[str] | None = None,
        key: Callable[[Scope], str | None] | None = None,
        priority: Callable[[Scope], str] | None = None,
        arrived: Callable[[Scope], float | None] | None = None,
        rate_limit_headers: bool = False,
        cancel_on_disconnect: bool = True,
    ) -> None:
        super().__init__(app, exclude_paths, cancel_on_disconnect=cancel_on_disconnect)
        self._finder = PolicyFinder(registry, policy, routes)
        self._key = key
        self._priority = priority
        self._arrived = arrived
        self._knows_callers = not (key is None and priority is None and arrived is None)
        self._prepares = rate_limit_headers

    def entrance(self, scope: Scope, path: str) -> Entrance | None:
        """Return that of the route's policy."""
        policy = self._finder.find(scope["method"], path)
        return None if policy is None else policy.entrance()

    def caller(self, scope: Scope) -> Caller:
        """Return who calls, as the three functions say."""
        key = None if self._key is None else self._key(scope)
        priority = "normal" if self._priority is None else self._priority(scope)
        return Caller(key, priority, None if self._arrived is None else self._arrived(scope))

    def prepare(self, exchange: Exchange, scope: Scope) -> None:
        """Tell what is left of the rate; whose rate, the scope says now, before the app changes it."""
        policy = self._finder.find(scope["method"], route_path(scope))
        assert policy is not None, "it has just been entered"
        exchange.adorn = functools.partial(_adorn, policy, self.caller(scope))

    async def answer(self, error: Exception, scope: Scope, receive: Receive) -> App | None:
        """Answer a refusal or an overrun with problem+json."""
        return problem_answer(error)


def _adorn(policy: Policy, caller: Caller, message: Message) -> None:
    told = [(name.encode(), value.encode()) for name, value in rate_limit_headers(policy, caller).items()]
    message["headers"] = [*message.get("headers", ()), *told]
