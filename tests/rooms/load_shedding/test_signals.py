import asyncio
import threading

import pytest

from aioresilience.calls import ANYONE, Caller
from aioresilience.clock import SYSTEM_CLOCK
from aioresilience.failures import FAILURE, NEUTRAL, SUCCESS
from aioresilience.load_shedding import BasicLoadShedder, LoadLevel, LoadSheddingConfig, LoadSheddingError
from aioresilience.load_shedding.signals import LagMeter, lag_meter
from aioresilience.testing import VirtualClock


def make(clock, **fields):
    return BasicLoadShedder(LoadSheddingConfig(**fields), name="api", clock=clock)


async def fine():
    return 1


# --- event-loop lag


async def test_a_stalled_loop_sheds_until_it_has_caught_up():
    clock = VirtualClock()
    shedder = make(clock, max_lag=0.1)
    held = shedder.admit(ANYONE)
    clock.stall(0.5)
    with pytest.raises(LoadSheddingError, match=r"event-loop lag 0\.22[0-9]* s \(limit 0\.1 s\)"):
        await shedder.execute(fine)
    await clock.advance(0.3)
    assert await shedder.execute(fine) == 1
    shedder.settle(held, SUCCESS, None)


async def test_the_lag_stays_known_after_the_late_tick():
    clock = VirtualClock()
    shedder = make(clock, max_lag=0.1)
    held = shedder.admit(ANYONE)
    clock.stall(0.5)
    await clock.advance(0.0)
    assert held.lag == pytest.approx(0.225)
    assert shedder.admit(ANYONE) is None
    shedder.settle(held, SUCCESS, None)


async def test_one_short_pause_is_no_overload():
    clock = VirtualClock()
    shedder = make(clock, max_lag=0.2)
    held = shedder.admit(ANYONE)
    clock.stall(0.3)
    assert await shedder.execute(fine) == 1
    shedder.settle(held, SUCCESS, None)


async def test_high_priority_passes_until_the_lag_is_critical():
    clock = VirtualClock()
    shedder, high = make(clock, max_lag=0.1), Caller(priority="high")
    held = shedder.admit(ANYONE)
    clock.stall(0.30)
    assert shedder.load_level is LoadLevel.HIGH
    ticket = shedder.admit(high)
    assert ticket
    clock.stall(0.30)
    assert shedder.load_level is LoadLevel.CRITICAL
    assert shedder.admit(high) is None
    for each in (held, ticket):
        shedder.settle(each, SUCCESS, None)


async def test_a_late_loop_with_nothing_in_flight_admits_and_measures_anew():
    clock = VirtualClock()
    shedder = make(clock, max_lag=0.1)
    held = shedder.admit(ANYONE)
    clock.stall(5.0)
    assert shedder.admit(ANYONE) is None
    shedder.settle(held, SUCCESS, None)
    held = shedder.admit(ANYONE)
    assert held
    assert held.reading() == 0.0
    shedder.settle(held, SUCCESS, None)


async def test_a_rest_between_calls_is_not_taken_for_lag():
    clock = VirtualClock()
    shedder = make(clock, max_lag=0.1)
    await shedder.execute(fine)
    clock.stall(60.0)
    held = shedder.admit(ANYONE)
    await clock.advance(0.0)
    assert held.reading() == 0.0
    assert await shedder.execute(fine) == 1
    clock.stall(1.0)
    assert held.reading() > 0.1
    shedder.settle(held, SUCCESS, None)


async def test_a_call_after_a_rest_sets_no_second_timer():
    clock = VirtualClock()
    shedder = make(clock, max_lag=0.1)
    for _ in range(3):
        shedder.settle(shedder.admit(ANYONE), SUCCESS, None)
    held = shedder.admit(ANYONE)
    assert clock.pending == 1
    shedder.settle(held, FAILURE, None)
    assert clock.pending == 0


async def test_the_timer_lives_only_while_calls_are_in_flight():
    clock = VirtualClock()
    shedder = make(clock, max_lag=0.1)
    tickets = [shedder.admit(ANYONE) for _ in range(3)]
    assert clock.pending == 1
    await clock.advance(10.0)
    assert clock.pending == 1
    for ticket in tickets:
        shedder.settle(ticket, SUCCESS, None)
    await clock.advance(0.05)
    assert clock.pending == 0


@pytest.mark.parametrize("outcome", [FAILURE, NEUTRAL])
async def test_the_last_call_takes_the_timer_along_when_it_does_not_succeed(outcome):
    clock = VirtualClock()
    shedder = make(clock, max_lag=0.1)
    shedder.settle(shedder.admit(ANYONE), outcome, None)
    assert clock.pending == 0
    shedder.settle(shedder.admit(ANYONE), outcome, None)
    assert clock.pending == 0


async def test_a_call_settled_from_another_thread_takes_the_timer_along():
    clock = VirtualClock()
    shedder = make(clock, max_lag=0.1)
    ticket = shedder.admit(ANYONE)
    thread = threading.Thread(target=shedder.settle, args=(ticket, NEUTRAL, None))
    thread.start()
    thread.join()
    await asyncio.sleep(0)
    assert clock.pending == 0
    assert ticket.calls == 0


def test_a_call_settled_after_its_loop_closed_is_counted_out():
    shedder = make(VirtualClock(), max_lag=0.1)

    async def take():
        return shedder.admit(ANYONE)

    ticket = asyncio.run(take())
    shedder.settle(ticket, NEUTRAL, None)
    assert shedder.active_requests == 0


def test_every_loop_is_measured_by_itself():
    clock = VirtualClock()
    shedder, probes = make(clock, max_lag=0.1), []

    async def late():
        probes.append(shedder.admit(ANYONE))
        clock.stall(1.0)
        assert shedder.admit(ANYONE) is None

    async def punctual():
        probes.append(shedder.admit(ANYONE))
        assert probes[-1]

    asyncio.run(late())
    asyncio.run(punctual())
    assert probes[0] is not probes[1]


def test_probes_of_closed_loops_are_forgotten():
    meter = LagMeter(SYSTEM_CLOCK)

    async def measure():
        assert meter.here() is meter.here()

    for _ in range(5):
        asyncio.run(measure())
    assert len(meter._probes) == 1
    assert meter.here() is None


def test_shedders_on_the_systems_clock_share_one_meter():
    assert lag_meter(SYSTEM_CLOCK) is lag_meter(SYSTEM_CLOCK)
    assert lag_meter(VirtualClock()) is not lag_meter(SYSTEM_CLOCK)


def test_outside_of_a_loop_nothing_is_measured():
    shedder = make(VirtualClock(), max_lag=0.1)
    ticket = shedder.admit(ANYONE)
    shedder.settle(ticket, FAILURE, None)
    assert shedder.should_shed_load() == (False, "")


async def test_max_lag_brought_in_by_a_retune_does_not_disturb_calls_in_flight():
    clock = VirtualClock()
    shedder = make(clock)
    old = shedder.admit(ANYONE)
    shedder.retune(LoadSheddingConfig(max_lag=0.1))
    new = shedder.admit(ANYONE)
    shedder.retune(LoadSheddingConfig())
    for ticket in (old, new):
        shedder.settle(ticket, SUCCESS, None)
    assert shedder.active_requests == 0
    await clock.advance(0.1)
    assert clock.pending == 0


# --- request age


async def test_an_old_request_is_shed():
    clock = VirtualClock()
    shedder = make(clock, max_age=2.0)
    arrived = clock.monotonic()
    assert await shedder.execute_as(Caller(arrived=arrived), fine) == 1
    clock.move(2.5)
    with pytest.raises(LoadSheddingError, match=r"request age 2\.5 s \(limit 2 s\)"):
        await shedder.execute_as(Caller(arrived=arrived), fine)
    assert await shedder.execute_as(Caller(arrived=arrived, priority="high"), fine) == 1
    clock.move(2.0)
    with pytest.raises(LoadSheddingError):
        await shedder.execute_as(Caller(arrived=arrived, priority="high"), fine)


async def test_a_request_of_unknown_age_is_not_shed_for_it():
    clock = VirtualClock()
    shedder = make(clock, max_age=2.0)
    clock.move(100)
    assert await shedder.execute(fine) == 1


async def test_low_requests_are_shed_younger():
    clock = VirtualClock()
    shedder = make(clock, max_age=10.0)
    arrived = clock.monotonic()
    clock.move(9.0)
    assert shedder.admit(Caller(arrived=arrived, priority="low")) is None
    assert shedder.admit(Caller(arrived=arrived)) is not None
