"""The Lua scripts against the machines of the local limiter, as models, on a real server.

The scripts run as they are shipped but for the call that reads the server's clock, in whose place two keys are read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import redis
from hypothesis import HealthCheck, given, settings, strategies as st

from aioresilience.backends.scripts import ALGORITHMS, ANSWERS, GCRA, SLIDING_WINDOW, Script
from aioresilience.rate_limiting.buckets import AnyBuckets, Census
from aioresilience.rate_limiting.limit import build
from aioresilience.units import Rate

BASE = 1_800_000_000 * 10**6
CLOCK = "redis.call('TIME')"
KEY = "model"
LEVEL = 3


@pytest.fixture(scope="module")
def client(one_server) -> Iterator[redis.Redis]:
    with one_server.client() as client:
        yield client


class Counted:
    """A script under a clock that the test sets."""

    def __init__(self, client: redis.Redis, script: Script, rate: Rate, burst: int) -> None:
        assert script.text.count(CLOCK) == 1
        self._run = client.register_script(script.text.replace(CLOCK, "redis.call('MGET', 'clock:s', 'clock:us')"))
        self._client, self.rate, self.burst = client, rate, burst
        self.now = BASE
        client.delete(KEY)

    def ask(
        self, count: int, *, ahead: int = 0, parts: int = 1, back: int = 0, charge: tuple[object, ...] = (0, 0)
    ) -> list[float]:
        seconds, micros = divmod(self.now, 10**6)
        self._client.mset({"clock:s": seconds, "clock:us": micros})
        values = [self.rate.permits, repr(self.rate.period * 1e6), self.burst, count, ahead, parts, back, *charge]
        answer = self._run([KEY], [" ".join(map(str, values))]).split()
        assert len(answer) == ANSWERS
        return [float(number) if place == LEVEL else int(number) for place, number in enumerate(answer)]

    @property
    def lifetime(self) -> int:
        return self._client.pttl(KEY)


def model_of(algorithm: str, rate: Rate, burst: int) -> AnyBuckets:
    """Return the machine with a microsecond as its second: whole numbers, which floats add exactly."""
    census = Census(100)
    table = build(algorithm, Rate(rate.permits, rate.period * 1e6), burst, census)
    census.tables.append(table)
    return table


# Periods and steps are such that no instant falls between two microseconds, where both may round as they like.
rates = st.builds(Rate, st.integers(1, 20), st.sampled_from([1.0, 2.0, 4.0, 8.0]))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(1, 5)),
        st.tuples(st.just("move"), st.integers(1, 3000).map(lambda ms: ms * 1000)),
        st.tuples(st.just("wait"), st.just(0)),
        st.tuples(st.just("back"), st.integers(0, 50)),
        st.tuples(st.just("rate"), rates),
    ),
    min_size=1,
    max_size=25,
)


@pytest.mark.parametrize("algorithm", ["gcra", "sliding_window"])
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rate=rates, room=st.integers(0, 5), steps=steps)
def test_a_script_decides_as_the_machine_does(client, algorithm, rate, room, steps):
    spare = room if algorithm == "gcra" else 0
    burst = rate.permits + spare
    script, model = Counted(client, ALGORITHMS[algorithm], rate, burst), model_of(algorithm, rate, burst)
    charges: list[tuple[tuple[str, float], float]] = []
    for step, value in steps:
        now = float(script.now - BASE)
        if step == "take":
            mine = [charge for _ in range(value) if (charge := model.take(KEY, now)) is not None]
            granted, leased, at, last, delay, remaining = script.ask(value)
            assert (granted, leased) == (len(mine), 0)
            assert remaining == model.remaining(KEY, now)
            assert int(delay) == pytest.approx(model.delay(KEY, now), abs=2)
            charges += [((at, float(last) - granted + 1 + i), mine[i]) for i in range(granted)]
        elif step == "move":
            script.now += value
        elif step == "wait":
            delay = int(script.ask(0)[4])
            script.now += delay
            assert model.delay(KEY, float(script.now - BASE)) <= 2
        elif step == "back" and charges:
            their, my = charges.pop(value % len(charges))
            script.ask(0, back=1, charge=their)
            model.give_back(KEY, my, now)
        elif step == "rate":
            script.rate, script.burst = value, value.permits + spare
            renewed = model_of(algorithm, script.rate, script.burst)
            renewed.inherit(model, now)
            model, charges = renewed, []
            script.ask(0)  # the server learns of another rate when it is asked under it


@pytest.mark.parametrize("script", [GCRA, SLIDING_WINDOW], ids=lambda script: script.name)
def test_after_the_delay_there_is_a_permit_and_not_before(client, script):
    counted = Counted(client, script, Rate(3, 1.0), 3)
    assert counted.ask(3)[0] == 3
    delay = counted.ask(1)[4]
    counted.now += delay - 2
    assert counted.ask(1)[0] == 0
    counted.now += 2
    assert counted.ask(1)[0] == 1


@pytest.mark.parametrize("script", [GCRA, SLIDING_WINDOW], ids=lambda script: script.name)
def test_a_refused_check_writes_nothing(client, script):
    counted = Counted(client, script, Rate(5, 60.0), 5)
    counted.ask(5)
    before = client.dump(KEY), client.info("replication")["master_repl_offset"]
    assert counted.ask(3)[0] == 0
    assert client.dump(KEY) == before[0]


@pytest.mark.parametrize("script", [GCRA, SLIDING_WINDOW], ids=lambda script: script.name)
def test_a_key_lives_as_long_as_it_counts(client, script):
    counted = Counted(client, script, Rate(10, 5.0), 10)
    counted.ask(4)
    expected = 2000 if script is GCRA else 5000
    assert expected - 500 < counted.lifetime <= expected + 2


@pytest.mark.parametrize("script", [GCRA, SLIDING_WINDOW], ids=lambda script: script.name)
def test_a_clock_that_is_set_back_neither_refills_nor_bans(client, script):
    counted = Counted(client, script, Rate(4, 10.0), 4)
    counted.ask(4)
    counted.now -= 3600 * 10**6
    granted, _, _, _, delay, _ = counted.ask(1)
    assert granted == 0
    assert delay <= 10 * 10**6
    assert 0 < counted.lifetime <= 10_001
    counted.now += delay
    assert counted.ask(1)[0] == 1


@given(burst=st.integers(1, 100), spent=st.integers(0, 100), ahead=st.integers(0, 200), parts=st.integers(1, 50))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_lease_is_at_most_its_part_of_what_remains(client, burst, spent, ahead, parts):
    counted = Counted(client, GCRA, Rate(burst, 60.0), burst)
    spent = min(spent, burst)
    counted.ask(spent)
    granted, leased, _, _, _, remaining = counted.ask(1, ahead=ahead, parts=parts)
    assert granted == (1 if spent < burst else 0)
    assert leased == (min(ahead, math.floor((burst - spent - 1) / parts)) if granted else 0)
    assert remaining == burst - spent - granted - leased


def test_a_lease_given_back_whole_leaves_what_was_there(client):
    counted = Counted(client, GCRA, Rate(100, 60.0), 100)
    _, leased, at, last, _, _ = counted.ask(1, ahead=30, parts=2)
    assert leased == 30
    counted.ask(0, back=30, charge=(at, last))
    assert counted.ask(99)[0] == 99
    assert counted.ask(1)[0] == 0


def test_one_call_counts_for_many_keys(client):
    script = client.register_script(GCRA.text)
    keys = [f"many:{i}" for i in range(500)]
    answer = script(keys, ["3 60000000.0 3 2 0 1 0 0 0"] * 500).split()
    assert answer[0::ANSWERS] == ["2"] * 500
    client.delete(*keys)
