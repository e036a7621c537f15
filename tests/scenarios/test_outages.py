"""Every shipped pack in the outages that it is for, in virtual time, with and without leave to repeat a call."""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import pytest

from aioresilience import Registry
from aioresilience.circuit_breaker import CircuitState
from aioresilience.exceptions import RejectionError
from aioresilience.policy import Policy
from aioresilience.scope import sleep
from aioresilience.testing import VirtualClock

PACKS = ["http-client", "internal-rpc", "database", "cache", "llm-api", "queue-consumer"]
PACK = pytest.mark.parametrize("pack", PACKS)
REPEAT = pytest.mark.parametrize("idempotent", [True, False], ids=["idempotent", "not idempotent"])


@pytest.fixture(autouse=True)
def no_sampler_left() -> Iterator[None]:
    """The thread that samples the CPU ends when the last load shedder is collected."""
    yield
    gc.collect()


def policy_of(pack: str, clock: VirtualClock, *, idempotent: bool, **more: str) -> Policy:
    fields = {"extends": pack, "idempotent": str(idempotent).lower(), **more}
    written = ", ".join(f"{name}: {value}" for name, value in fields.items())
    text = f'version: 1\ninclude: ["pack:{pack}"]\npolicies:\n  mine: {{{written}}}\n'
    return Registry.from_text(text, clock=clock, environ={}).get("mine")


class Traffic:
    """Calls at an even rate, and what became of them."""

    def __init__(self, policy: Policy, clock: VirtualClock, work: Callable[[], Awaitable[object]]) -> None:
        self.policy, self.clock, self.work = policy, clock, work
        self.calls = self.attempts = 0
        self.ends: Counter[str] = Counter()
        self.tasks: set[asyncio.Task[None]] = set()

    async def _attempt(self) -> object:
        self.attempts += 1
        return await self.work()

    async def _call(self) -> None:
        try:
            result = await self.policy.call(self._attempt)
            self.ends["succeeded" if result is not None else "answered"] += 1
        except RejectionError:
            self.ends["rejected"] += 1
        except Exception as error:
            self.ends[type(error).__name__] += 1

    async def flow(self, per_second: int, seconds: float, tick: float = 0.05) -> None:
        for _ in range(round(seconds / tick)):
            for _ in range(round(per_second * tick)):
                self.calls += 1
                task = asyncio.ensure_future(self._call())
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
            await self.pass_by(tick)

    async def pass_by(self, seconds: float) -> None:
        for _ in range(4):
            await asyncio.sleep(0)
        self.clock.move(seconds)
        for _ in range(6):
            await asyncio.sleep(0)

    async def end(self) -> None:
        for _ in range(2000):
            if not self.tasks:
                return
            await self.clock.advance(0.5)
        raise AssertionError(f"{len(self.tasks)} calls hang")


@PACK
@REPEAT
async def test_30_percent_errors_leave_65_percent_and_are_not_multiplied(pack, idempotent):
    """Ten minutes at 20 calls a second for each pack; below are 200 a second."""
    clock, dice = VirtualClock(), random.Random(7)

    async def work() -> str:
        if dice.random() < 0.3:
            raise ConnectionResetError
        return "done"

    traffic = Traffic(policy_of(pack, clock, idempotent=idempotent), clock, work)
    await traffic.flow(20, 600)
    await traffic.end()
    assert traffic.ends["succeeded"] >= 0.65 * traffic.calls, traffic.ends
    assert traffic.attempts < 1.25 * traffic.calls
    assert not traffic.ends["rejected"], traffic.ends


async def test_ten_minutes_at_200_calls_a_second():
    clock, dice = VirtualClock(), random.Random(7)

    async def work() -> str:
        if dice.random() < 0.3:
            raise ConnectionResetError
        return "done"

    traffic = Traffic(policy_of("http-client", clock, idempotent=True), clock, work)
    await traffic.flow(200, 600, tick=0.1)
    await traffic.end()
    assert traffic.calls == 120_000
    assert traffic.ends["succeeded"] >= 0.65 * traffic.calls, traffic.ends
    assert traffic.attempts < 1.25 * traffic.calls


@PACK
@REPEAT
async def test_50_ms_of_resets_at_1000_a_second_reject_nothing(pack, idempotent):
    clock = VirtualClock()
    begun = clock.monotonic()

    async def work() -> str:
        if 10.0 <= clock.monotonic() - begun < 10.05:
            raise ConnectionResetError
        await sleep(0.005, clock)
        return "done"

    roomy = (
        {"adaptive_concurrency": "null"} if pack == "llm-api" else {}
    )  # ten calls at once are not for 1,000 a second
    traffic = Traffic(policy_of(pack, clock, idempotent=idempotent, **roomy), clock, work)
    await traffic.flow(1000, 15, tick=0.002)
    await traffic.end()
    assert not traffic.ends["rejected"], traffic.ends
    assert sum(traffic.ends.values()) - traffic.ends["succeeded"] <= 60, traffic.ends


@PACK
@pytest.mark.parametrize("stalled", [0.7, 2.5])
async def test_a_stalled_loop_with_500_calls_in_flight_opens_no_circuit(pack, stalled):
    clock, dice = VirtualClock(), random.Random(5)

    async def work() -> str:
        await sleep(0.04 + dice.random() / 100, clock)
        return "done"

    off = (
        {"bulkhead": "null", "adaptive_concurrency": "null"} if pack != "llm-api" else {"adaptive_concurrency": "null"}
    )
    off = {name: "null" for name in off if name in policy_of(pack, clock, idempotent=False).status()["patterns"]}
    traffic = Traffic(policy_of(pack, clock, idempotent=False, timeout="60ms", **off), clock, work)
    await traffic.flow(1000, 2, tick=0.01)
    await traffic.end()
    for _ in range(500):
        traffic.tasks.add(task := asyncio.ensure_future(traffic._call()))
        task.add_done_callback(traffic.tasks.discard)
    await traffic.pass_by(0.02)
    assert traffic.policy.circuit_breaker.state is CircuitState.CLOSED
    clock.stall(stalled)
    await traffic.pass_by(0.001)
    await traffic.end()
    assert traffic.policy.circuit_breaker.state is CircuitState.CLOSED
    await traffic.flow(1000, 1, tick=0.01)
    await traffic.end()
    assert not traffic.ends["rejected"], traffic.ends
    assert traffic.ends["succeeded"] >= 2000 + 500 + 1000 - 5, traffic.ends


@PACK
async def test_a_real_outage_is_noticed_and_a_recovery_too(pack):
    """All calls fail for a minute: the upstream gets a fraction of them, and everything goes through soon after."""
    clock = VirtualClock()
    begun = clock.monotonic()

    async def work() -> str:
        if 30.0 <= clock.monotonic() - begun < 90.0:
            raise ConnectionRefusedError
        return "done"

    traffic = Traffic(policy_of(pack, clock, idempotent=True), clock, work)
    await traffic.flow(100, 30)
    before, calls = traffic.attempts, traffic.calls
    await traffic.flow(100, 60)
    during = traffic.attempts - before
    assert during < 0.7 * (traffic.calls - calls), "the circuit spares the upstream"
    await traffic.flow(100, 150)
    succeeded = traffic.ends["succeeded"]
    await traffic.flow(100, 10)
    await traffic.end()
    assert traffic.ends["succeeded"] - succeeded >= 990
    assert traffic.policy.circuit_breaker.state is CircuitState.CLOSED
