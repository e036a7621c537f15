"""A process of the fleet, for the tests: asks a limit from several tasks, and prints how often it was admitted."""

from __future__ import annotations

import asyncio
import json
import sys
import time

from aioresilience import Policy, RateLimitExceededError
from aioresilience.backends import Backend, BackendConfig
from aioresilience.rate_limiting import FleetRateLimit, RateLimiterConfig


async def nothing() -> None:
    return None


async def run(backend: Backend, config: dict, tasks: int, calls: int) -> dict[str, object]:
    limit = FleetRateLimit("swarm", RateLimiterConfig(**config), backend=backend)
    policy, admitted = Policy("swarm", [limit]), 0

    async def work() -> None:
        nonlocal admitted
        for _ in range(calls):
            try:
                await policy.call(nothing)
            except RateLimitExceededError:
                continue
            admitted += 1

    begun = time.time()
    await asyncio.gather(*[work() for _ in range(tasks)])
    ended = time.time()
    await backend.aclose()
    return {"admitted": admitted, "begun": begun, "ended": ended, "degraded": limit.degraded}


def main() -> None:
    """Answer each line, which says how to ask whom, with a line."""
    print("ready", flush=True)
    for line in sys.stdin:
        settings, config, tasks, calls = json.loads(line)
        backend = Backend("main", BackendConfig(**settings))
        print(json.dumps(asyncio.run(run(backend, config, tasks, calls))), flush=True)


if __name__ == "__main__":
    main()
