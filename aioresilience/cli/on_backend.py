"""What a limit on a backend means: what a call costs, and what holds while the server is away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from aioresilience.rate_limiting import RateLimiterConfig

AWAY: Final = {
    "allow": "no limit",
    "deny": "no calls",
    "local": "a limit in each process",
}


def on_backend(config: RateLimiterConfig) -> Iterator[str]:
    """Return the lines that `explain` adds to the fields of a limit on a backend."""
    yield f"counted on {config.backend}: one limit for the whole fleet; checks of one tick share a round trip"
    if config.lease is not None:
        size = "as many permits as a busy key needs" if config.lease == "auto" else f"up to {config.lease} permits"
        yield f"leases {size} for a second: spent here without asking; what is left goes back"
    part = {"policy": "its part of the fleet's", "key": "the whole for each key"}[config.scope]
    detail = f" ({part})" if config.on_backend_error == "local" else ""
    yield f"while {config.backend} is away: {AWAY[config.on_backend_error]}{detail}"
