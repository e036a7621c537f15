"""A partitioned policy behaves as one policy for each host does, and nothing in use is ever dropped."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import pytest
from hypothesis import given, settings, strategies as st

from aioresilience import BUILTIN, Registry, RejectionError
from aioresilience.pattern import AnyPattern
from aioresilience.rate_limiting import RateLimiterConfig
from aioresilience.testing import VirtualClock

HOSTS = ("a", "b", "c")
TEXT = """
version: 1
policies:
  {name}:
    retry: {{max_attempts: 1}}
    idempotent: true
    deadline: 5s
    circuit_breaker: {{failure_threshold: {threshold}, recovery_timeout: 10s, recovery_jitter: 0%}}
    rate_limiter: {{rate: {rate}/minute}}
    bulkhead: {places}
    {more}
"""
STEP = st.one_of(
    st.tuples(st.just("call"), st.sampled_from(HOSTS), st.booleans()),
    st.tuples(st.just("move"), st.floats(0.5, 15), st.none()),
    st.tuples(st.just("reload"), st.integers(1, 4), st.integers(1, 9)),
)


def document(name: str, threshold: int = 2, rate: int = 6, more: str = "") -> str:
    return TEXT.format(name=name, threshold=threshold, rate=rate, places=2, more=more)


async def work(fails: bool) -> str:
    if fails:
        raise ConnectionError
    return "done"


async def ended(call) -> str:
    try:
        return await call
    except (ConnectionError, RejectionError) as error:
        return type(error).__name__


async def compare(steps: list[tuple]) -> None:
    clock = VirtualClock()
    whole = Registry.from_text(document("x", more="partition: {by: host, max: 3}"), clock=clock)
    apart = {host: Registry.from_text(document("x"), clock=clock) for host in HOSTS}
    for what, first, second in steps:
        if what == "call":
            together = await ended(whole.get("x").bind(host=first).call(work, second))
            alone = await ended(apart[first].get("x").call(work, second))
            assert together == alone, (what, first, second)
        elif what == "move":
            await clock.advance(first)
        else:
            whole.apply(document("x", first, second, "partition: {by: host, max: 3}"))
            for one in apart.values():
                one.get("x")
                one.apply(document("x", first, second))


@settings(max_examples=40, deadline=None)
@given(st.lists(STEP, min_size=10, max_size=25))
def test_each_host_is_served_as_by_a_policy_of_its_own(steps):
    asyncio.run(compare(steps))


async def crowd(steps: list[tuple[str, int]], most: int) -> None:
    """Let calls begin and end in any order, over more hosts than there is room for."""
    text = f"{{version: 1, policies: {{x: {{bulkhead: 1, partition: {{by: host, max: {most}}}}}}}}}"
    policy = Registry.from_text(text, clock=VirtualClock()).get("x")
    running: dict[str, list[tuple[asyncio.Event, asyncio.Task]]] = defaultdict(list)
    for host, what in steps:
        if what and running[host]:
            go, task = running[host].pop()
            go.set()
            await asyncio.gather(task, return_exceptions=True)
        else:
            go = asyncio.Event()
            running[host].append((go, asyncio.create_task(policy.bind(host=host).call(go.wait))))
            await asyncio.sleep(0)
        status = policy.status()["partitions"]
        assert status["live"] <= most
        assert status["in_use"] <= len([1 for calls in running.values() if calls])
    for go, task in [one for calls in running.values() for one in calls]:
        go.set()
        await asyncio.gather(task, return_exceptions=True)
    assert policy.status()["partitions"]["in_use"] == 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 1)), max_size=40), st.integers(1, 4))
def test_there_are_never_more_than_max_and_all_are_free_at_the_end(steps, most):
    asyncio.run(crowd(steps, most))


@pytest.mark.parametrize("kind", [kind for kind in BUILTIN if kind.splits], ids=lambda kind: kind.key)
def test_a_twin_has_a_state_of_its_own_and_counts_and_tells_with_the_whole(kind: type[AnyPattern]):
    clock = VirtualClock()
    config = RateLimiterConfig(rate="5/second") if kind.key == "rate_limiter" else kind.config_type()
    whole = kind(name="x", config=config, clock=clock)
    whole.policy = "x"
    twin = whole.twin("x[h]")
    assert (twin.policy, twin.name, twin.config, twin.clock) == ("x", "x[h]", whole.config, clock)
    assert twin.counts is whole.counts
    assert twin.events is whole.events
    machines = [getattr(one, "machine", getattr(one, "_limit", None)) for one in (whole, twin)]
    assert machines[0] is not machines[1] or machines == [None, None]
    assert not twin.holds_back(clock.monotonic())
    twin.follow(whole)


def test_what_is_kept_apart_is_what_is_learnt_about_the_other_side():
    assert {kind.key for kind in BUILTIN if kind.splits} == {
        "circuit_breaker", "retry", "rate_limiter", "adaptive_concurrency", "bulkhead",
    }  # fmt: skip
