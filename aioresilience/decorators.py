"""`@resilient("payments")`: a function under a policy of the registry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import ParamSpec, TypeVar

from aioresilience import callables
from aioresilience.calls import ANYONE, Caller
from aioresilience.policy import Policy
from aioresilience.registry import Registry, get_registry
from aioresilience.registry.names import declare

P = ParamSpec("P")
T = TypeVar("T")


def resilient(
    name: str,
    *,
    key: Callable[..., object] | None = None,
    priority: str | Callable[..., str] | None = None,
    registry: Registry | None = None,
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[object, object, T]]]:
    """Run every call of the decorated async function under the policy of that name, as it is by then.

    `key` and `priority` are called with the call's own arguments; the key is made a string. Without `registry` the
    default one is meant, whatever it is when the call is made; `configure` checks the name.
    """
    if not isinstance(name, str):
        raise TypeError(f'expected a policy\'s name: write @resilient("name"), got {name!r}')
    declare(name, registry)
    find = _Finder(name, registry)

    def decorator(func: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[object, object, T]]:
        callables.require_async(func, f"@resilient({name!r})")
        if key is None and priority is None:

            @callables.wraps(func)
            async def plain(*args: P.args, **kwargs: P.kwargs) -> T:
                return await find().snapshot.run(func, args, kwargs, ANYONE)  # type: ignore[return-value]

            return plain

        @callables.wraps(func)
        async def keyed(*args: P.args, **kwargs: P.kwargs) -> T:
            caller = _caller(key, priority, args, kwargs)
            return await find().snapshot.run(func, args, kwargs, caller)  # type: ignore[return-value]

        return keyed

    return decorator


class _Finder:
    """Finds the policy once per registry."""

    __slots__ = ("_fixed", "_name", "_policy", "_registry")

    def __init__(self, name: str, registry: Registry | None) -> None:
        self._name = name
        self._fixed = registry
        self._registry: Registry | None = None
        self._policy: Policy | None = None

    def __call__(self) -> Policy:
        registry = get_registry() if self._fixed is None else self._fixed
        policy = self._policy
        if policy is None or registry is not self._registry:
            policy = self._policy = registry.get(self._name)
            self._registry = registry
        return policy


def _caller(
    key: Callable[..., object] | None,
    priority: str | Callable[..., str] | None,
    args: tuple[object, ...],
    kwargs: dict[str, object],
) -> Caller:
    found = None if key is None else key(*args, **kwargs)
    level = priority(*args, **kwargs) if callable(priority) else priority
    return Caller(None if found is None else str(found), level or "normal")
