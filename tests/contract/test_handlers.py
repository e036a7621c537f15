"""Whatever a handler of events does, a call does not notice: neither its result nor one turn of the loop changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from aioresilience import logging as own_logging
from aioresilience.events import EventType, global_bus
from aioresilience.exceptions import RejectionError
from aioresilience.policy import Policy
from aioresilience.scope import sleep
from aioresilience.testing import VirtualClock
from tests.contract.stacks import EVERY, GUARDS, at_rest, fail, fill, key_of, make, ok, turns

PATTERN = pytest.mark.parametrize("cls", EVERY, ids=key_of)


class Broken(BaseException):
    """Not even an Exception."""


def handlers_of(pattern, reached: list[object]) -> dict[str, Callable[[object], object]]:
    """Return handlers that try to hurt; each notes that it was reached."""

    def raises(event):
        reached.append(event)
        raise RuntimeError("a broken handler")

    async def raises_later(event):
        reached.append(event)
        await asyncio.sleep(0)
        raise RuntimeError("a broken handler")

    def raises_worse(event):
        reached.append(event)
        raise Broken

    async def hangs(event):
        reached.append(event)
        await asyncio.Event().wait()

    def re_enters(event):
        reached.append(event)
        if len(reached) < 20:
            pattern.events.publish(event)
        pattern.status()

    async def calls_again(event):
        reached.append(event)
        if len(reached) < 4:
            await asyncio.gather(pattern.execute(ok), return_exceptions=True)

    def unsubscribes(event):
        reached.append(event)
        pattern.events.clear()
        global_bus.clear()

    def subscribes(event):
        reached.append(event)
        if len(reached) < 5:
            pattern.events.add_handler("*", lambda event: reached.append(event))

    def cancels(event):
        reached.append(event)
        raise asyncio.CancelledError

    async def cancels_itself(event):
        reached.append(event)
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    def changes_the_event(event):
        reached.append(event)
        event.metadata["x"] = 1
        event.pattern_name = "other"

    def retunes(event):
        reached.append(event)
        pattern.retune(pattern.config)

    return {name: func for name, func in locals().items() if callable(func) and name not in ("pattern", "reached")}


NAMES = sorted(handlers_of(None, []))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Take the reports of broken handlers; forget what listens to the bus."""
    own_logging.set_error_handler(lambda name, error, **context: None)
    yield
    own_logging.set_error_handler(None)
    global_bus.clear()


async def course(pattern, clock: VirtualClock) -> list[tuple[str, int]]:
    """Make calls that succeed, fail, are cut and are refused; return how each ended and after how many turns."""
    seen = []
    policy = Policy("mine", [pattern], clock=clock)
    for work in ((ok,), (fail,), (ok,), (asyncio.sleep, 0), (fail,), (sleep, 100, clock), (ok,), (ok,)):
        task, count = asyncio.ensure_future(policy.call(*work)), 0
        while not task.done() and count < 200:
            await asyncio.sleep(0)
            count += 1
            if count > 12:  # it sleeps or waits
                clock.move(1.0)
        if not task.done():
            task.cancel()
        await asyncio.wait([task])
        seen.append(("cancelled" if task.cancelled() else repr(task.exception() or task.result()), count))
    return seen


async def let_go(pattern, clock: VirtualClock) -> None:
    """End the handlers that hang, as the end of a program does."""
    pattern.events.clear()
    global_bus.clear()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=15)
    await clock.advance(60)


@PATTERN
@pytest.mark.parametrize("place", ["emitter", "bus"])
@pytest.mark.parametrize("name", NAMES)
async def test_a_call_does_not_notice_a_handler(cls, place, name):
    clock = VirtualClock()
    expected = await course(make(cls, clock), clock)
    clock, reached = VirtualClock(), []
    pattern = make(cls, clock)
    where = pattern.events if place == "emitter" else global_bus
    where.add_handler("*", handlers_of(pattern, reached)[name])
    if name == "calls_again":  # whose own calls count, too
        await course(pattern, clock)
    else:
        assert await course(pattern, clock) == expected
    await turns()
    assert reached, "the handler was never tried"
    await let_go(pattern, clock)
    at_rest(pattern)


@PATTERN
async def test_every_handler_hears_what_a_hanging_one_does_not_take(cls):
    clock, heard, reached = VirtualClock(), [], []
    pattern = make(cls, clock)
    pattern.events.add_handler("*", handlers_of(pattern, reached)["hangs"])
    pattern.events.add_handler("*", handlers_of(pattern, reached)["raises"])
    pattern.events.add_handler("*", lambda event: heard.append(event))
    await course(pattern, clock)
    await turns()
    assert len(heard) >= 1
    await let_go(pattern, clock)


@pytest.mark.parametrize("cls", GUARDS, ids=key_of)
async def test_a_decision_is_told_with_policy_reason_and_wait(cls):
    clock, told = VirtualClock(), []
    pattern = make(cls, clock, **({"timeout": 1.0} if cls.key == "backpressure" else {}))
    tasks = await fill(pattern, clock)
    pattern.events.add_handler(EventType.DECISION, told.append)
    task = asyncio.ensure_future(Policy("mine", [pattern], clock=clock).call(ok))
    await clock.advance(2.0)
    assert isinstance(task.exception(), RejectionError)
    await turns()
    (event,) = told
    assert (event.policy, event.pattern_name, event.action) == ("mine", "p", "rejected")
    assert event.reason == task.exception().reason.name
    assert event.waited == (1.0 if cls.key == "backpressure" else 0.0)
    await clock.advance(60)
    await asyncio.gather(*tasks)


@PATTERN
async def test_nothing_is_built_while_nobody_listens(cls, monkeypatch):
    import aioresilience.events.facts as facts

    clock, built = VirtualClock(), []
    pattern = make(cls, clock)
    assert not pattern.listening()
    monkeypatch.setattr(facts.ResilienceEvent, "__init__", lambda self, *args, **kwargs: built.append(self))
    for kind in vars(facts).values():
        if isinstance(kind, type) and issubclass(kind, facts.ResilienceEvent):
            monkeypatch.setattr(kind, "__init__", lambda self, *args, **kwargs: built.append(self))
    await course(pattern, clock)
    assert not built
