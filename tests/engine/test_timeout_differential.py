"""Our timeout and asyncio.timeout end alike, in thousands of scenarios of virtual time; the stalled-loop rule apart."""

from __future__ import annotations

import asyncio
import contextlib
import random
import selectors

import pytest

from aioresilience.clock import SYSTEM_CLOCK
from aioresilience.exceptions import OperationTimeoutError
from aioresilience.scope import Timeline

SCENARIOS = 3_000
TIMES = (0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 5.0)
"""Few and often equal, so that much happens at the same instant."""


class Still(selectors.SelectSelector):
    """Waits for nothing: the loop's own time moves on instead."""

    loop: JumpingLoop

    def select(self, timeout: float | None = None) -> list:
        found = super().select(0)
        if not found and timeout:
            self.loop.now += timeout
        return found


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop whose time jumps to the next timer whenever nothing is ready."""

    def __init__(self) -> None:
        selector = Still()
        super().__init__(selector)
        selector.loop = self
        self.now = 1000.0
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return getattr(self, "now", 1000.0)


class LoopClock:
    """The loop's time as a clock of ours."""

    wall = staticmethod(SYSTEM_CLOCK.wall)

    def __init__(self, loop: JumpingLoop) -> None:
        self.monotonic = loop.time

    def call_at(self, loop, when, callback):
        return loop.call_at(when, callback)


class Ours:
    """One scope with the face of asyncio.timeout."""

    def __init__(self, line: Timeline, seconds: float) -> None:
        self.line, self.seconds = line, seconds

    async def __aenter__(self) -> None:
        self.scope = self.line.open(self.seconds)

    async def __aexit__(self, kind, error, traceback) -> None:
        if self.scope.leave(error):
            raise TimeoutError from error


def plan(dice: random.Random) -> dict:
    """Draw nested bounds, what the work inside does, and when it is cancelled from outside."""
    steps = [
        (dice.choice(["sleep", "sleep", "swallow", "raise", "shield", "late"]), dice.choice(TIMES)) for _ in range(3)
    ]
    return {
        "bounds": [dice.choice(TIMES[1:]) for _ in range(dice.randrange(1, 4))],
        "steps": steps[: dice.randrange(1, 4)],
        "after": dice.choice(TIMES),
        "cancels": sorted(dice.choice(TIMES) for _ in range(dice.choice([0, 0, 1, 1, 2, 3]))),
        "catches": dice.random() < 0.4,
        "order": dice.random() < 0.5,
    }


async def step(kind: str, seconds: float) -> None:
    if kind == "swallow":
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(seconds)
    elif kind == "raise":
        await asyncio.sleep(seconds)
        raise LookupError
    elif kind == "shield":
        try:
            await asyncio.sleep(seconds)
        finally:
            await asyncio.sleep(1.0)
    else:
        await asyncio.sleep(seconds)


async def nested(bounds, work, bound, catches):
    if not bounds:
        return await work()
    try:
        async with bound(bounds[0]):
            return await nested(bounds[1:], work, bound, catches)
    except TimeoutError:
        if not catches:
            raise
        await asyncio.sleep(1.0)
        return "went on"


async def scenario(loop: JumpingLoop, drawn: dict, bound) -> tuple:
    """Run one plan and return all that can be seen of its end."""
    seen = []

    async def work():
        for kind, seconds in drawn["steps"]:
            await step(kind, seconds)
            seen.append((kind, loop.now))
        return "done"

    async def whole():
        try:
            return await nested(drawn["bounds"], work, bound, drawn["catches"])
        finally:
            seen.append(("left", loop.now, asyncio.current_task().cancelling()))
            await asyncio.sleep(drawn["after"])

    def start():
        return asyncio.ensure_future(whole())

    def cancel_later():
        for when in drawn["cancels"]:
            loop.call_later(when, lambda: task.cancel())

    if drawn["order"]:
        cancel_later()
        task = start()
    else:
        task = start()
        await asyncio.sleep(0)
        cancel_later()
    await asyncio.wait([task])
    ended = "cancelled" if task.cancelled() else task.exception() or task.result()
    end = type(ended).__name__ if isinstance(ended, BaseException) else ended
    return seen, end, loop.now, task.cancelling()


def run(seed: int, make) -> tuple:
    loop = JumpingLoop()
    try:
        return loop.run_until_complete(scenario(loop, plan(random.Random(seed)), make(loop)))
    finally:
        loop.close()


def ours(loop: JumpingLoop):
    """One timeline for all: nested scopes of it share its timer, and leave and enter out of order."""
    line = Timeline(clock=LoopClock(loop))
    return lambda seconds: Ours(line, seconds)


@pytest.mark.parametrize("block", range(3))
def test_no_scenario_ends_otherwise_than_under_asyncio_timeout(block):
    share = SCENARIOS // 3
    ends = set()
    for seed in range(block * share, (block + 1) * share):
        theirs = run(seed, lambda loop: asyncio.timeout)
        assert run(seed, ours) == theirs, plan(random.Random(seed))
        ends.add(theirs[1])
    assert ends >= {"done", "cancelled", "TimeoutError", "LookupError", "went on"}, "each end is met"


def test_the_error_of_a_policy_is_a_timeout_error():
    assert issubclass(OperationTimeoutError, TimeoutError)
