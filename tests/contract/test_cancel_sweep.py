"""Cancel a call at every step of the loop, once and twice, alone and in a crowd, with slow handlers attached.

Over each pattern, every ordered pair and random triples: nothing is left behind (places, probes, waiters, timers,
tasks, holders), no cancel is swallowed or passed to anybody else, nothing hangs, and who comes next is let in.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from aioresilience.bound import Bound
from aioresilience.calls import ANYONE
from aioresilience.circuit_breaker import CircuitState
from aioresilience.exceptions import FallbackFailedError, OperationTimeoutError, RejectionError
from aioresilience.failures import NEUTRAL
from aioresilience.guard import Guard
from aioresilience.pattern import AnyPattern
from aioresilience.policy import Policy
from aioresilience.policy.snapshot import folded
from aioresilience.recovering import Recovering
from aioresilience.scope import sleep
from aioresilience.testing import VirtualClock
from tests.contract.stacks import at_rest, class_of, make, ok

VARIANTS: dict[str, tuple[str, dict[str, object]]] = {
    "fallback": ("fallback", {}),
    "bounded fallback": ("fallback", {"timeout": 3.0}),
    "deadline": ("deadline", {}),
    "short deadline": ("deadline", {"timeout": 1.2}),
    "load_shedder": ("load_shedder", {}),
    "lag-aware load_shedder": ("load_shedder", {"max_lag": 5.0}),
    "backpressure": ("backpressure", {}),
    "retry": ("retry", {}),
    "circuit_breaker": ("circuit_breaker", {"failure_threshold": 50}),
    "half-open circuit_breaker": ("circuit_breaker", {"failure_threshold": 1, "recovery_timeout": 1.0}),
    "rate_limiter": ("rate_limiter", {"rate": "2/second"}),
    "waiting rate_limiter": ("rate_limiter", {"rate": "2/second", "wait": 30.0}),
    "adaptive_concurrency": ("adaptive_concurrency", {}),
    "bulkhead": ("bulkhead", {}),
    "queueing bulkhead": ("bulkhead", {"max_concurrent": 1, "max_waiting": 3, "timeout": 2.0}),
    "timeout": ("timeout", {}),
    "short timeout": ("timeout", {"timeout": 1.2}),
}
NAMES = list(VARIANTS)
PAIRS = [pair for pair in itertools.permutations(NAMES, 2) if VARIANTS[pair[0]][0] != VARIANTS[pair[1]][0]]
MAX_STEPS = 80
CALM = 40
"""Turns of the loop after which whoever can go on has done so."""

Work = Callable[[], Awaitable[object]]
EXPECTED = (ConnectionError, RejectionError, OperationTimeoutError, FallbackFailedError)


@dataclass(frozen=True)
class Way:
    """How a victim is cancelled: how often, in what company, and whether in the very turn in which time moved on."""

    times: int = 1
    company: tuple[int, int] = (0, 0)
    """How many calls began before the victim, and how many after it."""
    fails: bool = False
    with_the_clock: bool = False
    entry: str = "call"
    """By way of the fused form (call), of the fold, or of `async with policy.admit()`."""


def built(name: str, clock: VirtualClock) -> AnyPattern:
    key, changes = VARIANTS[name]
    pattern = make(class_of(key), clock, **changes)
    if name == "half-open circuit_breaker":
        pattern.machine.fail(pattern.machine.ticket, clock.monotonic(), None)
        clock.move(1.5)
    return pattern


async def slow_handler(event: object) -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def worker(clock: VirtualClock, *, fails: bool) -> Work:
    async def work() -> str:
        try:
            await asyncio.sleep(0)
            await sleep(1.0, clock)
            if fails:
                raise ConnectionError
            return "done"
        finally:
            await asyncio.sleep(0)  # a clean-up that takes its time

    return work


def entered(policy: Policy, work: Work, entry: str, clock: VirtualClock) -> Work:
    """Return what makes one call of the work under the policy."""
    if entry == "fold":
        run = folded(policy.patterns, policy.snapshot.context, clock)
        return lambda: run(work, (), {}, ANYONE)

    async def admitted() -> object:
        async with policy.admit():
            return await work()

    can_admit = not any(isinstance(pattern, Recovering) for pattern in policy.patterns)
    return admitted if entry == "admit" and can_admit else lambda: policy.call(work)


async def run(names: tuple[str, ...], step: int, way: Way) -> bool:
    """Cancel one call after so many turns; return whether it had ended by itself before that."""
    clock = VirtualClock()
    patterns = [built(name, clock) for name in names]
    policy = Policy("mine", patterns, clock=clock)
    for pattern in patterns:
        pattern.events.add_handler("*", slow_handler)
    call = entered(policy, worker(clock, fails=way.fails), way.entry, clock)
    ahead = [asyncio.ensure_future(call()) for _ in range(way.company[0])]
    victim = asyncio.ensure_future(call())
    behind = [asyncio.ensure_future(call()) for _ in range(way.company[1])]
    for number in range(step):
        await asyncio.sleep(0)
        if number % 3 == 2:
            clock.move(0.5)
    if way.with_the_clock:
        clock.move(0.5)
    ended = victim.done()
    for _ in range(way.times):
        victim.cancel()
        await asyncio.sleep(0)
    await calm(policy, clock, [victim, *ahead, *behind])
    judge(victim, [*ahead, *behind], ended)
    await nothing_left(policy, clock)
    return ended


async def calm(policy: Policy, clock: VirtualClock, tasks: list[asyncio.Task[object]]) -> None:
    """Move the time until everybody has ended, look at the timers, and let those run out that may be there."""
    for _ in range(200):
        for _ in range(CALM):
            await asyncio.sleep(0)
            if all(task.done() for task in tasks) and len(asyncio.all_tasks()) == 1:
                assert clock.pending <= idle_timers(policy), f"{clock.pending} timers are left"
                clock.move(100.0)
                await asyncio.sleep(0)
                return
        clock.move(0.5)
    raise AssertionError(f"somebody hangs: {[task for task in tasks if not task.done()] or asyncio.all_tasks()}")


def idle_timers(policy: Policy) -> int:
    """Return how many timers may stand though nobody calls: the shared one of each bound, a tick that ends itself."""
    bounded = [p for p in policy.patterns if isinstance(p, Bound) or getattr(p.config, "max_lag", None) is not None]
    return len(bounded) + sum(p.key == "fallback" and p.config.timeout is not None for p in policy.patterns)


def judge(victim: asyncio.Task[object], others: list[asyncio.Task[object]], ended: bool) -> None:
    assert victim.done(), "the victim hangs"
    if not ended:
        assert victim.cancelled(), f"the cancel was swallowed: {victim.exception() or victim.result()!r}"
    elif not victim.cancelled():
        victim.exception()
    for task in others:
        assert task.done(), "somebody else hangs"
        assert not task.cancelled(), "somebody else was cancelled"
        assert task.exception() is None or isinstance(task.exception(), EXPECTED), repr(task.exception())


async def nothing_left(policy: Policy, clock: VirtualClock) -> None:
    assert clock.pending == 0, "a timer is left"
    assert len(asyncio.all_tasks()) == 1, f"a task is left: {asyncio.all_tasks()}"
    for pattern in policy.patterns:
        at_rest(pattern)
        pattern.events.clear()
        if isinstance(pattern, Guard):
            has_all_its_room(pattern, clock)


def has_all_its_room(pattern: AnyPattern, clock: VirtualClock) -> None:
    """Check from outside that nobody holds anything: as many are let in as the pattern has places."""
    if pattern.key == "rate_limiter":
        clock.move(1.0)  # in which what was spent has refilled
    elif pattern.key == "circuit_breaker" and pattern.state is CircuitState.OPEN:
        clock.move(pattern.refusal(ANYONE).retry_after)
    tickets = [ticket for ticket in (pattern.admit(ANYONE) for _ in range(4)) if ticket is not None]
    assert len(tickets) == places(pattern), f"{pattern.key} lets {len(tickets)} in"
    for ticket in tickets:
        pattern.settle(ticket, NEUTRAL, None)


def places(pattern: AnyPattern) -> int:
    """Return how many of four callers are let in at once."""
    if pattern.key == "circuit_breaker":
        return 1 if pattern.state is CircuitState.HALF_OPEN else 4
    return pattern.config.max_concurrent if pattern.key == "bulkhead" else 2


async def sweep(names: tuple[str, ...], ways: list[Way], *, start: int = 0, stride: int = 1) -> int:
    """Cancel at every step until the call ends before it; return how many calls were cancelled."""
    cancelled = 0
    for way in ways:
        before = cancelled
        for step in range(start, MAX_STEPS, stride):
            try:
                if await run(names, step, way):
                    break
            except AssertionError as error:
                raise AssertionError(f"{' → '.join(names)}, step {step}, {way}: {error}") from error
            cancelled += 1
        else:
            raise AssertionError(f"{names} had not ended after {MAX_STEPS} steps: the sweep is too short")
        assert cancelled > before, "nothing was ever cancelled, so nothing is proven"
    return cancelled


ALONE, FIRST, SECOND, LAST = (0, 0), (0, 3), (1, 2), (3, 2)
ALL_WAYS = [
    Way(times, company, fails, with_the_clock, entry)
    for times, company, fails, (with_the_clock, entry) in itertools.product(
        (1, 2), (ALONE, FIRST, SECOND, LAST), (False, True), [(True, "call"), (False, "fold"), (False, "admit")]
    )
]
CROWDED = [
    Way(1, LAST, False, True),
    Way(2, SECOND, True, False, "fold"),
    Way(1, FIRST, True, True, "admit"),
    Way(2, LAST, False, False),
]


@pytest.mark.parametrize("name", NAMES)
async def test_each_pattern(name):
    assert await sweep((name,), ALL_WAYS) > 50


@pytest.mark.parametrize("first", NAMES)
async def test_every_ordered_pair(first):
    for names in (pair for pair in PAIRS if pair[0] == first):
        await sweep(names, CROWDED)


@pytest.mark.parametrize("seed", range(12))
async def test_random_triples(seed):
    dice = random.Random(seed)
    for _ in range(12):
        names = tuple(dice.sample(NAMES, 3))
        await sweep(names, [dice.choice(ALL_WAYS) for _ in range(2)])


@pytest.mark.parametrize("seed", range(4))
async def test_the_whole_stack(seed):
    dice = random.Random(seed)
    names = ["fallback", "deadline", "load_shedder", "backpressure", "retry", "circuit_breaker", "waiting rate_limiter"]
    names += ["adaptive_concurrency", "queueing bulkhead", "timeout"]
    if seed:
        dice.shuffle(names)
    await sweep(tuple(names), [Way(1 + seed % 2, company, seed > 1, seed % 2 == 0) for company in (SECOND, LAST)])


async def test_the_sweep_notices_what_it_is_there_for():
    """A place that is lost, a cancel that is swallowed and a hanging call must not pass."""
    clock = VirtualClock()
    pattern = built("bulkhead", clock)
    policy = Policy("mine", [pattern], clock=clock)
    pattern.machine.free -= 1
    with pytest.raises(AssertionError):
        await nothing_left(policy, clock)
    pattern.machine.free += 1
    await nothing_left(policy, clock)

    async def swallows() -> str:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            return "here I am"

    task = asyncio.ensure_future(policy.call(swallows))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    with pytest.raises(AssertionError, match="swallowed"):
        judge(task, [], ended=False)
    clock.call_at(asyncio.get_running_loop(), clock.monotonic() + 1, lambda: None)
    with pytest.raises(AssertionError, match="timer"):
        await nothing_left(policy, clock)
    assert await policy.call(ok) == "ok"
