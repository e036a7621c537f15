"""What a crowd of calls costs, what a key and a policy weigh, and what it takes to find and call a policy."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Awaitable, Callable

from aioresilience import Policy, Registry, resilient
from aioresilience.calls import Caller
from aioresilience.events import global_bus
from benchmarks.call import YAML, bare

CROWD = 1_000
KEYS = (1, 10_000, 1_000_000)


async def crowd_ratio(rounds: int = 9) -> float:
    """Return what a gather of calls through five patterns costs over a gather of bare calls, collector included."""
    policy = Registry.from_text(YAML.replace("bulkhead: 100", "bulkhead: 2000")).get("five")
    best = {"bare": float("inf"), "five": float("inf")}
    subjects: dict[str, Callable[[], Awaitable[object]]] = {"bare": bare, "five": policy(bare)}
    for _ in range(rounds):
        for name, subject in subjects.items():
            gc.collect()
            begun = time.perf_counter()
            await asyncio.gather(*(subject() for _ in range(CROWD)))
            best[name] = min(best[name], time.perf_counter() - begun)
    return best["five"] / best["bare"]


def keyed_limits() -> dict[int, dict[str, float]]:
    """Return, for each number of keys, the bytes a key without its text, and the nanoseconds a call."""
    found = {}
    for count in KEYS:
        rule = f"{{rate: 100/minute, scope: key, max_limiters: {count + 10}}}"
        limit = Registry.from_text(f"version: 1\npolicies: {{a: {{rate_limiter: {rule}}}}}").get("a").rate_limiter
        assert limit is not None
        callers = [Caller(f"user-{number}") for number in range(count)]
        gc.collect()
        tracemalloc.start()
        for caller in callers:
            limit.admit(caller)
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        some = callers[:: max(1, count // 10_000)]
        begun = time.perf_counter_ns()
        for caller in some:
            limit.admit(caller)
        found[count] = {
            "bytes": round(size / count, 1),
            "nanoseconds": round((time.perf_counter_ns() - begun) / len(some)),
        }
    return found


def policy_bytes(count: int = 2_000) -> dict[str, float]:
    """Return the bytes of a policy of five patterns that was asked for, and of one that has been called."""
    body = "\n".join(f"  p{number}: *five" for number in range(count))
    spec = "{retry: 3, circuit_breaker: {window: 30s}, rate_limiter: 100/second, bulkhead: 100, timeout: 5s}"
    text = f"version: 1\npolicies:\n  first: &five {spec}\n{body}\n"
    registry = Registry.from_text(text.replace("&five ", "").replace("*five", spec))
    registry.get("first")(bare)
    gc.collect()
    tracemalloc.start()
    policies = [registry.get(f"p{number}") for number in range(count)]
    asked = tracemalloc.get_traced_memory()[0]
    wrapped = [policy(bare) for policy in policies]
    gc.collect()
    called = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(wrapped) == count
    return {"asked for": round(asked / count), "decorating a function": round(called / count)}


def ways() -> dict[str, Callable[[], Awaitable[object]]]:
    """Return the ways to call under a policy of one bulkhead."""
    registry = Registry.from_text("version: 1\npolicies: {a: {bulkhead: 100}}")
    policy: Policy = registry.get("a")

    async def get() -> object:
        return registry.get("a")

    async def call() -> object:
        return await policy.call(bare)

    async def bound() -> object:
        return await policy.bind(key="user").call(bare)

    async def block() -> object:
        async with policy.admit():
            return await bare()

    return {
        "registry.get": get, "policy.call": call, "bind().call": bound, "async with admit()": block,
        "@resilient": resilient("a", registry=registry)(bare), "@policy": policy(bare),
    }  # fmt: skip


def listened_to() -> Callable[[], Awaitable[object]]:
    """Return a call under a bulkhead whose events one handler hears."""
    policy = Registry.from_text("version: 1\npolicies: {a: {bulkhead: 100}}").get("a")
    call = policy(bare)
    assert policy.bulkhead is not None

    def ignore(event: object) -> None:
        """Hear and forget."""

    policy.bulkhead.events.add_handler("*", ignore)
    assert not global_bus.handlers
    return call
