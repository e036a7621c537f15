"""Short trouble of a dependency, or of our own loop, must not become an outage: the packs as they are shipped."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Iterator

import pytest

from aioresilience import Registry, RejectionError
from aioresilience.policy import Policy
from aioresilience.scope import sleep
from aioresilience.testing import VirtualClock

PACKS = ["http-client", "internal-rpc"]


@pytest.fixture(autouse=True)
def no_sampler_left() -> Iterator[None]:
    """The thread that samples the CPU ends when the last load shedder is collected."""
    yield
    gc.collect()


def policy(pack: str, clock: VirtualClock, more: str = "") -> Policy:
    text = f'version: 1\ninclude: ["pack:{pack}"]\npolicies:\n  mine: {{extends: {pack}{more}}}\n'
    return Registry.from_text(text, clock=clock, environ={}).get("mine")


@pytest.mark.parametrize("idempotent", ["true", "false"])
@pytest.mark.parametrize("pack", PACKS)
async def test_50_ms_of_resets_at_1000_calls_a_second_reject_nothing(pack, idempotent):
    clock = VirtualClock()
    mine = policy(pack, clock, f", idempotent: {idempotent}")
    begun = clock.monotonic()

    async def work():
        if 5.0 <= clock.monotonic() - begun < 5.05:
            raise ConnectionResetError("reset")
        await sleep(0.01, clock)

    tasks = []
    for _ in range(1000):
        tasks += [asyncio.ensure_future(mine.call(work)) for _ in range(10)]
        await clock.advance(0.01)
    await clock.advance(30)
    errors = [error for task in tasks if (error := task.exception()) is not None]
    assert not [error for error in errors if isinstance(error, RejectionError)]
    assert len(errors) <= 60, "only calls that may not be sent twice"
    assert mine.circuit_breaker.get_state().name == "CLOSED"


@pytest.mark.parametrize("pack", PACKS)
async def test_a_stall_of_our_own_loop_with_500_calls_in_flight_leaves_the_circuit_closed(pack):
    clock, dice = VirtualClock(), random.Random(5)
    mine = policy(pack, clock, ", timeout: 500ms, bulkhead: null, adaptive_concurrency: null, rate_limiter: null")
    for _ in range(100):
        await asyncio.gather(*(mine.call(sleep, 0, clock) for _ in range(10)))
    tasks = [asyncio.ensure_future(mine.call(sleep, 0.3 + dice.random() / 10, clock)) for _ in range(500)]
    await clock.advance(0.2)
    clock.stall(0.7)
    await clock.advance(5)
    await asyncio.wait(tasks)
    assert mine.circuit_breaker.get_state().name == "CLOSED"
    assert sum(task.exception() is None for task in tasks) == 500


async def test_ten_minutes_of_30_percent_errors_leave_65_percent_whatever_may_be_sent_twice():
    clock, dice = VirtualClock(), random.Random(11)
    mine = policy("http-client", clock, ", idempotent: false")
    attempts = 0

    async def work():
        nonlocal attempts
        attempts += 1
        if dice.random() < 0.3:
            raise ConnectionResetError("flaky")

    calls, succeeded = 200 * 60 * 10, 0
    for _ in range(calls // 20):
        done = await asyncio.gather(*(mine.call(work) for _ in range(20)), return_exceptions=True)
        succeeded += sum(not isinstance(result, Exception) for result in done)
        clock.move(0.1)
    assert succeeded >= 0.65 * calls
    assert attempts < 1.25 * calls
