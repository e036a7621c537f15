"""Events reach whoever listens, in order, and trouble nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import json
import logging
import pickle
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from contextvars import ContextVar
from enum import IntEnum

import pytest
from hypothesis import given, strategies as st

from aioresilience import events
from aioresilience.events import (
    BulkheadEvent,
    CircuitBreakerEvent,
    DecisionEvent,
    EventEmitter,
    EventType,
    FallbackEvent,
    LoadShedderEvent,
    PatternType,
    RateLimitEvent,
    RegistryEvent,
    ResilienceEvent,
    RetryEvent,
    TimeoutEvent,
    global_bus,
    loops,
)
from aioresilience.events.delivery import MAX_PENDING
from aioresilience.events.drain import BATCH
from aioresilience.events.facts import plain
from aioresilience.logging import set_error_handler

CHANGE = EventType.STATE_CHANGE


class State(IntEnum):
    CLOSED = 0
    OPEN = 1


@pytest.fixture(autouse=True)
def quiet_bus():
    yield
    global_bus.clear()


@pytest.fixture
def logged():
    told = []
    set_error_handler(lambda name, error, **context: told.append((error, context)))
    yield told
    set_error_handler(None)


@pytest.fixture
def emitter():
    return EventEmitter("api")


@pytest.fixture
def other_loop():
    """A loop that runs in a thread of its own."""
    with _LoopInThread() as loop:
        yield loop


class _LoopInThread:
    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)

    def __enter__(self):
        self.thread.start()
        return self

    def run(self, func: Callable[[], object]):
        async def call():
            return func()

        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(30)

    def __exit__(self, *error):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


def event(number: int = 0, event_type: EventType | int | str = CHANGE) -> ResilienceEvent:
    return ResilienceEvent(PatternType.CIRCUIT_BREAKER, event_type, "api", metadata={"n": number})


def number(fact: ResilienceEvent) -> int:
    return fact.metadata["n"]


def collector(into: list[int]) -> Callable[[ResilienceEvent], None]:
    return lambda fact: into.append(number(fact))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.001)


def wait_until(condition: Callable[[], object]) -> None:
    asyncio.run(until(condition))


# Who hears what


def test_nobody_listens_at_first(emitter):
    assert emitter.handlers == {}
    assert global_bus.handlers == {}
    assert not emitter.has_listeners()
    emitter.publish(event())
    assert emitter.stats() == {"delivered": 0, "failed": 0, "dropped": 0}


@pytest.mark.parametrize("asked", ["state_change", "STATE_CHANGE", CHANGE, CHANGE.value, "*"])
@pytest.mark.parametrize("published", [CHANGE, CHANGE.value, "state_change"])
async def test_an_event_type_is_a_member_a_value_or_a_name(emitter, asked, published):
    got = []
    emitter.on(asked)(collector(got))
    emitter.publish(event(1, published))
    await asyncio.sleep(0)
    assert got == [1]


async def test_a_handler_hears_only_what_it_asked_for(emitter):
    got = []
    emitter.add_handler("state_change", collector(got))
    emitter.publish(event(1, EventType.CALL_SUCCESS))
    emitter.publish(event(2))
    await asyncio.sleep(0)
    assert got == [2]


async def test_an_event_of_another_library_is_known_by_its_dotted_name(emitter):
    got = []
    emitter.add_handler("acme.cache_hit", collector(got))
    emitter.publish(event(1, "acme.cache_hit"))
    await asyncio.sleep(0)
    assert got == [1]


@pytest.mark.parametrize(
    "unknown", ["state_chnage", "statechange", "State Change", "nonsense", "", ".x", "Acme.hit", 9999, -1]
)
def test_an_unknown_event_type_is_refused(emitter, unknown):
    with pytest.raises(ValueError, match=r"event type|valid EventType"):
        emitter.on(unknown)


def test_the_refusal_names_what_was_meant(emitter):
    with pytest.raises(ValueError, match="did you mean 'state_change'"):
        emitter.add_handler("state_chnage", print)


@pytest.mark.parametrize("wrong", [True, None, 1.0, object()])
def test_what_cannot_be_an_event_type_is_refused(emitter, wrong):
    with pytest.raises(TypeError, match="event type"):
        emitter.on(wrong)


async def _yields(fact):
    yield fact


def _generates(fact):
    yield fact


@pytest.mark.parametrize("wrong", ["print", _yields, _generates])
def test_what_cannot_be_a_handler_is_refused(emitter, wrong):
    with pytest.raises(TypeError, match="handler"):
        emitter.add_handler("*", wrong)


async def test_the_bus_hears_every_emitter():
    got = []
    global_bus.on("state_change")(collector(got))
    for i in range(3):
        EventEmitter(f"api-{i}").publish(event(i))
    await asyncio.sleep(0)
    assert got == [0, 1, 2]


async def test_a_listener_on_the_bus_counts_as_a_listener_of_every_emitter(emitter):
    assert not global_bus.is_active
    assert not emitter.is_global_bus_enabled()
    global_bus.add_handler("*", print)
    assert global_bus.is_active
    assert global_bus.has_listeners()
    assert emitter.is_global_bus_enabled()
    assert emitter.has_listeners()
    assert emitter.get_global_bus() is global_bus
    assert emitter.handlers == {}


async def test_the_bus_publishes_too():
    got = []
    global_bus.on("*")(collector(got))
    global_bus.publish(event(1))
    await global_bus.emit(event(2))
    assert got == [1, 2]


def test_the_decorator_returns_the_function_itself(emitter):
    def handler(fact): ...

    assert emitter.on("*")(handler) is handler


def test_registering_twice_changes_nothing(emitter):
    emitter.add_handler("*", print)
    emitter.add_handler("*", print)
    emitter.add_handler("state_change", print)
    assert emitter.handler_count == 2
    assert emitter.get_handlers() == [print, print]
    assert emitter.get_handlers(CHANGE) == [print]
    assert emitter.get_handlers("call_success") == []


def test_an_emitter_is_empty_again_after_the_last_handler_went(emitter):
    emitter.add_handler("state_change", print)
    emitter.add_handler("*", print)
    assert emitter.remove_handler(CHANGE, print)
    assert not emitter.remove_handler(CHANGE, print)
    assert not emitter.remove_handler("*", repr)
    assert emitter.get_handlers() == [print]
    assert emitter.remove_handler("*", print)
    assert emitter.handlers == {}


def test_a_bound_method_can_be_removed(emitter):
    got = []
    emitter.add_handler("*", got.append)
    assert emitter.remove_handler("*", got.append)


def test_clear_takes_back_everything(emitter):
    emitter.add_handler("state_change", print)
    emitter.add_handler("*", repr)
    emitter.clear()
    assert (emitter.handlers, emitter.handler_count) == ({}, 0)


def test_emitters_nobody_listens_to_are_small():
    assert not hasattr(EventEmitter("api"), "__dict__")
    assert EventEmitter("a").handlers is EventEmitter("b").handlers


# How it is delivered


def _plain(got):
    return collector(got)


def _async(got):
    async def handler(fact):
        got.append(number(fact))

    return handler


def _lambda(got):
    return lambda fact: _async(got)(fact)


def _partial(got):
    async def handler(extra, fact):
        got.append(number(fact))

    return functools.partial(handler, "extra")


def _object(got):
    class Handler:
        async def __call__(self, fact):
            got.append(number(fact))

    return Handler()


@pytest.mark.parametrize("kind", [_plain, _async, _lambda, _partial, _object])
async def test_a_handler_runs_in_the_loop_s_next_turn_and_never_inline(emitter, kind):
    got = []
    emitter.on("*")(kind(got))
    emitter.publish(event(1))
    emitter.publish(event(2))
    assert got == []
    await asyncio.sleep(0)
    assert got == [1, 2]


async def test_a_task_factory_is_not_asked(emitter):
    asyncio.get_running_loop().set_task_factory(lambda loop, coro, **kwargs: pytest.fail("asked"))
    got = []
    emitter.on("*")(collector(got))
    emitter.publish(event(1))
    await asyncio.sleep(0)
    asyncio.get_running_loop().set_task_factory(None)
    assert got == [1]


async def test_transitions_arrive_in_order_and_one_at_a_time(emitter):
    got, inside = [], 0

    @emitter.on("*")
    async def handler(fact):
        nonlocal inside
        inside += 1
        assert inside == 1
        await asyncio.sleep(0.002 if number(fact) == 0 else 0)
        got.append(number(fact))
        inside -= 1

    for i in range(5):
        emitter.publish(event(i))
        await asyncio.sleep(0)
    await emitter.emit(event(5))
    assert got == [0, 1, 2, 3, 4, 5]


async def test_one_function_gets_events_of_several_types_in_order(emitter):
    got = []
    handler = collector(got)
    emitter.add_handler("state_change", handler)
    emitter.add_handler("call_failure", handler)
    for i in range(6):
        emitter.publish(event(i, CHANGE if i % 2 else EventType.CALL_FAILURE))
    await asyncio.sleep(0)
    assert got == [0, 1, 2, 3, 4, 5]


async def test_a_handler_that_raises_is_logged_counted_and_alone_in_it(emitter, logged):
    got = []

    @emitter.on("*")
    def broken(fact):
        raise RuntimeError("broken")

    @emitter.on("*")
    async def broken_later(fact):
        raise RuntimeError("broken later")

    emitter.on("*")(collector(got))
    emitter.publish(event(1))
    emitter.publish(event(2))
    await asyncio.sleep(0)
    assert got == [1, 2]
    assert [str(error) for error, _ in logged] == ["broken", "broken", "broken later", "broken later"]
    assert logged[0][1]["event"] == "state_change"
    assert logged[0][1]["handler"].endswith("broken")
    assert emitter.stats() == {"delivered": 2, "failed": 4, "dropped": 0}


class OwnBase(BaseException):
    pass


@pytest.mark.parametrize("error", [asyncio.CancelledError(), StopIteration(), SystemExit(1), OwnBase()])
async def test_whatever_a_handler_raises_the_next_event_arrives(emitter, error, logged):
    got = []

    @emitter.on("*")
    def handler(fact):
        got.append(number(fact))
        raise error

    emitter.publish(event(1))
    emitter.publish(event(2))
    await asyncio.sleep(0)
    assert got == [1, 2]
    assert emitter.stats()["failed"] == 2


async def test_a_cancelled_handler_is_followed_by_the_next_event(emitter):
    got = []

    @emitter.on("*")
    async def handler(fact):
        got.append(number(fact))
        if number(fact) == 1:
            asyncio.current_task().cancel()
            await asyncio.sleep(0)

    for i in range(1, 4):
        emitter.publish(event(i))
    await until(lambda: got == [1, 2, 3])
    assert emitter.stats() == {"delivered": 2, "failed": 1, "dropped": 0}


async def test_a_drain_cancelled_before_it_began_loses_nothing(emitter):
    got = []
    emitter.on("*")(collector(got))
    emitter.publish(event(1))
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await until(lambda: got == [1])


async def test_a_slow_handler_delays_neither_the_emitter_nor_the_others(emitter):
    got, gate = [], asyncio.Event()

    @emitter.on("*")
    async def slow(fact):
        await gate.wait()

    emitter.on("*")(collector(got))
    for i in range(3):
        emitter.publish(event(i))
        await asyncio.sleep(0)
    assert got == [0, 1, 2]
    gate.set()
    await emitter.emit(event(3))
    assert emitter.stats()["delivered"] == 8


async def test_a_handler_may_publish(emitter):
    got = []

    @emitter.on("*")
    def handler(fact):
        got.append(number(fact))
        if number(fact) < 3:
            emitter.publish(event(number(fact) + 1))

    emitter.publish(event(0))
    await asyncio.sleep(0)
    assert got == [0, 1, 2, 3]


async def test_a_handler_that_publishes_without_end_leaves_the_loop_its_turns(emitter):
    @emitter.on("*")
    def handler(fact):
        emitter.publish(event(number(fact) + 1))

    emitter.publish(event(0))
    await asyncio.sleep(0)
    assert emitter.stats()["delivered"] == BATCH
    emitter.clear()
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_a_handler_may_unsubscribe_itself(emitter):
    got = []

    @emitter.on("*")
    def once(fact):
        got.append(number(fact))
        emitter.remove_handler("*", once)

    emitter.publish(event(1))
    emitter.publish(event(2))
    await asyncio.sleep(0)
    emitter.publish(event(3))
    await asyncio.sleep(0)
    assert got == [1]


@pytest.mark.parametrize("leave", [lambda e, h: e.clear(), lambda e, h: e.remove_handler("*", h)])
async def test_what_is_pending_is_not_delivered_after_unsubscribing(emitter, leave):
    got = []
    handler = collector(got)
    emitter.add_handler("*", handler)
    emitter.publish(event(1))
    leave(emitter, handler)
    await emitter.emit(event(2))
    await asyncio.sleep(0)
    assert got == []


async def test_beyond_the_cap_the_oldest_are_dropped_and_counted(emitter):
    got = []
    emitter.on("*")(collector(got))
    for i in range(MAX_PENDING + 3):
        emitter.publish(event(i))
    await until(lambda: len(got) == MAX_PENDING)
    assert got == list(range(3, MAX_PENDING + 3))
    assert emitter.stats() == {"delivered": MAX_PENDING, "failed": 0, "dropped": 3}


async def test_publishing_nonsense_is_logged_and_never_raises(emitter, logged):
    emitter.add_handler("*", print)
    emitter.publish("no event")
    assert [context for _, context in logged] == [{"publishing": "str"}]


async def test_handlers_inherit_nothing_from_the_call(emitter):
    deadline: ContextVar[int] = ContextVar("deadline", default=0)
    got = []
    emitter.on("*")(lambda fact: got.append(deadline.get()))
    deadline.set(5)
    emitter.publish(event())
    await asyncio.sleep(0)
    assert got == [0]


# Emitting and waiting


async def test_emit_waits_until_every_handler_has_had_the_event(emitter, logged):
    got = []

    @emitter.on("*")
    async def slow(fact):
        await asyncio.sleep(0.002)
        got.append(number(fact))

    @global_bus.on("*")
    def broken(fact):
        raise RuntimeError("broken")

    emitter.publish(event(1))
    await emitter.emit(event(2))
    assert got == [1, 2]
    assert [str(error) for error, _ in logged] == ["broken", "broken"]


async def test_emit_without_handlers_returns(emitter):
    await emitter.emit(event())


async def test_emit_inside_a_handler_does_not_wait_for_itself(emitter):
    got = []

    @emitter.on("*")
    async def handler(fact):
        got.append(number(fact))
        if number(fact) < 3:
            await emitter.emit(event(number(fact) + 1))

    await emitter.emit(event(1))
    await until(lambda: got == [1, 2, 3])


async def test_emit_does_not_wait_for_what_was_dropped_or_unsubscribed(emitter):
    gate = asyncio.Event()

    @emitter.on("*")
    async def slow(fact):
        await gate.wait()

    emitter.publish(event())
    await asyncio.sleep(0)
    waiting = asyncio.ensure_future(emitter.emit(event()))
    await asyncio.sleep(0)
    emitter.clear()
    gate.set()
    await waiting
    assert emitter.stats()["delivered"] == 1


async def test_emit_does_not_wait_for_a_dropped_event(emitter):
    gate = asyncio.Event()

    @emitter.on("*")
    async def slow(fact):
        await gate.wait()

    emitter.publish(event())
    await asyncio.sleep(0)
    waiting = asyncio.ensure_future(emitter.emit(event()))
    await asyncio.sleep(0)
    for _ in range(MAX_PENDING):
        emitter.publish(event())
    await waiting
    emitter.clear()
    gate.set()
    await asyncio.sleep(0)


async def test_cancelling_emit_leaves_the_handler_alone(emitter):
    gate, got = asyncio.Event(), []

    @emitter.on("*")
    async def slow(fact):
        await gate.wait()
        got.append(number(fact))

    waiting = asyncio.ensure_future(emitter.emit(event(1)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    await until(lambda: got == [1])


async def test_emit_ends_when_the_handler_s_loop_stops(emitter, monkeypatch):
    monkeypatch.setattr("aioresilience.events.emitter.PATIENCE", 0.005)
    hangs = threading.Event()

    async def hang(fact):
        hangs.set()
        await asyncio.Event().wait()

    with _LoopInThread() as loop:
        loop.run(lambda: emitter.add_handler("*", hang))
        waiting = asyncio.ensure_future(emitter.emit(event()))
        await until(hangs.is_set)
        assert not waiting.done()
    async with asyncio.timeout(15):
        await waiting


# Loops and threads


async def test_a_handler_runs_on_the_loop_it_was_registered_on(emitter, other_loop):
    got = []

    @emitter.on("*")
    async def here(fact):
        got.append(asyncio.get_running_loop())

    other_loop.run(lambda: emitter.publish(event()))
    await until(lambda: got)
    await asyncio.to_thread(emitter.publish, event())
    await until(lambda: len(got) == 2)
    assert got == [asyncio.get_running_loop()] * 2


def test_a_handler_whose_loop_is_gone_runs_on_the_emitting_call_s(emitter):
    got = []

    async def register():
        emitter.on("*")(lambda fact: got.append(asyncio.get_running_loop()))

    async def publish():
        await emitter.emit(event())
        return asyncio.get_running_loop()

    asyncio.run(register())
    assert got == []
    assert asyncio.run(publish()) is got[0]
    assert asyncio.run(publish()) is got[1]


@pytest.mark.parametrize("kind", [_plain, _async])
def test_without_any_loop_handlers_run_on_one_private_thread(emitter, kind):
    got, threads = [], set()
    emitter.on("*")(kind(got))
    emitter.on("*")(lambda fact: threads.add(threading.current_thread()))
    for i in range(3):
        emitter.publish(event(i))
    wait_until(lambda: got == [0, 1, 2] and emitter.stats()["delivered"] == 6)
    assert [(thread.name, thread.daemon) for thread in threads] == [("aioresilience-events", True)]


def test_the_private_thread_comes_back_after_a_handler_ended_it(emitter):
    got = []

    @emitter.on("*")
    def handler(fact):
        got.append(number(fact))
        if number(fact) == 1:
            asyncio.get_running_loop().stop()

    emitter.publish(event(1))
    wait_until(lambda: got == [1])
    wait_until(lambda: emitter.publish(event(2)) or 2 in got)


def test_a_loop_that_closes_over_a_hanging_handler_leaves_no_complaint(emitter, caplog):
    got, loop = [], asyncio.new_event_loop()

    @emitter.on("*")
    async def handler(fact):
        got.append(number(fact))
        if number(fact) == 1:
            await asyncio.Event().wait()

    async def publish():
        emitter.publish(event(1))
        emitter.publish(event(2))
        await asyncio.sleep(0)

    gc.collect()  # of what other tests left, others may complain
    caplog.clear()
    with caplog.at_level(logging.DEBUG):
        loop.run_until_complete(publish())
        loop.close()
        asyncio.run(emitter.emit(event(3)))
        gc.collect()
    assert got == [1, 2, 3]
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("here", [True, False])
def test_a_loop_that_never_gets_to_its_drain_leaves_no_complaint(emitter, caplog, here):
    got, loop = [], asyncio.new_event_loop()
    emitter.add_handler("*", handler := collector(got))

    def publish_and_stop():
        loop.stop()
        if here:
            emitter.publish(event(1))
        else:
            thread = threading.Thread(target=emitter.publish, args=(event(1),))
            thread.start()
            thread.join()

    async def register():
        emitter.clear()
        emitter.add_handler("*", handler)

    gc.collect()  # of what other tests left, others may complain
    caplog.clear()
    loop.run_until_complete(register())
    loop.call_soon(publish_and_stop)
    loop.run_forever()
    loop.close()
    asyncio.run(emitter.emit(event(2)))
    gc.collect()
    assert got == [1, 2]
    assert caplog.records == []


def test_asyncio_run_ends_under_a_hanging_handler_and_the_rest_is_delivered(emitter, monkeypatch):
    monkeypatch.undo()  # this test is about the tasks that a loop ends with
    got = []

    async def handler(fact):
        got.append(number(fact))
        if number(fact) == 1:
            await asyncio.Event().wait()

    async def publish():
        emitter.add_handler("*", handler)
        emitter.publish(event(1))
        emitter.publish(event(2))
        await asyncio.sleep(0)

    asyncio.run(publish())
    asyncio.run(emitter.emit(event(3)))
    assert got == [1, 2, 3]


def test_a_loop_that_runs_again_goes_on_where_it_stopped(emitter):
    got, loop = [], asyncio.new_event_loop()

    @emitter.on("*")
    async def handler(fact):
        await asyncio.sleep(0.002)
        got.append(number(fact))

    async def publish():
        emitter.publish(event(1))
        await asyncio.sleep(0)

    with contextlib.closing(loop):
        loop.run_until_complete(publish())
        assert got == []
        loop.run_until_complete(until(lambda: got == [1]))


async def test_a_home_that_closes_just_now_is_passed_over(emitter):
    class Closing:
        def is_running(self):
            return True

        def call_soon_threadsafe(self, callback):
            raise RuntimeError("Event loop is closed")

    got = []
    emitter.on("*")(collector(got))
    emitter.handlers["*"][0].home = Closing()
    emitter.publish(event(1))
    await asyncio.sleep(0)
    assert got == [1]


def test_whoever_waited_on_a_closed_loop_is_forgotten(emitter, other_loop):
    gate = asyncio.Event()

    async def slow(fact):
        await gate.wait()

    async def give_up():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(emitter.emit(event(1)), 0.005)

    other_loop.run(lambda: emitter.add_handler("*", slow))
    asyncio.run(give_up())
    other_loop.run(gate.set)
    wait_until(lambda: emitter.stats()["delivered"] == 1)


def test_an_event_waits_where_no_thread_can_be_started(emitter, logged, monkeypatch):
    got = []
    emitter.on("*")(collector(got))
    with monkeypatch.context() as patch:
        patch.setattr(loops, "_private", None)
        patch.setattr(threading.Thread, "start", cannot_start)
        emitter.publish(event(1))
    assert [str(error) for error, _ in logged] == ["can't start new thread"]
    emitter.publish(event(2))
    wait_until(lambda: got == [1, 2])


def cannot_start(thread):
    raise RuntimeError("can't start new thread")


def test_at_the_end_of_the_process_handlers_get_to_finish(emitter, monkeypatch):
    monkeypatch.setattr(loops, "GRACE", 15.0)
    got = []

    @emitter.on("*")
    async def handler(fact):
        await asyncio.sleep(0.002)
        got.append(number(fact))

    emitter.publish(event(1))
    loops._finish()
    assert got == [1]
    loops._finish()


async def test_a_drain_is_a_coroutine_like_any_other(emitter):
    got = []
    emitter.on("*")(collector(got))
    subscription = emitter.handlers["*"][0]
    emitter.publish(event(1))
    drain = subscription._drain
    await drain
    assert got == [1]
    drain.close()
    emitter.publish(event(2))
    await asyncio.sleep(0)
    assert got == [1, 2]


async def test_many_threads_and_loops_publish_at_once(emitter, other_loop):
    got, each = [], 400
    emitter.on("*")(lambda fact: got.append(fact.metadata["n"]))

    def publish(source: int):
        for i in range(each):
            emitter.publish(event((source, i)))

    threads = [threading.Thread(target=publish, args=(source,)) for source in range(4)]
    for thread in threads:
        thread.start()
    await asyncio.gather(asyncio.to_thread(other_loop.run, lambda: publish(4)), asyncio.to_thread(publish, 5))
    publish(6)
    await until(lambda: len(got) == 7 * each)
    for thread in threads:
        thread.join()
    for source in range(7):
        assert [i for s, i in got if s == source] == list(range(each))
    assert emitter.stats() == {"delivered": 7 * each, "failed": 0, "dropped": 0}


async def test_registering_while_others_publish_is_safe(emitter):
    stop = threading.Event()

    def publish():
        while not stop.is_set():
            emitter.publish(event())

    thread = threading.Thread(target=publish)
    thread.start()
    for _ in range(200):
        emitter.on("*")(handler := collector([]))
        emitter.on("state_change")(handler)
        await asyncio.sleep(0)
        emitter.remove_handler("*", handler)
        emitter.remove_handler("state_change", handler)
    stop.set()
    thread.join()
    assert emitter.handlers == {}
    for _ in range(3):  # a drain that the thread started last begins, finds nothing and ends
        await asyncio.sleep(0)


def _script(code: str) -> str:
    header = """
        import asyncio, os, sys, threading
        from aioresilience.events import EventEmitter, ResilienceEvent
        emitter, event = EventEmitter("api"), ResilienceEvent("hedge", "acme.hit", "api")
    """
    source = textwrap.dedent(header) + textwrap.dedent(code)
    command = [sys.executable, "-X", "dev", "-W", "error", "-W", "ignore::DeprecationWarning", "-c", source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.stdout


def test_what_is_published_last_is_delivered_before_the_process_ends():
    assert _script("""
        from aioresilience.events import loops
        loops.GRACE = 15.0  # the machine may be busy

        @emitter.on("*")
        async def handler(fact):
            await asyncio.sleep(0.01)
            print("heard")
        emitter.publish(event)
    """) == "heard\n"  # fmt: skip


def test_a_handler_that_hangs_does_not_keep_the_process():
    assert _script("""
        heard = threading.Event()

        @emitter.on("*")
        async def handler(fact):
            print("heard", flush=True)
            heard.set()
            await asyncio.Event().wait()
        emitter.publish(event)
        assert heard.wait(30)
    """) == "heard\n"  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_a_forked_child_delivers_on_a_thread_and_on_loops_of_its_own():
    assert _script("""
        heard = threading.Event()
        emitter.add_handler("*", lambda fact: heard.set())
        emitter.publish(event)
        assert heard.wait(30)
        heard.clear()

        async def main():
            emitter.clear()
            emitter.add_handler("*", lambda fact: heard.set())
            return os.fork()

        child = asyncio.run(main()) if len(sys.argv) < 2 else 0
        if child:
            assert os.waitpid(child, 0)[1] == 0
            print("done")
        else:
            emitter.publish(event)
            os._exit(not heard.wait(30))
    """) == "done\n"  # fmt: skip


# The facts


FACTS = [
    CircuitBreakerEvent(PatternType.CIRCUIT_BREAKER, CHANGE, "api", 1.0, {}, State.CLOSED, State.OPEN, 5, 0),
    RetryEvent(PatternType.RETRY, EventType.RETRY_ATTEMPT, "api", attempt=1, delay=0.5, error=ValueError("boom")),
    TimeoutEvent(PatternType.TIMEOUT, EventType.TIMEOUT_OCCURRED, "api", timeout_value=1.0, elapsed=float("inf")),
    BulkheadEvent(PatternType.BULKHEAD, EventType.BULKHEAD_FULL, "db", active_count=10),
    FallbackEvent(PatternType.FALLBACK, EventType.FALLBACK_EXECUTED, "api", fallback_value=object()),
    LoadShedderEvent(PatternType.LOAD_SHEDDER, EventType.REQUEST_SHED, "api", load_level=State.OPEN, reason="cpu"),
    RateLimitEvent(PatternType.RATE_LIMITER, EventType.REQUEST_REJECTED, "api", user_id="u", limit="100/minute"),
    DecisionEvent(
        PatternType.DEADLINE, EventType.PATTERN_SKIPPED, "api", policy="payments", reason=State.OPEN, waited=0.1
    ),
    RegistryEvent("reload_applied", 3, "7864d60", {"changed": ("payments",)}, "1 policy changed"),
]


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: type(fact).__name__)
def test_a_fact_is_frozen_slotted_and_fit_for_json(fact):
    assert isinstance(fact, ResilienceEvent)
    assert not hasattr(fact, "__dict__")
    with pytest.raises(AttributeError):
        fact.pattern_name = "other"
    row = json.loads(json.dumps(fact.to_dict(), allow_nan=False))
    assert set(row) == set(fact.__dataclass_fields__)
    assert row["event_type"] == fact.event_type.name.lower()
    assert isinstance(row["pattern_type"], str)
    assert row["pattern_type"].islower()


def test_enum_members_become_lower_case_names():
    row = FACTS[0].to_dict()
    assert (row["pattern_type"], row["event_type"]) == ("circuit_breaker", "state_change")
    assert (row["old_state"], row["new_state"], row["failure_count"]) == ("closed", "open", 5)


def test_an_event_type_given_by_value_is_named_too():
    assert event(1, CHANGE.value).to_dict()["event_type"] == "state_change"
    assert event(1, "acme.hit").to_dict()["event_type"] == "acme.hit"
    assert event(1, 9999).to_dict()["event_type"] == 9999


def test_states_stay_comparable_as_members():
    assert FACTS[0].old_state == State.CLOSED


def test_errors_become_text():
    assert FACTS[1].to_dict()["error"] == "ValueError: boom"


def test_a_fact_is_dated_by_the_wall_clock(monkeypatch):
    before = ResilienceEvent("x", CHANGE, "api")
    after = ResilienceEvent("x", CHANGE, "api")
    assert before.timestamp <= after.timestamp
    assert before.timestamp > 1_600_000_000


def test_facts_do_not_share_their_metadata():
    assert event().metadata is not event().metadata
    assert ResilienceEvent("x", CHANGE, "api").metadata == {}


def test_facts_pickle():
    assert pickle.loads(pickle.dumps(FACTS[0])) == FACTS[0]


def test_a_registry_event_is_known_by_its_name():
    fact = RegistryEvent("reload_applied", 3, "7864d60", timestamp=1.0)
    assert fact.event_type is EventType.RELOAD_APPLIED
    assert (fact.pattern_type, fact.pattern_name, fact.timestamp) == ("registry", "registry", 1.0)
    assert RegistryEvent("acme.synced").event_type == "acme.synced"


async def test_a_registry_event_reaches_its_handlers(emitter):
    got = []
    emitter.on("reload_applied")(got.append)
    emitter.publish(fact := RegistryEvent("reload_applied", 3))
    await asyncio.sleep(0)
    assert got == [fact]


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no text")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.builds(Unprintable)
        | st.sampled_from([*EventType, ValueError("x"), 1j]),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.none(), inner),
        max_leaves=20,
    )
)  # fmt: skip
def test_any_value_becomes_fit_for_json(value):
    json.dumps(plain(value), allow_nan=False)


def test_a_value_that_contains_itself_becomes_fit_for_json():
    endless: list[object] = []
    endless.append(endless)
    json.dumps(plain(endless))


def test_the_numbers_of_0_2_stand():
    numbers = {
        "INITIALIZED": 0, "STATE_CHANGE": 1, "CALL_SUCCESS": 2, "CALL_FAILURE": 3, "CIRCUIT_RESET": 4,
        "HALF_OPEN_PROBE": 5, "SLOT_ACQUIRED": 11, "SLOT_RELEASED": 12, "BULKHEAD_FULL": 13, "QUEUE_FULL": 14,
        "TIMEOUT_OCCURRED": 21, "TIMEOUT_SUCCESS": 22, "RETRY_ATTEMPT": 31, "RETRY_EXHAUSTED": 32, "RETRY_SUCCESS": 33,
        "REQUEST_ALLOWED": 41, "REQUEST_REJECTED": 42, "LIMIT_UPDATED": 43, "WINDOW_RESET": 44, "REQUEST_SHED": 51,
        "REQUEST_ACCEPTED": 52, "LOAD_LEVEL_CHANGE": 53, "THRESHOLD_EXCEEDED": 54, "FALLBACK_EXECUTED": 61,
        "PRIMARY_FAILED": 62,
    }  # fmt: skip
    assert {member.name: member.value for member in EventType if member < 71} == numbers
    names = (
        "CIRCUIT_BREAKER BULKHEAD TIMEOUT RETRY RATE_LIMITER LOAD_SHEDDER BACKPRESSURE FALLBACK ADAPTIVE_CONCURRENCY"
    )
    assert [member.name for member in PatternType] == [*names.split(), "DEADLINE"]
    assert [member.value for member in PatternType] == list(range(10))


def test_all_public_names_exist():
    assert all(hasattr(events, name) for name in events.__all__)
