"""Events, callbacks, modes, the timeout field, control by hand, and retuning."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest
from circuit_helpers import bad, breaker, fail, forever, half_open, listen, ok, start, stop

from aioresilience.circuit_breaker import (
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitBreakerReason,
    CircuitConfig,
    CircuitState,
)
from aioresilience.circuit_breaker.circuit import Circuit
from aioresilience.events import CircuitBreakerEvent, EventType, ResilienceEvent, global_bus
from aioresilience.exceptions import ExceptionConfig, ExceptionContext, OperationTimeoutError
from aioresilience.failures import Classifier, Rule
from aioresilience.pattern import Context
from aioresilience.scope import Timeline
from aioresilience.testing import VirtualClock

CLOSED, OPEN, HALF_OPEN = CircuitState


def states(events: list[ResilienceEvent]) -> list[tuple[object, object]]:
    return [(e.old_state, e.new_state) for e in events if e.event_type is EventType.STATE_CHANGE]


# Events


async def test_state_changes_are_told_in_order(clock: VirtualClock):
    circuit = breaker(clock)
    heard = listen(circuit, "state_change")
    await fail(circuit)
    await clock.advance(10.0)
    await fail(circuit)
    await clock.advance(10.0)
    await circuit.call(ok)
    await clock.advance(0)
    assert states(heard) == [
        (CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, CLOSED),
    ]  # fmt: skip


async def test_calls_probes_and_resets_are_told(clock: VirtualClock):
    circuit = breaker(clock)
    heard = listen(circuit, "call_success", "call_failure", EventType.HALF_OPEN_PROBE.value, "circuit_reset")
    await circuit.call(ok)
    await fail(circuit)
    await clock.advance(10.0)
    await circuit.call(ok)
    await circuit.reset()
    await clock.advance(0)
    assert [event.event_type.name for event in heard] == [
        "CALL_SUCCESS", "CALL_FAILURE", "HALF_OPEN_PROBE", "CALL_SUCCESS", "CIRCUIT_RESET",
    ]  # fmt: skip


async def test_an_event_says_when_who_and_how_many(clock: VirtualClock):
    circuit = breaker(clock, failure_threshold=2)
    heard = listen(circuit, "state_change")
    await fail(circuit, 2)
    await clock.advance(0)
    event = heard[0]
    assert isinstance(event, CircuitBreakerEvent)
    assert (event.pattern_name, event.timestamp, event.failure_count) == ("payments", clock.wall(), 2)
    assert event.to_dict()["new_state"] == "open"
    assert event.metadata == {"reason": "2 failures in a row"}


async def test_an_abandoned_probe_is_told(clock: VirtualClock):
    circuit = await half_open(clock, half_open_timeout=5.0)
    heard = listen(circuit, "probe_abandoned")
    hung = await start(circuit, forever)
    await clock.advance(5.0)
    with pytest.raises(CircuitBreakerOpenError):
        await circuit.call(ok)
    await clock.advance(0)
    assert len(heard) == 1
    await stop(hung)


async def test_a_handler_that_forces_the_circuit_does_not_disturb_the_order(clock: VirtualClock):
    circuit = breaker(clock)
    heard = listen(circuit, "state_change")
    circuit.events.add_handler("state_change", lambda event: circuit.release())
    circuit.events.add_handler("state_change", lambda event: event.new_state is OPEN and circuit.force_closed("no"))
    await fail(circuit)
    await clock.advance(0)
    assert states(heard) == [(CLOSED, OPEN), (OPEN, CLOSED)]


async def test_nothing_is_built_when_nobody_listens(clock: VirtualClock, monkeypatch: pytest.MonkeyPatch):
    circuit = breaker(clock)
    monkeypatch.setattr(sys.modules[Circuit.__module__], "CircuitBreakerEvent", None)
    await circuit.call(ok)
    await fail(circuit)
    assert not circuit.machine.notes


async def test_the_global_bus_hears_the_state_changes_too(clock: VirtualClock):
    heard: list[ResilienceEvent] = []
    global_bus.add_handler("state_change", heard.append)
    try:
        await fail(breaker(clock))
        await clock.advance(0)
    finally:
        global_bus.clear()
    assert states(heard) == [(CLOSED, OPEN)]


# Callbacks


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_callbacks_tell_a_failed_call_from_the_one_that_opened_it(clock: VirtualClock, kind: str):
    told: list[ExceptionContext] = []

    async def note(context: ExceptionContext) -> None:
        told.append(context)

    circuit = breaker(
        clock, ExceptionConfig(on_exception=told.append if kind == "plain" else note), failure_threshold=2
    )
    await fail(circuit, 2)
    with pytest.raises(CircuitBreakerOpenError):
        await circuit.call(ok)
    assert [context.reason.name for context in told] == ["CALL_FAILED", "THRESHOLD_EXCEEDED", "CIRCUIT_OPEN"]
    assert [context.metadata["state"] for context in told] == ["closed", "open", "open"]
    assert [context.metadata["failure_count"] for context in told] == [1, 2, 2]
    assert isinstance(told[0].original_exception, ConnectionError)
    assert (told[0].pattern_name, told[0].pattern_type) == ("payments", "circuit_breaker")


async def test_a_failed_probe_is_a_threshold_exceeded(clock: VirtualClock):
    told: list[ExceptionContext] = []
    circuit = await half_open(clock, ExceptionConfig(on_exception=told.append))
    await fail(circuit)
    assert told[-1].reason is CircuitBreakerReason.THRESHOLD_EXCEEDED


async def test_a_custom_error_type_replaces_the_refusal(clock: VirtualClock):
    class Unavailable(Exception):
        pass

    circuit = breaker(clock, ExceptionConfig(exception_type=Unavailable))
    await fail(circuit)
    with pytest.raises(Unavailable) as caught:
        await circuit.call(ok)
    assert isinstance(caught.value.__cause__, CircuitBreakerOpenError)


# What counts


async def test_failure_exceptions_win_over_classify(clock: VirtualClock):
    circuit = breaker(clock, failure_exceptions=(KeyError,))
    judge = circuit.judge(Context(classify=Classifier(failure=Rule(exceptions=(ConnectionError,)))))
    assert judge.of_error(KeyError(), 0.0).name == "FAILURE"
    assert judge.of_error(ConnectionError(), 0.0).name == "NEUTRAL"


async def test_a_predicate_says_what_is_a_failure(clock: VirtualClock):
    circuit = breaker(clock, failure_predicate=lambda error: "fatal" in str(error))
    with pytest.raises(ConnectionError):
        await circuit.call(bad)
    assert (circuit.state, circuit.counts.neutral) == (CLOSED, 1)


async def test_a_deadline_that_cut_a_call_early_is_judged_by_the_breakers_own_timeout(clock: VirtualClock):
    scope = Timeline(clock=clock, is_deadline=True).open(1.0)
    now = clock.monotonic()
    assert breaker(clock, timeout=2.0).judge(Context()).of_cut(scope, now).name == "FAILURE"
    assert breaker(clock, timeout=2.5).judge(Context()).of_cut(scope, now).name == "NEUTRAL"
    assert breaker(clock, timeout=2.5).judge(Context(attempt_timeout=2.0)).of_cut(scope, now).name == "FAILURE"


# The timeout field


async def test_a_call_over_its_timeout_is_cut_and_fails(clock: VirtualClock):
    circuit = breaker(clock, timeout=2.0)
    task = asyncio.create_task(circuit.call(forever))
    await clock.advance(2.0)
    with pytest.raises(OperationTimeoutError) as caught:
        await task
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.reason is CircuitBreakerReason.TIMEOUT
    assert caught.value.pattern_name == "payments"
    assert (circuit.state, circuit.counts.failed, clock.pending) == (OPEN, 1, 0)


async def test_a_call_within_its_timeout_leaves_no_timer(clock: VirtualClock):
    circuit = breaker(clock, timeout=2.0)
    assert await circuit.call(ok) == "ok"
    assert clock.pending == 0


async def test_the_users_own_timeout_error_is_not_taken_for_ours(clock: VirtualClock):
    async def own() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine") as caught:
        await breaker(clock, timeout=2.0).call(own)
    assert not isinstance(caught.value, OperationTimeoutError)


async def test_a_stalled_loop_is_not_blamed_on_the_dependency(clock: VirtualClock):
    circuit = breaker(clock, failure_threshold=5, timeout=0.5)
    heard = listen(circuit, "decision")
    tasks = await start(circuit, forever, 500)
    clock.stall(1.2)
    await clock.advance(0.1)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} == {OperationTimeoutError}
    assert (circuit.state, circuit.counts.neutral) == (CLOSED, 500)
    assert heard[0].action == "loop_stalled"


# Modes


async def test_observe_lets_through_what_it_would_refuse_uncharged(clock: VirtualClock):
    circuit = breaker(clock, mode="observe")
    await fail(circuit)
    assert circuit.state is OPEN
    assert await circuit.call(ok) == "ok"
    assert (circuit.counts.observed, circuit.counts.started) == (1, 1)
    await clock.advance(10.0)
    assert await circuit.call(ok) == "ok"
    assert circuit.state is CLOSED


async def test_off_neither_counts_nor_refuses(clock: VirtualClock):
    circuit = breaker(clock, mode="off")
    await fail(circuit, 3)
    assert (circuit.state, circuit.counts.started) == (CLOSED, 0)
    assert await circuit.can_execute()


async def test_a_gradual_start_enforces_its_share(clock: VirtualClock):
    circuit = breaker(clock, mode={"enforce": 0.25})
    circuit.force_open("test")
    refused = 0
    for _ in range(1_000):
        try:
            await circuit.call(ok)
        except CircuitBreakerOpenError:
            refused += 1
    assert 245 <= refused <= 255


# Control by hand


async def test_forced_open_refuses_all_with_its_reason_until_released(clock: VirtualClock):
    circuit = breaker(clock)
    circuit.force_open("INC-4711")
    await clock.advance(1e6)
    with pytest.raises(CircuitBreakerOpenError, match="INC-4711") as caught:
        await circuit.call(ok)
    assert caught.value.reason is CircuitBreakerReason.CIRCUIT_OPEN
    assert (caught.value.retry_after, caught.value.metadata["forced"]) == (None, "INC-4711")
    assert circuit.status()["forced"] == "INC-4711"
    circuit.release()
    assert await circuit.call(ok) == "ok"
    assert (circuit.state, circuit.status()["forced"]) == (CLOSED, None)


async def test_forced_closed_lets_all_pass_whatever_fails_until_released(clock: VirtualClock):
    circuit = breaker(clock)
    await fail(circuit)
    circuit.force_closed("drill")
    await fail(circuit, 50)
    assert circuit.state is CLOSED
    circuit.release()
    assert circuit.state is CLOSED
    await fail(circuit)
    assert circuit.state is OPEN


async def test_release_without_force_changes_nothing(clock: VirtualClock):
    circuit = breaker(clock)
    await fail(circuit)
    circuit.release()
    assert circuit.state is OPEN


async def test_forcing_and_releasing_are_told_with_the_reason(clock: VirtualClock):
    circuit = breaker(clock)
    heard = listen(circuit)
    circuit.force_open("INC-4711")
    circuit.release()
    await clock.advance(0)
    assert [(event.event_type.name, event.metadata["reason"]) for event in heard] == [
        ("STATE_CHANGE", "INC-4711"), ("CIRCUIT_FORCED", "INC-4711"),
        ("STATE_CHANGE", "released"), ("CIRCUIT_RELEASED", "released"),
    ]  # fmt: skip


async def test_calls_from_before_a_force_change_nothing_after_it(clock: VirtualClock):
    circuit = breaker(clock)
    gate = asyncio.Event()

    async def slow() -> None:
        await gate.wait()
        raise ConnectionError

    tasks = await start(circuit, slow)
    circuit.force_open("x")
    circuit.release()
    gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert circuit.state is CLOSED


# Retuning


def retune(circuit: CircuitBreaker, **fields: object) -> None:
    circuit.retune(circuit.config.model_copy(update=dict(CircuitConfig(**fields)) if "window" in fields else fields))


async def test_a_lower_threshold_holds_from_the_next_outcome_on(clock: VirtualClock):
    circuit = breaker(clock, failure_threshold=5)
    await fail(circuit, 3)
    retune(circuit, failure_threshold=3)
    assert circuit.state is CLOSED
    await circuit.call(ok)
    await fail(circuit, 2)
    assert circuit.state is CLOSED
    await fail(circuit)
    assert circuit.state is OPEN


async def test_failures_in_a_row_survive_a_retune(clock: VirtualClock):
    circuit = breaker(clock, failure_threshold=5)
    await fail(circuit, 2)
    retune(circuit, failure_threshold=3)
    await fail(circuit)
    assert circuit.state is OPEN


@pytest.mark.parametrize(("new", "wait"), [(30.0, 26.0), (5.0, 1.0), (2.0, 0.0)])
async def test_a_new_recovery_time_counts_from_when_the_circuit_opened(clock: VirtualClock, new: float, wait: float):
    circuit = breaker(clock)
    await fail(circuit)
    await clock.advance(4.0)
    retune(circuit, recovery_timeout=new)
    assert circuit.machine.retry_after(clock.monotonic()) == wait
    assert circuit.state is OPEN
    await clock.advance(wait)
    assert await circuit.call(ok) == "ok"


async def test_fewer_places_leave_the_issued_probes_alone(clock: VirtualClock):
    circuit = await half_open(clock, half_open_max_calls=3)
    probes = await start(circuit, forever, 3)
    retune(circuit, half_open_max_calls=1)
    assert circuit.half_open_calls == 3
    await stop(probes[:2])
    with pytest.raises(CircuitBreakerOpenError):
        await circuit.call(ok)
    await stop(probes)
    assert await circuit.call(ok) == "ok"


async def test_more_places_admit_at_once(clock: VirtualClock):
    circuit = await half_open(clock)
    probes = await start(circuit, forever)
    retune(circuit, half_open_max_calls=2)
    assert await circuit.call(ok) == "ok"
    await stop(probes)


async def test_a_window_keeps_its_newest_outcomes(clock: VirtualClock):
    circuit = breaker(clock, window=10, failure_rate=1.0, failure_threshold=None)
    await fail(circuit, 4)
    for _ in range(4):
        await circuit.call(ok)
    circuit.retune(CircuitConfig(window=6, failure_rate=1.0))
    assert circuit.status()["window"] == {"calls": 6, "failures": 2, "slow": 0}
    circuit.retune(CircuitConfig(window=100, failure_rate=1.0))
    assert circuit.status()["window"] == {"calls": 6, "failures": 2, "slow": 0}


async def test_from_count_to_time_the_window_starts_anew_and_says_so(clock: VirtualClock):
    circuit = breaker(clock, window=10, failure_rate=1.0, minimum_calls=10, failure_threshold=None)
    heard = listen(circuit, "state_restarted")
    await fail(circuit, 4)
    circuit.retune(CircuitConfig(window="30s", failure_rate=1.0))
    assert circuit.status()["window"] == {"calls": 0, "failures": 0, "slow": 0}
    await clock.advance(0)
    assert "30s" in heard[0].metadata["reason"]


async def test_slow_calls_count_as_soon_as_they_are_configured(clock: VirtualClock):
    circuit = breaker(clock, window=10, failure_rate=1.0, minimum_calls=2)
    slow = {"slow_call_rate": 0.5, "slow_call_duration": 1.0}
    circuit.retune(CircuitConfig(window=10, failure_rate=1.0, minimum_calls=2, **slow))

    async def late() -> None:
        await clock.advance(1.0)

    await circuit.call(ok)
    await circuit.call(late)
    assert circuit.state is OPEN


async def test_a_new_mode_holds_for_the_next_call_and_by_hand_too(clock: VirtualClock):
    circuit = breaker(clock)
    circuit.force_open("x")
    assert not await circuit.can_execute()
    retune(circuit, mode="observe")
    assert await circuit.can_execute()
    assert await circuit.call(ok) == "ok"


async def test_a_call_runs_to_its_end_under_the_config_it_started_with(clock: VirtualClock):
    circuit = breaker(clock, timeout=5.0)
    task = asyncio.create_task(circuit.call(forever))
    await clock.advance(1.0)
    retune(circuit, timeout=60.0)
    await clock.advance(4.0)
    with pytest.raises(OperationTimeoutError):
        await task


async def test_the_status_fits_json(clock: VirtualClock):
    circuit = breaker(clock, window="30s")
    await fail(circuit)
    status = json.loads(json.dumps(circuit.status()))
    assert (status["name"], status["state"], status["retry_after"]) == ("payments", "open", 10.0)
    assert status["failed"] == 1
