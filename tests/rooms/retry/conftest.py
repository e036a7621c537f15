from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from aioresilience.testing import VirtualClock


class Upstream:
    """Plays a list of outcomes, one a call: errors are raised, the rest is returned; the last one goes on for ever."""

    def __init__(self, clock: VirtualClock, outcomes: tuple[object, ...]) -> None:
        self.clock = clock
        self.outcomes = outcomes
        self.times: list[float] = []

    async def __call__(self, *args: object, **kwargs: object) -> object:
        outcome = self.outcomes[min(self.calls, len(self.outcomes) - 1)]
        self.times.append(self.clock.monotonic())
        await asyncio.sleep(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome() if callable(outcome) else outcome

    @property
    def calls(self) -> int:
        return len(self.times)

    @property
    def waits(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def upstream(clock: VirtualClock) -> Callable[..., Upstream]:
    return lambda *outcomes: Upstream(clock, outcomes)


@pytest.fixture
def finish(clock: VirtualClock) -> Callable[[Awaitable[object]], Awaitable[object]]:
    """Run a call to its end, however long it waits."""

    async def run(call: Awaitable[object], seconds: float = 1e7) -> object:
        task = asyncio.ensure_future(call)
        await clock.advance(seconds)
        assert task.done()
        return await task

    return run
