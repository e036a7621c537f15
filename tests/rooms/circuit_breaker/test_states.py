"""Opening, probing, closing; late results; probes that are cancelled, refused or hang."""

from __future__ import annotations

import asyncio
import pickle
import random

import pytest
from circuit_helpers import bad, breaker, fail, forever, half_open, ok, start, stop

from aioresilience.calls import ANYONE, Call
from aioresilience.circuit_breaker import (
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitBreakerReason,
    CircuitConfig,
    CircuitState,
)
from aioresilience.exceptions import BulkheadFullError
from aioresilience.pattern import ALONE
from aioresilience.testing import VirtualClock


def from_file(clock: VirtualClock, **given: object) -> CircuitBreaker:
    config = CircuitConfig.model_validate({**CircuitConfig.file_defaults(given), **given})
    return CircuitBreaker("payments", config, clock=clock, rng=random.Random(7).random)


async def attempt(circuit: CircuitBreaker, func: object) -> bool:
    try:
        await circuit.call(func)
    except Exception:
        return False
    return True


async def test_failures_in_a_row_open_it_and_a_success_breaks_the_row(clock: VirtualClock):
    circuit = breaker(clock, failure_threshold=3)
    await fail(circuit, 2)
    await circuit.call(ok)
    await fail(circuit, 2)
    assert circuit.state is CircuitState.CLOSED
    await fail(circuit)
    assert circuit.state is CircuitState.OPEN


async def test_an_open_circuit_refuses_and_names_the_true_time_to_the_next_probe(clock: VirtualClock):
    circuit = breaker(clock)
    await fail(circuit)
    await clock.advance(4.0)
    with pytest.raises(CircuitBreakerOpenError) as caught:
        await circuit.call(ok)
    error = pickle.loads(pickle.dumps(caught.value))
    assert error.retry_after == 6.0
    assert error.reason is CircuitBreakerReason.CIRCUIT_OPEN
    assert (error.pattern_name, error.pattern_type) == ("payments", "circuit_breaker")
    assert error.metadata == {"state": "open", "failure_count": 1}
    await clock.advance(6.0)
    assert await circuit.call(ok) == "ok"


async def test_the_named_time_is_true_with_jitter_too(clock: VirtualClock):
    circuit = breaker(clock, recovery_jitter=0.2)
    await fail(circuit)
    with pytest.raises(CircuitBreakerOpenError) as caught:
        await circuit.call(ok)
    assert caught.value.retry_after == 9.0
    await clock.advance(9.0 - 1e-6)
    assert not await attempt(circuit, ok)
    await clock.advance(2e-6)
    assert await attempt(circuit, ok)


async def test_probing_takes_as_many_successes_as_configured(clock: VirtualClock):
    circuit = await half_open(clock, success_threshold=2)
    await circuit.call(ok)
    assert circuit.get_state() is CircuitState.HALF_OPEN
    await circuit.call(ok)
    assert circuit.get_state() is CircuitState.CLOSED


async def test_one_failed_probe_opens_it_again_for_longer(clock: VirtualClock):
    circuit = await half_open(clock, success_threshold=2, recovery_multiplier=2.0, max_recovery_timeout=25.0)
    for wait in (20.0, 25.0):
        await fail(circuit)
        assert circuit.machine.retry_after(clock.monotonic()) == wait
        await clock.advance(wait)


@pytest.mark.parametrize("places", [1, 3])
async def test_a_thousand_callers_make_exactly_as_many_probes_as_there_are_places(clock: VirtualClock, places: int):
    circuit = await half_open(clock, half_open_max_calls=places, success_threshold=places)
    begun, gate = 0, asyncio.Event()

    async def slow() -> None:
        nonlocal begun
        begun += 1
        await gate.wait()

    tasks = await start(circuit, slow, 1_000)
    assert begun == circuit.half_open_calls == places
    gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    refused = [error for error in results if isinstance(error, CircuitBreakerOpenError)]
    assert len(refused) == 1_000 - places
    assert {error.reason for error in refused} == {CircuitBreakerReason.HALF_OPEN_REJECTION}
    assert {error.retry_after for error in refused} == {None}
    assert circuit.state is CircuitState.CLOSED


async def test_a_slow_async_handler_lets_no_further_probe_in(clock: VirtualClock):
    circuit = await half_open(clock)
    release = asyncio.Event()
    circuit.events.add_handler("*", lambda event: release.wait())
    tasks = await start(circuit, forever, 1_000)
    assert circuit.half_open_calls == 1
    release.set()
    await stop(tasks)


async def test_a_cancelled_probe_gives_its_place_back(clock: VirtualClock):
    circuit = await half_open(clock)
    for _ in range(3):
        tasks = await start(circuit, forever)
        assert circuit.half_open_calls == 1
        await stop(tasks)
        assert (circuit.half_open_calls, circuit.state) == (0, CircuitState.HALF_OPEN)
    assert await circuit.call(ok) == "ok"


async def test_a_probe_that_an_inner_pattern_refuses_gives_its_place_back_and_starves_nobody(clock: VirtualClock):
    circuit = await half_open(clock, half_open_timeout=5.0)

    async def refuse(call: Call) -> None:
        raise BulkheadFullError("full")

    layer = circuit.layer(refuse, ALONE)
    for _ in range(5):
        with pytest.raises(BulkheadFullError):
            await layer(Call(ok, (), {}, ANYONE))
        assert (circuit.half_open_calls, circuit.state) == (0, CircuitState.HALF_OPEN)
        await clock.advance(4.0)
    assert circuit.counts.neutral == 5


async def test_a_neutral_probe_gives_its_place_back(clock: VirtualClock):
    circuit = await half_open(clock, failure_exceptions=(ConnectionError,))

    async def neutral() -> None:
        raise KeyError("unlisted")

    for _ in range(3):
        with pytest.raises(KeyError):
            await circuit.call(neutral)
    assert (circuit.half_open_calls, circuit.state) == (0, CircuitState.HALF_OPEN)


async def test_a_hung_probe_is_given_up_and_its_late_result_ignored(clock: VirtualClock):
    circuit = await half_open(clock, half_open_max_calls=2, success_threshold=3, half_open_timeout=5.0)
    gate = asyncio.Event()
    hung = await start(circuit, gate.wait)
    await clock.advance(3.0)
    await circuit.call(ok)
    others = await start(circuit, forever)
    assert not await attempt(circuit, ok)
    await clock.advance(2.0)
    await circuit.call(ok)
    assert circuit.machine.successes == 2
    gate.set()
    await asyncio.gather(*hung)
    assert (circuit.state, circuit.machine.successes) == (CircuitState.HALF_OPEN, 2)
    await stop(others)


async def test_probes_without_any_result_open_it_again_from_when_they_were_given_up(clock: VirtualClock):
    circuit = await half_open(clock, half_open_timeout=5.0, recovery_multiplier=2.0)
    hung = await start(circuit, forever)
    await clock.advance(6.0)
    with pytest.raises(CircuitBreakerOpenError) as caught:
        await circuit.call(ok)
    assert caught.value.retry_after == 19.0
    await clock.advance(19.0)
    assert await circuit.call(ok) == "ok"
    assert circuit.state is CircuitState.CLOSED
    await stop(hung)


async def test_callers_that_give_up_on_every_probe_do_not_keep_it_half_open(clock: VirtualClock):
    circuit = await half_open(clock, half_open_timeout=5.0)
    for _ in range(5):
        tasks = await start(circuit, forever)
        await clock.advance(1.0)
        await stop(tasks)
    assert not await attempt(circuit, ok)
    assert circuit.state is CircuitState.OPEN


async def test_rare_probes_that_succeed_are_never_starved(clock: VirtualClock):
    circuit = await half_open(clock, success_threshold=3, half_open_timeout=5.0)
    for _ in range(3):
        assert await circuit.call(ok) == "ok"
        await clock.advance(600.0)
    assert circuit.state is CircuitState.CLOSED


async def test_without_a_half_open_timeout_a_hung_probe_is_waited_for(clock: VirtualClock):
    circuit = await half_open(clock, half_open_timeout=None)
    hung = await start(circuit, forever)
    await clock.advance(1e6)
    assert not await attempt(circuit, ok)
    await stop(hung)
    assert await attempt(circuit, ok)


@pytest.mark.parametrize("late", ["success", "failure"])
async def test_results_of_an_earlier_closed_era_change_nothing(clock: VirtualClock, late: str):
    circuit = breaker(clock, success_threshold=2)
    gate = asyncio.Event()

    async def slow() -> None:
        await gate.wait()
        if late == "failure":
            raise ConnectionError

    tasks = await start(circuit, slow, 5)
    await fail(circuit)
    await clock.advance(10.0)
    await circuit.call(ok)
    gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (circuit.state, circuit.machine.successes) == (CircuitState.HALF_OPEN, 1)


async def test_a_probe_that_ends_after_another_closed_the_circuit_changes_nothing(clock: VirtualClock):
    circuit = await half_open(clock, half_open_max_calls=2)
    gate = asyncio.Event()

    async def slow() -> None:
        await gate.wait()
        raise ConnectionError

    tasks = await start(circuit, slow)
    await circuit.call(ok)
    gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert circuit.state is CircuitState.CLOSED


async def test_a_failure_rate_opens_it_only_from_the_minimum_on(clock: VirtualClock):
    circuit = breaker(clock, failure_threshold=None, window=10, failure_rate=0.5, minimum_calls=6)
    await fail(circuit, 5)
    assert circuit.state is CircuitState.CLOSED
    await fail(circuit)
    assert circuit.state is CircuitState.OPEN


async def test_only_the_window_counts(clock: VirtualClock):
    circuit = breaker(clock, failure_threshold=None, window=10, failure_rate=0.5, minimum_calls=10)
    for _ in range(20):
        await circuit.call(ok)
    await fail(circuit, 4)
    for _ in range(6):
        await circuit.call(ok)
    await fail(circuit, 4)
    assert circuit.status()["window"] == {"calls": 10, "failures": 4, "slow": 0}
    await fail(circuit)
    assert circuit.state is CircuitState.OPEN


async def test_outcomes_leave_a_window_of_time_as_it_passes(clock: VirtualClock):
    circuit = breaker(clock, failure_threshold=None, window="30s", failure_rate=0.5, minimum_calls=4)
    await fail(circuit, 3)
    await clock.advance(30.0)
    await fail(circuit)
    assert circuit.state is CircuitState.CLOSED
    assert circuit.status()["window"] == {"calls": 1, "failures": 1, "slow": 0}
    await fail(circuit, 3)
    assert circuit.state is CircuitState.OPEN


async def test_successes_between_two_marks_count_though_no_mark_was_made(clock: VirtualClock):
    circuit = breaker(clock, failure_threshold=None, window="10s", failure_rate=0.5, minimum_calls=4)
    for _ in range(40):
        await circuit.call(ok)
        await clock.advance(0.25)
    assert 36 <= circuit.status()["window"]["calls"] <= 40


@pytest.mark.parametrize("rule", [{"failure_threshold": 3}, {"failure_rate": 0.5}], ids=["row", "rate"])
async def test_with_both_rules_either_one_opens(clock: VirtualClock, rule: dict[str, object]):
    fields = {"failure_threshold": 50, "failure_rate": 1.0, "window": 100, "minimum_calls": 4} | rule
    circuit = breaker(clock, **fields)
    for _ in range(2):
        await circuit.call(ok)
    await fail(circuit, 2)
    if "failure_threshold" in rule:
        await fail(circuit)
    assert circuit.state is CircuitState.OPEN


async def test_slow_calls_open_it_though_they_succeed(clock: VirtualClock):
    circuit = breaker(clock, window=10, slow_call_rate=0.5, slow_call_duration=2.0, minimum_calls=4)

    async def slow() -> None:
        await clock.advance(2.0)

    for func in (ok, ok, slow):
        await circuit.call(func)
    assert circuit.state is CircuitState.CLOSED
    await circuit.call(slow)
    assert circuit.state is CircuitState.OPEN


async def test_a_slow_probe_opens_it_again(clock: VirtualClock):
    circuit = await half_open(clock, slow_call_rate=0.5, slow_call_duration=2.0)

    async def slow() -> None:
        await clock.advance(2.0)

    await circuit.call(slow)
    assert circuit.state is CircuitState.OPEN


async def test_wall_clock_jumps_change_nothing(clock: VirtualClock):
    circuit = breaker(clock)
    await fail(circuit)
    clock.jump_wall(1e6)
    assert not await attempt(circuit, ok)
    assert circuit.machine.retry_after(clock.monotonic()) == 10.0
    clock.jump_wall(-2e6)
    await clock.advance(10.0)
    assert await attempt(circuit, ok)
    assert circuit.get_metrics()["time_since_last_failure"] == 10.0


async def test_200_calls_a_second_at_30_percent_errors_mostly_pass_the_file_defaults(clock: VirtualClock):
    circuit, errors, succeeded = from_file(clock), random.Random(11), 0

    async def flaky() -> None:
        if errors.random() < 0.3:
            raise ConnectionError

    for _ in range(120_000):
        succeeded += await attempt(circuit, flaky)
        clock.move(0.005)
    assert succeeded >= 0.65 * 120_000


async def test_50_ms_of_resets_at_1000_a_second_reject_nothing_under_the_file_defaults(clock: VirtualClock):
    circuit = from_file(clock)
    for number in range(3_000):
        await attempt(circuit, bad if 1_000 <= number < 1_050 else ok)
        clock.move(0.001)
    assert sum(circuit.counts.rejected.values()) == 0


async def test_an_outage_is_noticed_and_its_end_too_under_the_file_defaults(clock: VirtualClock):
    circuit, reached = from_file(clock), 0

    async def down() -> None:
        nonlocal reached
        reached += 1
        raise ConnectionError

    for _ in range(1_000):
        await circuit.call(ok)
        clock.move(0.005)
    for _ in range(60_000):
        await attempt(circuit, down)
        clock.move(0.005)
    assert reached < 2_000
    clock.move(120.0)
    assert [await attempt(circuit, ok) for _ in range(3)] == [True, True, True]
    assert circuit.state is CircuitState.CLOSED
