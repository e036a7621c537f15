"""What a reload does to live state: arbitrary states and arbitrary edits, against naive models.

Every edit goes through a registry, as a file's would. Never negative, never a free refill, never a stuck waiter, never
a forgotten opening.
"""

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings, strategies as st

from aioresilience import (
    BulkheadFullError,
    CircuitBreakerOpenError,
    OperationTimeoutError,
    RateLimitExceededError,
    Registry,
)
from aioresilience.rate_limiting.buckets import SHARED
from aioresilience.rate_limiting.pattern import MissingKeyError
from aioresilience.testing import EventLog, VirtualClock

PROFILE = settings(max_examples=60, deadline=None)


class Live:
    """A policy of one registry whose document is edited."""

    def __init__(self, **patterns):
        self.clock = VirtualClock()
        self.registry = Registry.from_mapping(self._document(patterns), clock=self.clock, environ={})
        self.policy = self.registry.get("p")
        assert self.policy.patterns  # in use: what nobody has used has nothing to migrate

    @staticmethod
    def _document(patterns):
        return {"version": 1, "policies": {"p": patterns}}

    def edit(self, **patterns):
        """Apply another version of the policy."""
        result = self.registry.apply(self._document(patterns))
        assert result.outcome != "rejected", result.message
        return result


def run(coroutine):
    with asyncio.Runner() as runner:
        return runner.run(coroutine)


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)


async def nothing():
    return "done"


async def fail():
    raise ConnectionError


# bulkhead size: shrink is a debt paid by releases; growth wakes waiters at once; waiters keep their own deadline


@dataclass
class BulkheadModel:
    """Lists of calls, and a queue of (call, deadline)."""

    limit: int
    max_waiting: int
    timeout: float
    now: float = 0.0
    running: list[int] = field(default_factory=list)
    waiting: list[tuple[int, float]] = field(default_factory=list)
    refused: set[int] = field(default_factory=set)

    def call(self, number):
        if len(self.running) < self.limit and not self.waiting:
            self.running.append(number)
        elif len(self.waiting) < self.max_waiting:
            self.waiting.append((number, self.now + self.timeout))
        else:
            self.refused.add(number)

    def leave(self, number):
        self.running = [one for one in self.running if one != number]
        self.waiting = [one for one in self.waiting if one[0] != number]
        self.grant()

    def resize(self, limit, max_waiting, timeout):
        self.limit, self.max_waiting, self.timeout = limit, max_waiting, timeout
        self.grant()

    def advance(self, seconds):
        self.now += seconds
        self.refused |= {number for number, deadline in self.waiting if deadline <= self.now}
        self.waiting = [one for one in self.waiting if one[1] > self.now]

    def grant(self):
        while self.waiting and len(self.running) < self.limit:
            self.running.append(self.waiting.pop(0)[0])


SIZES = st.tuples(st.integers(1, 4), st.integers(0, 4), st.sampled_from([1.5, 4.5, 20.5]))
BULKHEAD_STEPS = st.one_of(
    st.tuples(st.just("call")),
    st.tuples(st.just("call")),
    st.tuples(st.just("finish"), st.integers(0, 20)),
    st.tuples(st.just("cancel"), st.integers(0, 20)),
    st.tuples(st.just("resize"), SIZES),
    st.tuples(st.just("advance"), st.integers(1, 5)),
)


class BulkheadRun:
    """A model and a bulkhead that do the same."""

    def __init__(self, size):
        self.live = Live(bulkhead=self._block(size))
        self.model = BulkheadModel(*size)
        self.running, self.gates, self.tasks = [], {}, {}

    @staticmethod
    def _block(size):
        return {"max_concurrent": size[0], "max_waiting": size[1], "timeout": size[2]}

    async def _work(self, number):
        self.running.append(number)
        try:
            await self.gates[number].wait()
        finally:
            self.running.remove(number)

    async def step(self, name, value=None):
        if name == "call":
            number = len(self.tasks)
            self.gates[number] = asyncio.Event()
            self.tasks[number] = asyncio.create_task(self.live.policy.call(self._work, number))
            self.model.call(number)
        elif name == "finish" and self.model.running:
            number = self.model.running[value % len(self.model.running)]
            self.gates[number].set()
            self.model.leave(number)
        elif name == "cancel" and (there := [*self.model.running, *(one for one, _ in self.model.waiting)]):
            number = there[value % len(there)]
            self.tasks[number].cancel()
            self.model.leave(number)
        elif name == "resize":
            self.live.edit(bulkhead=self._block(value))
            self.model.resize(*value)
        elif name == "advance":
            self.model.advance(value)
            await self.live.clock.advance(value)
        await settle()
        self.compare()

    def compare(self):
        machine = self.live.policy.bulkhead.machine
        assert sorted(self.running) == sorted(self.model.running)
        assert (machine.active, machine.queue.waiting) == (len(self.model.running), len(self.model.waiting))
        assert self.live.policy.bulkhead.available_slots() == max(0, self.model.limit - len(self.model.running))
        assert {number for number, task in self.tasks.items() if self._refused(task)} == self.model.refused

    @staticmethod
    def _refused(task):
        return task.done() and not task.cancelled() and isinstance(task.exception(), BulkheadFullError)

    async def end(self):
        for gate in self.gates.values():
            gate.set()
        await settle()
        assert all(task.done() for task in self.tasks.values()), "a stuck waiter"
        assert self.live.policy.bulkhead.machine.active == 0
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


@PROFILE
@given(SIZES, st.lists(BULKHEAD_STEPS, max_size=30))
def test_bulkhead_size(size, steps):
    async def main():
        both = BulkheadRun(size)
        for step in steps:
            await both.step(*step)
        await both.end()

    run(main())


# the circuit breaker


@dataclass
class BreakerModel:
    """Outcomes in a list; tickets are eras."""

    rules: dict
    now: float = 0.0
    state: str = "CLOSED"
    era: int = 0
    outcomes: list[bool] = field(default_factory=list)
    streak: int = 0
    opened_at: float = 0.0
    live: int = 0
    successes: int = 0

    def _turn(self, state):
        self.state, self.era, self.live, self.successes = state, self.era + 1, 0, 0
        self.outcomes = []
        self.streak = 0

    def begin(self):
        """Return the era in which a call starts, None where it is refused."""
        if self.state == "OPEN" and self.now >= self.opened_at + self.rules["recovery_timeout"]:
            self._turn("HALF_OPEN")
        if self.state == "OPEN" or (self.state == "HALF_OPEN" and self.live >= self.rules["half_open_max_calls"]):
            return None
        self.live += self.state == "HALF_OPEN"
        return self.era

    def end(self, era, failed):
        if era != self.era:
            return
        if self.state == "HALF_OPEN":
            self.live -= 1
            self._probed(failed)
            return
        self.streak = self.streak + 1 if failed else 0
        self.outcomes = [*self.outcomes, failed][-self.rules["window"] :]
        if failed and self._exceeded():
            self._turn("OPEN")
            self.opened_at = self.now

    def _probed(self, failed):
        if failed:
            self._turn("OPEN")
            self.opened_at = self.now
            return
        self.successes += 1
        if self.successes >= self.rules["success_threshold"]:
            self._turn("CLOSED")

    def _exceeded(self):
        calls, rules = len(self.outcomes), self.rules
        if self.streak >= rules["failure_threshold"]:
            return True
        return calls >= rules["minimum_calls"] and sum(self.outcomes) / calls >= rules["failure_rate"]

    def edit(self, rules):
        kept = min(self.rules["window"], rules["window"])
        self.outcomes = self.outcomes[-kept:]
        self.rules = rules


RULES = st.fixed_dictionaries(
    {
        "failure_threshold": st.integers(1, 6),
        "failure_rate": st.sampled_from([0.3, 0.5, 0.9]),
        "minimum_calls": st.integers(2, 6),
        "window": st.integers(6, 9),
        "recovery_timeout": st.integers(1, 20),
        "half_open_max_calls": st.integers(1, 4),
        "success_threshold": st.integers(1, 3),
    }
)
BREAKER_STEPS = st.one_of(
    st.tuples(st.just("begin")),
    st.tuples(st.just("fail"), st.integers(0, 20)),
    st.tuples(st.just("fail"), st.integers(0, 20)),
    st.tuples(st.just("succeed"), st.integers(0, 20)),
    st.tuples(st.just("edit"), RULES),
    st.tuples(st.just("advance"), st.integers(1, 15)),
)


class BreakerRun:
    """A model and a breaker that do the same; calls stay open until they are told how to end."""

    def __init__(self, rules):
        self.live = Live(circuit_breaker=self._block(rules))
        self.model = BreakerModel(rules)
        self.open = []

    @staticmethod
    def _block(rules):
        given = {"recovery_jitter": 0.0, "recovery_multiplier": 1.0, "half_open_timeout": 1_000_000.0}
        return rules | given

    async def step(self, name, value=None):
        if name == "begin":
            await self._begin()
        elif name in ("fail", "succeed") and self.open:
            era, gate, task = self.open.pop(value % len(self.open))
            gate.set_result(name == "fail")
            await settle()
            assert task.done()
            task.exception()
            self.model.end(era, name == "fail")
        elif name == "edit":
            self.live.edit(circuit_breaker=self._block(value))
            self.model.edit(value)
        elif name == "advance":
            await self.live.clock.advance(value)
            self.model.now += value
        self.compare()

    async def _begin(self):
        gate = asyncio.get_running_loop().create_future()

        async def work():
            if await gate:
                raise ConnectionError

        task = asyncio.create_task(self.live.policy.call(work))
        await settle()
        era = self.model.begin()
        assert task.done() == (era is None)
        if era is None:
            assert isinstance(task.exception(), CircuitBreakerOpenError)
        else:
            self.open.append((era, gate, task))

    def compare(self):
        breaker, model = self.live.policy.circuit_breaker, self.model
        assert breaker.get_state().name == model.state
        assert len(breaker.machine.live) == model.live
        if model.state == "OPEN":
            due = model.opened_at + model.rules["recovery_timeout"] - model.now
            assert breaker.status()["retry_after"] == pytest.approx(max(0, due), abs=1e-6), "a forgotten opening"
        if model.state == "CLOSED":
            window = breaker.status()["window"]
            assert (window["calls"], window["failures"]) == (len(model.outcomes), sum(model.outcomes))
            assert breaker.status()["failures_in_row"] == model.streak

    async def end(self):
        for _, gate, _ in self.open:
            gate.set_result(False)
        await asyncio.gather(*(task for _, _, task in self.open), return_exceptions=True)


@PROFILE
@given(RULES, st.lists(BREAKER_STEPS, max_size=40))
def test_thresholds_recovery_timeout_half_open_probes_and_window(rules, steps):
    async def main():
        both = BreakerRun(rules)
        for step in steps:
            await both.step(*step)
        await both.end()

    run(main())


async def test_recovery_timeout_of_an_open_breaker_counts_from_its_own_opening():
    block = {"failure_threshold": 1, "recovery_jitter": 0.0, "recovery_timeout": 10}
    live = Live(circuit_breaker=block)
    with pytest.raises(ConnectionError):
        await live.policy.call(fail)
    await live.clock.advance(6)
    live.edit(circuit_breaker=block | {"recovery_timeout": 30})
    assert live.policy.circuit_breaker.status()["retry_after"] == pytest.approx(24)
    live.edit(circuit_breaker=block | {"recovery_timeout": 5})
    assert await live.policy.call(nothing) == "done", "its time has come already"


async def test_half_open_probes_left_are_new_minus_issued():
    block = {"failure_threshold": 1, "recovery_timeout": 1, "recovery_jitter": 0.0, "half_open_max_calls": 3}
    live, gate = Live(circuit_breaker=block), asyncio.Event()
    with pytest.raises(ConnectionError):
        await live.policy.call(fail)
    await live.clock.advance(1)
    probes = [asyncio.create_task(live.policy.call(gate.wait)) for _ in range(3)]
    await settle()
    live.edit(circuit_breaker=block | {"half_open_max_calls": 1})
    with pytest.raises(CircuitBreakerOpenError):
        await live.policy.call(nothing)
    live.edit(circuit_breaker=block | {"half_open_max_calls": 4, "success_threshold": 5})
    assert await live.policy.call(nothing) == "done"
    gate.set()
    await asyncio.gather(*probes)


async def test_window_from_count_to_time_starts_anew_and_says_so():
    block = {"window": 10, "failure_rate": 0.9, "minimum_calls": 5}
    live = Live(circuit_breaker=block)
    for _ in range(3):
        with pytest.raises(ConnectionError):
            await live.policy.call(fail)
    with EventLog() as log:
        live.edit(circuit_breaker=block | {"window": "30s"})
        await log.wait_for("state_restarted")
    assert live.policy.circuit_breaker.status()["window"]["calls"] == 0
    assert live.policy.circuit_breaker.status()["failures_in_row"] == 3


async def test_stored_outcomes_keep_their_class_when_classify_changes():
    block = {"window": 10, "failure_rate": 0.5, "minimum_calls": 4}
    live = Live(circuit_breaker=block)
    for _ in range(3):
        with pytest.raises(ConnectionError):
            await live.policy.call(fail)
    live.edit(circuit_breaker=block, classify={"neutral": {"exceptions": ["ConnectionError"]}})
    with pytest.raises(ConnectionError):
        await live.policy.call(fail)
    window = live.policy.circuit_breaker.status()["window"]
    assert (window["calls"], window["failures"]) == (3, 3), "the old ones are failures still, the new one is neutral"


# rate: the spent share is kept, rescaled to the new period; a reload is never a free refill


RATES = st.tuples(st.integers(1, 20), st.sampled_from([1, 10, 60]), st.integers(1, 20))


def limiter(rate, algorithm="gcra", **more):
    permits, period, burst = rate
    block = {"rate": {"permits": permits, "per": period}, "burst": burst, "algorithm": algorithm, **more}
    return {key: value for key, value in block.items() if not (key == "burst" and algorithm == "sliding_window")}


async def admitted(policy, key=None):
    try:
        await policy.bind(key=key).call(nothing)
    except RateLimitExceededError:
        return False
    return True


@PROFILE
@given(
    RATES,
    st.lists(
        st.one_of(
            st.tuples(st.just("take"), st.integers(1, 6)),
            st.tuples(st.just("edit"), RATES),
            st.tuples(st.just("advance"), st.sampled_from([0.3, 1.7, 9.1])),
        ),
        max_size=25,
    ),
)
def test_rate(rate, steps):
    """The whole model: one number, the share that is spent. An edit leaves it alone."""

    async def main():
        live, (permits, period, burst), spent = Live(rate_limiter=limiter(rate)), rate, 0.0
        for name, value in steps:
            if name == "edit":
                permits, period, burst = value
                live.edit(rate_limiter=limiter(value))
            elif name == "advance":
                await live.clock.advance(value)
                spent = max(0.0, spent - value * permits / period / burst)
            for _ in range(value if name == "take" else 0):
                after = spent + 1 / burst
                if abs(after - 1) > 1e-6:
                    assert (await admitted(live.policy)) == (after < 1)
                    spent = after if after < 1 else spent
                elif await admitted(live.policy):  # on the edge, either is right
                    spent = after
            assert live.policy.rate_limiter.status()["remaining"] == pytest.approx((1 - spent) * burst, abs=1)

    run(main())


@dataclass
class Shares:
    """What is spent of each bucket, as the limiter itself has it."""

    live: Live

    def __call__(self, key):
        limiter = self.live.policy.rate_limiter
        table, now = limiter._limit.table, limiter.clock.monotonic()
        entry = table.find(key if limiter._limit.by_key else SHARED)
        entry = table.newcomer() if entry is None else entry
        return 0.0 if entry is None else table.share(entry, now)

    def permit(self):
        """One permit: what whole permits may round by."""
        return 1 / self.live.policy.rate_limiter._limit.table.burst + 1e-6


ALGORITHMS = st.sampled_from(["gcra", "sliding_window", "leaky_bucket"])
KEYS = ("one", "two", "three")


@PROFILE
@given(
    st.tuples(RATES, ALGORITHMS), st.lists(st.tuples(RATES, ALGORITHMS, st.lists(st.sampled_from(KEYS), max_size=8)))
)
def test_algorithm_and_rate_of_keys(start, edits):
    """Whatever the algorithms are: an edit keeps every key's spent share, to a permit."""

    async def main():
        live = Live(rate_limiter=limiter(*start, scope="key"))
        shares = Shares(live)
        for rate, algorithm, calls in edits:
            for key in calls:
                await admitted(live.policy, key)
            before = {key: shares(key) for key in KEYS}
            live.edit(rate_limiter=limiter(rate, algorithm, scope="key"))
            for key in KEYS:
                assert 0 <= shares(key) <= 1
                assert shares(key) >= before[key] - shares.permit(), "a free refill"
                assert shares(key) <= before[key] + shares.permit(), "charged twice"

    run(main())


@PROFILE
@given(RATES, st.lists(st.tuples(st.sampled_from(["policy", "key"]), st.lists(st.sampled_from(KEYS), max_size=8))))
def test_scope(rate, edits):
    """From policy to key every key starts with what all have spent; back, all have spent what the keys did."""

    async def main():
        live, scope = Live(rate_limiter=limiter(rate)), "policy"
        shares = Shares(live)
        for new, calls in edits:
            for key in calls:
                await admitted(live.policy, key)
            before = {key: shares(key) for key in KEYS}
            common = shares("a key that nobody used")
            live.edit(rate_limiter=limiter(rate, scope=new))
            together = min(1.0, common + sum(share - common for share in before.values()))
            expected = dict.fromkeys(KEYS, together) if (scope, new) == ("key", "policy") else before
            for key in KEYS:
                assert shares(key) == pytest.approx(expected[key], abs=1e-6)
            scope = new

    run(main())


async def test_a_rate_that_grows_serves_waiters_and_one_that_shrinks_forgets_nobody():
    live = Live(rate_limiter=limiter((1, 60, 1), wait="1h"))
    assert await admitted(live.policy)
    waiters = [asyncio.create_task(live.policy.call(nothing)) for _ in range(3)]
    await settle()
    live.edit(rate_limiter=limiter((1, 600, 1), wait="1h"))
    await live.clock.advance(599)
    assert [task.done() for task in waiters] == [False] * 3
    live.edit(rate_limiter=limiter((10, 1, 1), wait="1h"))
    await live.clock.advance(0.31)
    assert [task.result() for task in waiters] == ["done"] * 3


async def test_algorithm_changes_say_so():
    live = Live(rate_limiter=limiter((5, 60, 5)))
    with EventLog() as log:
        live.edit(rate_limiter=limiter((5, 60, 5), "sliding_window"))
        [event] = await log.wait_for("state_restarted")
    assert event.metadata == {"algorithm": "gcra -> sliding_window", "kept": "the spent share"}


async def test_scope_key_brought_in_by_a_reload_lets_keyless_calls_share_a_bucket_with_an_event():
    live = Live(rate_limiter=limiter((5, 60, 5)))
    for _ in range(4):
        await admitted(live.policy)
    live.edit(rate_limiter=limiter((5, 60, 5), scope="key"))
    with EventLog() as log:
        assert [await admitted(live.policy) for _ in range(2)] == [True, False]
        await log.wait_for("key_missing")


PER_KEY = ("policies: {p: {rate_limiter: %s}}", "settings: {on_unknown_policy: default}\ndefaults: {rate_limiter: %s}")


@pytest.mark.parametrize("text", PER_KEY)
@pytest.mark.parametrize("used", [True, False])
async def test_keys_that_a_reload_brings_in_are_asked_of_nobody_whenever_the_policy_is_first_used(text, used):
    registry = Registry.from_text("version: 1\n" + text % "2/hour", clock=VirtualClock(), environ={})
    if used:
        registry.get("p")
    registry.apply("version: 1\n" + text % "{rate: 2/hour, scope: key}")
    policy = registry.get("p")
    assert [await admitted(policy) for _ in range(3)] == [True, True, False]
    assert policy.rate_limiter.status()["keyless"] == 3


async def test_keys_that_were_there_from_the_start_are_asked_for_after_a_reload_too():
    text = "version: 1\npolicies: {p: {rate_limiter: {rate: 2/hour, scope: key}}, q: {timeout: %s}}"
    registry = Registry.from_text(text % "1s", clock=VirtualClock(), environ={})
    assert registry.apply(text % "2s").outcome == "applied"
    with pytest.raises(MissingKeyError):
        await registry.get("p").call(nothing)


SHARED_POOL = """version: 1
shared: {pool: {rate_limiter: 10/hour, bulkhead: 3}}
policies:
  a: {rate_limiter: A, bulkhead: B}
  b: {rate_limiter: {use: pool}, bulkhead: {use: pool}}
"""


async def test_use_changes_keep_the_spent_share_and_say_so():
    own = SHARED_POOL.replace("A", "10/hour").replace("B", "3")
    shared = SHARED_POOL.replace("A", "{use: pool}").replace("B", "{use: pool}")
    registry = Registry.from_text(own, clock=VirtualClock(), environ={})
    policy = registry.get("a")
    for _ in range(6):
        assert await admitted(policy)
    with EventLog() as log:
        assert registry.apply(shared).outcome == "applied"
        told = await log.wait_for("state_restarted", 2)
    assert {event.metadata["use"] for event in told} == {"a -> shared:pool"}
    assert {event.metadata["kept"] for event in told} == {"the spent share", "nothing"}
    assert policy.rate_limiter.status()["remaining"] == 4, (
        "nobody has used the pool, so it starts with what a has spent"
    )
    other = registry.get("b")
    assert [await admitted(other) for _ in range(4)] == [True] * 4
    assert registry.apply(own).outcome == "applied"
    assert policy.rate_limiter.status()["remaining"] == 0, "what the pool has spent"
    assert policy.rate_limiter is not other.rate_limiter
    with EventLog() as log:
        registry.apply(shared)
        told = await log.wait_for("state_restarted", 2)
    assert {event.metadata["kept"] for event in told} == {"what the shared one has"}
    assert policy.rate_limiter is other.rate_limiter


async def test_calls_in_flight_while_use_changes_return_to_the_place_they_came_from():
    registry = Registry.from_text(SHARED_POOL.replace("A", "10/hour").replace("B", "3"), environ={})
    policy, gate = registry.get("a"), asyncio.Event()
    old = policy.bulkhead
    running = asyncio.create_task(policy.call(gate.wait))
    await settle()
    registry.apply(SHARED_POOL.replace("A", "10/hour").replace("B", "{use: pool}"))
    assert (old.machine.active, policy.bulkhead.machine.active) == (1, 0)
    gate.set()
    await running
    assert (old.machine.active, policy.bulkhead.machine.active) == (0, 0)


# adaptive limits: estimate kept, clamped to the new bounds


BOUNDS = st.tuples(st.integers(1, 20), st.integers(0, 40)).map(lambda two: (two[0], two[0] + two[1]))


@PROFILE
@given(st.lists(st.tuples(st.sampled_from(["succeed", "fail", "edit"]), BOUNDS), max_size=25))
def test_adaptive_limits(steps):
    def block(bounds):
        return {"min_limit": bounds[0], "max_limit": bounds[1], "initial_limit": bounds[0], "measurement_window": 2}

    async def main():
        live = Live(adaptive_concurrency=block((1, 50)))
        machine = live.policy.adaptive_concurrency.machine
        gates = []
        for name, bounds in steps:
            before = machine.estimate
            if name == "edit":
                live.edit(adaptive_concurrency=block(bounds))
                assert machine.estimate == min(max(before, bounds[0]), bounds[1])
                assert machine.limit == int(machine.estimate)
                assert bounds[0] <= machine.limit <= bounds[1]
            else:
                gates.append(asyncio.create_task(live.policy.call(nothing if name == "succeed" else fail)))
                await settle()
            assert machine.active == 0
        await asyncio.gather(*gates, return_exceptions=True)

    run(main())


async def test_adaptive_limits_that_shrink_below_what_is_in_use_are_a_debt():
    block = {"min_limit": 1, "max_limit": 10, "initial_limit": 5}
    live, gate = Live(adaptive_concurrency=block), asyncio.Event()
    calls = [asyncio.create_task(live.policy.call(gate.wait)) for _ in range(5)]
    await settle()
    live.edit(adaptive_concurrency=block | {"max_limit": 2, "initial_limit": 2})
    machine = live.policy.adaptive_concurrency.machine
    assert (machine.active, machine.limit) == (5, 2)
    gate.set()
    await asyncio.gather(*calls)
    assert machine.active == 0


# retry, timeout, deadline, fallback, order, mode: from the next call on


@pytest.mark.parametrize("key", ["timeout", "deadline"])
async def test_timeout_and_deadline_hold_from_the_next_call_on(key):
    live = Live(**{key: "10s"})
    old = asyncio.create_task(live.policy.call(asyncio.Event().wait))
    await settle()
    live.edit(**{key: "1s"})
    new = asyncio.create_task(live.policy.call(asyncio.Event().wait))
    await live.clock.advance(1.5)
    assert (old.done(), new.done()) == (False, True)
    assert isinstance(new.exception(), OperationTimeoutError)
    await live.clock.advance(9)
    assert isinstance(old.exception(), OperationTimeoutError)


async def test_fallback_holds_from_the_next_call_on():
    live, gate = Live(fallback={"value": "old"}), asyncio.Event()

    async def fail_later():
        await gate.wait()
        raise ConnectionError

    old = asyncio.create_task(live.policy.call(fail_later))
    await settle()
    live.edit(fallback={"value": "new"})
    gate.set()
    assert (await old, await live.policy.call(fail)) == ("old", "new")


async def test_retry_holds_from_the_next_call_on_and_its_budget_goes_on():
    block = {"max_attempts": 2, "initial_delay": "1s", "max_delay": "1s", "jitter": 0.0}
    budget = {"ratio": "10%", "min_per_second": 0.5, "window": "10s"}
    live = Live(retry=block | {"budget": budget})

    async def failing():
        task = asyncio.create_task(live.policy.call(fail))
        await live.clock.advance(1.1)
        assert isinstance(task.exception(), ConnectionError)

    for _ in range(3):
        await failing()
    spent = live.policy.retry.status()["budget"]
    assert (spent["first_attempts"], spent["retries"]) == (3, 3)
    live.edit(retry=block | {"max_attempts": 3, "budget": budget | {"ratio": "50%"}})
    after = live.policy.retry.status()["budget"]
    assert (after["first_attempts"], after["retries"]) == (3, 3), "a reload is no new budget"


async def test_order_holds_from_the_next_call_on():
    patterns = {"bulkhead": 1, "circuit_breaker": {"failure_threshold": 1}}
    live = Live(**patterns, order=["circuit_breaker", "bulkhead"])
    breaker, bulkhead = live.policy.circuit_breaker, live.policy.bulkhead
    live.edit(**patterns, order=["bulkhead", "circuit_breaker"])
    assert live.policy.patterns == (bulkhead, breaker)


async def test_mode_holds_from_the_next_call_on_and_switching_back_is_exact():
    live, gate = Live(bulkhead={"max_concurrent": 1}), asyncio.Event()
    first = asyncio.create_task(live.policy.call(gate.wait))
    await settle()
    live.edit(bulkhead={"max_concurrent": 1, "mode": "observe"})
    assert await live.policy.call(nothing) == "done", "over the limit, and let through uncharged"
    live.edit(bulkhead={"max_concurrent": 1})
    with pytest.raises(BulkheadFullError):
        await live.policy.call(nothing)
    gate.set()
    await first
    assert live.policy.bulkhead.machine.active == 0


# load shedder and backpressure: what is in flight stays counted, relief wakes at once


async def test_backpressure_marks_that_rise_wake_waiters_and_those_that_sink_lose_nobody():
    block = {"max_pending": 10, "high_water_mark": 2, "low_water_mark": 1}
    live, gate = Live(backpressure=block), asyncio.Event()
    calls = [asyncio.create_task(live.policy.call(gate.wait)) for _ in range(4)]
    await settle()
    before = live.policy.backpressure.status()
    assert before["pending"] < 4
    live.edit(backpressure=block | {"high_water_mark": 9, "low_water_mark": 8})
    await live.clock.advance(5)
    assert live.policy.backpressure.status()["pending"] == 4
    live.edit(backpressure=block)
    assert live.policy.backpressure.status()["pending"] == 4
    gate.set()
    await live.clock.advance(5)
    await asyncio.gather(*calls)
    assert live.policy.backpressure.status()["pending"] == 0


async def test_load_shedder_limits_that_sink_keep_what_is_in_flight_counted():
    live, gate = Live(load_shedder={"max_requests": 3}), asyncio.Event()
    calls = [asyncio.create_task(live.policy.call(gate.wait)) for _ in range(3)]
    await settle()
    live.edit(load_shedder={"max_requests": 1})
    assert live.policy.load_shedder.status()["active"] == 3
    gate.set()
    await asyncio.gather(*calls)
    assert live.policy.load_shedder.status()["active"] == 0
