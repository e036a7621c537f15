"""Which policy a request that comes in is under, whatever server brings it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from aioresilience.calls import Caller
from aioresilience.integrations.paths import Routes
from aioresilience.integrations.problems import Problem, problem_of
from aioresilience.policy import Admission, Policy
from aioresilience.registry import Registry, get_registry
from aioresilience.registry.names import declare


class PolicyFinder:
    """Finds a request's policy: by `routes`, else `policy` for all; from `registry`, else from the default one.

    Raises ValueError where neither is given; for a registry that is there, UnknownPolicyError for a name that it lacks
    and TypeError for a policy with retry or fallback.
    """

    __slots__ = ("_found", "_policy", "_registry", "_routes", "_source")

    def __init__(self, registry: Registry | None, policy: str | None, routes: Mapping[str, str] | None) -> None:
        if policy is None and not routes:
            raise ValueError("say which policy: policy='name' for every request, or routes={'POST /pay': 'name'}")
        self._registry = registry
        self._policy = policy
        self._routes: Routes[str] | None = Routes(routes) if routes else None
        self._source: Registry | None = None
        self._found: dict[str, Policy] = {}
        for name in dict.fromkeys([*(routes or {}).values(), *([] if policy is None else [policy])]):
            declare(name, registry)
            if registry is not None:
                registry.get(name).serve()

    def find(self, method: str, path: str) -> Policy | None:
        """Return the policy of a request, None where none is meant."""
        name = self._policy
        if self._routes is not None:
            # The line break is what the `$` at the end of a router's regular expression may let pass.
            name = self._routes.find(method, path.removesuffix("\n")) or name
        if name is None:
            return None
        registry = get_registry() if self._registry is None else self._registry
        if registry is not self._source:  # a handle stays valid for as long as the registry is the same
            self._source, self._found = registry, {}
        return self._found.get(name) or self._look_up(registry, name)

    def _look_up(self, registry: Registry, name: str) -> Policy:
        policy = self._found[name] = registry.get(name)
        return policy


def refused(error: Exception) -> Problem:
    """Return the problem that a request is answered which was not let in, or was cut; raise an error that is none."""
    problem = problem_of(error)
    if problem is not None:
        return problem
    try:
        raise error
    finally:
        del error  # this frame is in its traceback, and must not keep it alive


def cut(admission: Admission, error: BaseException) -> Problem | None:
    """End an admission with what the app raised; return what is answered in its place, None where it is to be raised.

    It is answered where a bound of ours cut the app; raises what an ExceptionConfig made of that.
    """
    left = admission.leave(error)
    try:
        return None if left is error or not isinstance(left, Exception) else refused(left)
    finally:
        del error, left  # this frame is in their tracebacks


def rate_limit_headers(policy: Policy, caller: Caller) -> dict[str, str]:
    """Return what clients are told of their rate, as in draft-ietf-httpapi-ratelimit-headers-09 (March 2025).

    `q` permits in `w` seconds, `r` of them left, and where none is left `t`, the seconds until the next one is due.
    Empty where the policy has no rate limit that is kept in this process.
    """
    limiter = policy.rate_limiter
    if limiter is None or limiter.config.backend is not None:
        return {}
    rate, (left, due) = limiter.config.rate, limiter.left(caller)
    name = f'"{policy.name}"'
    wait = "" if left else f";t={math.ceil(due)}"
    return {
        "ratelimit-policy": f"{name};q={rate.permits};w={math.ceil(rate.period)}",
        "ratelimit": f"{name};r={left}{wait}",
    }
