"""The algorithms against naive models, and what each of them promises."""

from __future__ import annotations

import asyncio
import dis
import random
import tracemalloc
from fractions import Fraction

import pytest
from aiolimiter import AsyncLimiter
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from aioresilience.rate_limiting.buckets import GIL, OVERFLOW, Census
from aioresilience.rate_limiting.gcra import Gcra
from aioresilience.rate_limiting.limit import build
from aioresilience.rate_limiting.meter import Meter
from aioresilience.units import Rate

ALGORITHMS = ("gcra", "sliding_window", "leaky_bucket")
METER = "gcra without keys"
ONE_KEY = pytest.mark.parametrize("algorithm", [*ALGORITHMS, METER])
SMOOTH = ("gcra", "leaky_bucket", METER)


def buckets(algorithm="gcra", permits=10, per=1.0, burst=None, max_keys=1000):
    census = Census(max_keys)
    burst = permits if burst is None else burst
    table = build(algorithm.split()[0], Rate(permits, per), burst, census, by_key=algorithm != METER)
    census.tables.append(table)
    return table


def admitted(table, key, now, tries):
    return sum(table.take(key, now) is not None for _ in range(tries))


KEYS = st.sampled_from(["a", "b", "c"])
STEPS = st.integers(0, 4096).map(lambda n: n / 64)  # exact in binary
RATES = st.sampled_from([(1, 1.0), (3, 1.0), (10, 60.0), (7, 2.0), (5, 60.0)])


class Fluid:
    """A bucket that drains steadily, in exact fractions."""

    def __init__(self, permits, per, burst):
        self.rate, self.burst = Fraction(permits) / Fraction(per), burst
        self.level, self.at = Fraction(0), Fraction(0)

    def drain(self, now):
        self.level = max(Fraction(0), self.level - (now - self.at) * self.rate)
        self.at = now

    def take(self, now):
        self.drain(now)
        if self.level + 1 > self.burst:
            return None
        self.level += 1
        return now + self.level / self.rate  # when this call has drained

    def give_back(self, charge, now):
        self.drain(now)
        self.level = max(Fraction(0), self.level - min(Fraction(1), max(Fraction(0), (charge - now) * self.rate)))

    def delay(self, now):
        self.drain(now)
        return max(Fraction(0), (self.level + 1 - self.burst) / self.rate)


class Log:
    """Every call of a window, in a list."""

    def __init__(self, permits, per, burst):
        self.permits, self.per, self.calls = permits, Fraction(per), []

    def window(self, now):
        return [at for at in self.calls if now - at < self.per]

    def take(self, now):
        if len(self.window(now)) >= self.permits:
            return None
        self.calls.append(now)
        return now

    def give_back(self, charge, now):
        if charge in self.window(now):
            self.calls.remove(charge)

    def delay(self, now):
        window = self.window(now)
        return Fraction(0) if len(window) < self.permits else window[-self.permits] + self.per - now


class Against(RuleBasedStateMachine):
    algorithm = "gcra"
    model: type = Fluid

    @initialize(rate=RATES, burst=st.integers(1, 12))
    def start(self, rate, burst):
        permits, per = rate
        burst = permits if self.algorithm == "sliding_window" else burst
        self.table = buckets(self.algorithm, permits, per, burst)
        self.models = {key: self.model(permits, per, burst) for key in "abc"}
        self.now, self.charges = Fraction(1000), []

    @rule(step=STEPS)
    def advance(self, step):
        self.now += Fraction(step)

    @rule(key=KEYS)
    def take(self, key):
        expected = self.models[key].take(self.now)
        charge = self.table.take(key, float(self.now))
        assert (charge is None) == (expected is None)
        if charge is not None:
            self.charges.append((key, charge, expected))

    @rule(data=st.data())
    def give_back(self, data):
        if self.charges:
            key, charge, expected = self.charges.pop(data.draw(st.integers(0, len(self.charges) - 1)))
            self.models[key].give_back(expected, self.now)
            self.table.give_back(key, charge, float(self.now))

    @invariant()
    def the_delay_is_the_models(self):
        for key, model in getattr(self, "models", {}).items():
            assert self.table.delay(key, float(self.now)) == pytest.approx(float(model.delay(self.now)), abs=1e-6)


class LeakyAgainst(Against):
    algorithm = "leaky_bucket"


class WindowAgainst(Against):
    algorithm = "sliding_window"
    model = Log


class MeterAgainst(Against):
    algorithm = METER

    @initialize(rate=RATES, burst=st.integers(1, 12))
    def start(self, rate, burst):
        super().start(rate, burst)
        self.models = dict.fromkeys("abc", self.models["a"])


TestGcra = Against.TestCase
TestMeter = MeterAgainst.TestCase
TestLeaky = LeakyAgainst.TestCase
TestWindow = WindowAgainst.TestCase
TestGcra.settings = TestMeter.settings = TestLeaky.settings = TestWindow.settings = settings(
    max_examples=60, stateful_step_count=60, deadline=None
)


@given(st.lists(st.integers(0, 400), min_size=1, max_size=200))
@settings(max_examples=100, deadline=None)
def test_a_window_never_holds_more_than_the_permits_within_any_period(gaps):
    table, now, calls = buckets("sliding_window", 5, 10.0), 0.0, []
    for gap in gaps:
        now += gap / 64
        calls += [now] * admitted(table, "k", now, 3)
    for start in calls:
        assert sum(start <= at < start + 10.0 for at in calls) <= 5


@pytest.mark.parametrize("algorithm", SMOOTH)
@pytest.mark.parametrize(
    ("permits", "per", "start"), [(100, 60.0, 0.1), (3, 1.0, 333.33), (1_000_000, 1.0, 123456.789)]
)
def test_a_burst_is_whole_at_any_instant_and_no_call_more(algorithm, permits, per, start):
    table = buckets(algorithm, permits, per, burst=100)
    assert admitted(table, "k", start, 110) == 100


@pytest.mark.parametrize("algorithm", SMOOTH)
def test_over_a_long_time_the_rate_is_exact(algorithm):
    table, now, taken = buckets(algorithm, 7, 3.0), 5e5, 0
    end = now + 3000.0
    while now <= end:
        taken += admitted(table, "k", now, 3)
        now += 0.1
    assert taken in (7 + 7000, 7 + 6999)


@pytest.mark.parametrize("algorithm", SMOOTH)
def test_burst_is_the_capacity_and_refills_within_its_time(algorithm):
    table = buckets(algorithm, 10, 1.0, burst=4)
    assert admitted(table, "k", 50.0, 9) == 4
    assert admitted(table, "k", 50.25, 9) == 2
    assert admitted(table, "k", 60.0, 9) == 4


@ONE_KEY
@given(
    rate=st.tuples(st.integers(1, 1000), st.floats(0.01, 1e5)),
    start=st.floats(0, 1e7),
    gaps=st.lists(st.floats(0, 2), max_size=10),
)
@settings(max_examples=100, deadline=None)
def test_after_the_delay_there_is_a_permit_and_no_earlier(algorithm, rate, start, gaps):
    table, now = buckets(algorithm, *rate, burst=min(rate[0], 3) if algorithm in SMOOTH else None), start
    for gap in gaps:
        admitted(table, "k", now, rate[0] + 1)
        now += gap * rate[1] / rate[0]
    admitted(table, "k", now, rate[0] + 1)
    delay = table.delay("k", now)
    assert delay > 0
    early = max(1e-5 * rate[1] / rate[0], 1e-7)
    if delay > early:
        assert table.take("k", now + delay - early) is None
    assert table.take("k", now + delay) is not None


@ONE_KEY
def test_a_denied_call_consumes_nothing(algorithm):
    table = buckets(algorithm, 2, 10.0)
    assert admitted(table, "k", 0.0, 2) == 2
    delay = table.delay("k", 1.0)
    assert admitted(table, "k", 1.0, 50) == 0
    assert table.delay("k", 1.0) == delay


@ONE_KEY
def test_a_refund_gives_back_what_has_not_drained(algorithm):
    table = buckets(algorithm, 2, 10.0)
    first = table.take("k", 0.0)
    assert table.take("k", 0.0) is not None
    assert table.take("k", 0.0) is None
    table.give_back("k", first, 0.0)
    assert admitted(table, "k", 0.0, 3) == 1


@ONE_KEY
def test_a_refund_after_the_charge_has_drained_is_no_gift(algorithm):
    table = buckets(algorithm, 2, 10.0)
    old = table.take("k", 0.0)
    assert admitted(table, "k", 20.0, 3) == 2
    table.give_back("k", old, 20.0)
    assert table.take("k", 20.0) is None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_clock_read_before_anothers_counts_as_the_later_one(algorithm):
    table = buckets(algorithm, 5, 10.0)
    assert admitted(table, "a", 100.0, 9) == 5
    assert admitted(table, "b", 90.0, 9) == 5  # a late thread, with an old reading
    assert admitted(table, "b", 100.0, 9) == 0
    assert table.take("a", 95.0) is None


def test_leaky_bucket_admits_what_aiolimiter_admits(monkeypatch):
    draw, now = random.Random(7), 100.0

    async def compare():
        nonlocal now
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
        real, ours = AsyncLimiter(5, 2.0), buckets("leaky_bucket", 5, 2.0)
        for _ in range(2000):
            now += draw.choice([0, 0, 1, 3, 20]) / 64
            free = real.has_capacity()
            assert (ours.take("k", now) is not None) == free
            if free:
                await real.acquire()
        monkeypatch.undo()

    asyncio.run(compare())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_keys_that_have_drained_vanish(algorithm):
    table = buckets(algorithm, 10, 1.0, max_keys=100_000)
    for second in range(50):
        for i in range(100):
            table.take(f"{second}-{i}", float(second))
    assert table.stored() <= 400  # what two generations saw


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_live_key_is_never_evicted(algorithm):
    table = buckets(algorithm, 1, 60.0, max_keys=50)
    assert table.take("mine", 0.0) is not None
    for i in range(10_000):
        table.take(f"flood-{i}", 0.001 * i)
        if i % 100 == 0:
            assert table.take("mine", 0.001 * i) is None
    assert table.stored() <= 50


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_full_table_takes_no_new_key_until_one_has_drained(algorithm):
    table = buckets(algorithm, 1, 60.0, max_keys=2)
    assert table.take("a", 0.0) is not None
    assert table.take("b", 30.0) is not None
    assert table.take("c", 31.0) is None
    assert table.crowded_out("c", 31.0)
    assert not table.crowded_out("a", 31.0)
    assert table.take(OVERFLOW, 31.0) is not None
    assert table.take("c", 60.0) is not None
    assert table.crowded_out("d", 60.0)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 200)), max_size=150))
@settings(max_examples=100, deadline=None)
def test_generations_forget_nothing_that_lives(steps):
    bounded, kept = buckets("gcra", 2, 3.0, max_keys=10**6), {}
    now = Fraction(0)
    for key, gap in steps:
        now += Fraction(gap, 64)
        model = kept.setdefault(key, Fluid(2, 3, 2))
        assert (bounded.take(str(key), float(now)) is not None) == (model.take(now) is not None)


@pytest.mark.parametrize("count", [10_000, 10_923, 15_000, 20_000])  # 10,923: a dict has just grown
def test_an_idle_key_costs_at_most_a_hundred_bytes_beside_its_name(count):
    keys = [f"user-{i:06}" for i in range(count)]
    tracemalloc.start()
    table = buckets("gcra", 10, 3600.0, max_keys=count)
    for now in (1.0, 4000.0):  # at the second all keys move on to the young generation
        for i, key in enumerate(keys, 1):
            assert table.take(key, now) is not None
            if i % 500 == 0 and now > 1.0:
                assert tracemalloc.get_traced_memory()[0] / count <= 100
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert table.stored() == count
    assert used / count <= 70


@pytest.mark.parametrize("kind", [Gcra, Meter])
def test_the_fast_path_has_no_place_where_threads_can_switch(kind):
    calls, code = [], list(dis.get_instructions(kind.take))
    for position, instruction in enumerate(code):
        assert "BACKWARD" not in instruction.opname
        assert not instruction.opname.startswith("BUILD")
        if instruction.opname.startswith("CALL"):
            calls.append(position)
    assert len(calls) == 1  # the slow path, and nothing after it
    assert code[calls[0] + 1].opname == "RETURN_VALUE"


@pytest.mark.skipif(not GIL, reason="without a GIL everybody takes the lock")
def test_a_known_key_takes_no_lock():
    table = buckets()
    table.take("k", 1.0)
    table.census.lock = None
    assert table.take("k", 1.5) is not None
