"""A registry for as long as the app runs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aioresilience.integrations.extras import extra
from aioresilience.registry import Registry, configure

with extra("fastapi", "Starlette"):
    from starlette.applications import Starlette

State = Mapping[str, Any]
Lifespan = Callable[[Any], contextlib.AbstractAsyncContextManager[State | None]]


def resilience_lifespan(
    source: str | Path | Sequence[str | Path] | Registry | None = None,
    *,
    watch: bool = True,
    environment: str | None = None,
    callables: Mapping[str, Callable[..., object]] | None = None,
    inner: Lifespan | None = None,
) -> Lifespan:
    """Make a lifespan that loads the registry, verifies it and watches its files while the app runs.

    `source` are files, which become the default registry; a registry of its own; or nothing, for what the
    AIORESILIENCE_* variables say. A bad file or a name that leads nowhere fails the start. `inner` is the app's own
    lifespan, which runs within. The registry is `request.state.resilience`.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[State]:
        registry = source
        if not isinstance(registry, Registry):
            registry = configure(registry, watch=False, environment=environment, callables=callables)
        registry.verify()
        async with contextlib.AsyncExitStack() as stack:
            if watch:
                await stack.enter_async_context(registry.watching())
            state = None if inner is None else await stack.enter_async_context(inner(app))
            yield {**(state or {}), "resilience": registry}

    return lifespan
