"""The guards of a request written out mean what they mean one by one, for every stack, status and error."""

import ast
import asyncio

import pytest
from hypothesis import given, settings, strategies as st

from aioresilience import Registry
from aioresilience.adaptive_concurrency import AdaptiveConcurrencyConfig, AdaptiveConcurrencyLimiter
from aioresilience.backpressure import BackpressureConfig, BackpressureManager
from aioresilience.bulkhead import Bulkhead, BulkheadConfig
from aioresilience.calls import ANYONE, Caller
from aioresilience.circuit_breaker import CircuitBreaker, CircuitConfig
from aioresilience.exceptions import OperationTimeoutError, RejectionError
from aioresilience.load_shedding import BasicLoadShedder, LoadSheddingConfig
from aioresilience.pattern import Context
from aioresilience.policy import Admission, Entrance, Policy, passage as room
from aioresilience.policy.passage import passage, source
from aioresilience.policy.shape import Part
from aioresilience.rate_limiting import RateLimit, RateLimiterConfig
from aioresilience.scope import sleep
from aioresilience.testing import EventLog, VirtualClock
from aioresilience.timeout import Deadline, DeadlineConfig, TimeoutConfig, TimeoutManager

GUARDS = {
    "circuit": lambda clock: CircuitBreaker(
        "c", CircuitConfig(failure_threshold=2, recovery_timeout=1), clock=clock, rng=lambda: 0.5
    ),
    "window": lambda clock: CircuitBreaker(
        "w", CircuitConfig(window="5s", failure_rate=0.5, minimum_calls=2, slow_call_rate=1.0, slow_call_duration=1.0),
        clock=clock,
    ),
    "bulkhead": lambda clock: Bulkhead("b", BulkheadConfig(max_concurrent=2), clock=clock),
    "shedder": lambda clock: BasicLoadShedder(LoadSheddingConfig(max_requests=3), clock=clock),
    "pressure": lambda clock: BackpressureManager(
        BackpressureConfig(max_pending=3, high_water_mark=2, low_water_mark=1), clock=clock
    ),
    "adaptive": lambda clock: AdaptiveConcurrencyLimiter(
        "a", AdaptiveConcurrencyConfig(initial_limit=2, min_limit=1), clock=clock
    ),
    "rate": lambda clock: RateLimit("r", RateLimiterConfig(rate="3/second"), clock=clock),
}  # fmt: skip
ENDS = st.sampled_from([200, 404, 500, 503, "error", "cancel"])
STEPS = st.lists(st.tuples(st.sampled_from(["enter", "end", "wait"]), ENDS), max_size=14)
CONTEXT = Context(classify=Context().classify.of_answers())


class Door:
    """Admissions under one stack, taken and ended by the same script."""

    def __init__(self, names: list[str], *, one_by_one: bool) -> None:
        self.clock = VirtualClock()
        self.patterns = [GUARDS[name](self.clock) for name in names]
        self.entrance = Entrance(self.patterns, CONTEXT, self.clock)
        assert (self.entrance.passage is None) is not bool(names)
        if one_by_one:
            self.entrance.passage = None
        self.inside: list[Admission] = []
        self.seen: list[object] = []

    def step(self, what: str, end: object) -> None:
        if what == "wait":
            self.clock.move(0.6)
        elif what == "enter":
            self.enter()
        elif self.inside:
            admission = self.inside.pop(0)
            if isinstance(end, int):
                admission.answered(end)
            else:
                admission.leave(ConnectionError() if end == "error" else asyncio.CancelledError())
            assert admission.held is None
        self.seen.append([pattern.status() | {"name": None} for pattern in self.patterns])

    def enter(self) -> None:
        admission = Admission(self.entrance, ANYONE)
        if admission.begin():
            self.inside.append(admission)
            return
        waiting = admission.wait()
        try:
            waiting.send(None)
            waiting.throw(asyncio.CancelledError())
        except (RejectionError, asyncio.CancelledError) as refusal:
            self.seen.append(type(refusal))
        assert admission.held is None


@given(st.lists(st.sampled_from(list(GUARDS)), max_size=4, unique=True), STEPS)
@settings(max_examples=150, deadline=None)
def test_both_forms_admit_refuse_and_count_alike(names: list[str], steps: list[tuple[str, object]]):
    async def run() -> list[list[object]]:
        doors = [Door(names, one_by_one=one_by_one) for one_by_one in (False, True)]
        for what, end in steps:
            for door in doors:
                door.step(what, end)
        return [door.seen for door in doors]

    written, one_by_one = asyncio.run(run())
    assert written == one_by_one


@pytest.mark.parametrize("name", GUARDS)
def test_nothing_of_a_guard_is_called_on_its_way_in(name: str):
    cls = type(GUARDS[name](VirtualClock()))
    text, _ = source((Part("guard", cls),))
    called = {node.func.attr for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)
              if isinstance(node.func, ast.Attribute)}  # fmt: skip
    assert called.isdisjoint({"admit", "settle"})


def test_what_is_more_than_an_enforced_guard_has_no_passage():
    clock = VirtualClock()
    bulkhead, timeout = GUARDS["bulkhead"](clock), TimeoutManager(TimeoutConfig(timeout=1.0), clock=clock)
    own = CircuitBreaker("c", CircuitConfig(timeout=1.0), clock=clock)
    other = Bulkhead("b", BulkheadConfig(max_concurrent=2), clock=VirtualClock())
    assert passage([bulkhead], [1], CONTEXT, clock) is not None
    for more in (timeout, own, other):
        assert passage([bulkhead, more], [1, 2], CONTEXT, clock) is None
    assert passage([bulkhead], [1], Context(mode="observe"), clock) is None


class Broken(Bulkhead):
    __module__ = Bulkhead.__module__

    def admit(self, caller: Caller) -> object:
        raise LookupError("broken")


def test_an_error_between_two_guards_gives_back_what_the_first_gave():
    clock = VirtualClock()
    places, broken = GUARDS["bulkhead"](clock), Broken("broken", clock=clock)
    entrance = Entrance([places, broken], CONTEXT, clock)
    assert entrance.passage is not None
    with pytest.raises(LookupError, match="broken"):
        Admission(entrance, ANYONE).begin()
    assert places.available_slots() == 2
    assert (places.counts.neutral, places.counts.failed) == (0, 1)  # as everywhere, an error inside is a failure


async def test_whoever_listens_hears_of_every_request():
    places = Bulkhead("b")
    entrance = Entrance([places], CONTEXT, places.clock)
    with EventLog() as log:
        admission = Admission(entrance, ANYONE)
        assert admission.begin()
        admission.answered(200)
        await log.wait_for("slot_released")
    assert [len(log.of(name)) for name in ("slot_acquired", "slot_released")] == [1, 1]


async def test_a_reload_compiles_what_requests_will_go_through():
    registry = Registry.from_text("version: 1\npolicies: {api: {bulkhead: 5}}")
    registry["api"].serve()
    before = room._bind.cache_info().misses
    registry.apply("version: 1\npolicies: {api: {bulkhead: 5, backpressure: {max_pending: 9}, rate_limiter: 5/second}}")
    made = room._bind.cache_info().misses
    assert made == before + 1
    registry["api"].serve()
    assert room._bind.cache_info().misses == made


@pytest.mark.parametrize("around", ["block", "function"])
async def test_what_a_deadline_cuts_is_a_failure_where_it_was_granted_enough(around):
    clock = VirtualClock()
    bounds = [Deadline(DeadlineConfig(timeout=3), clock=clock), TimeoutManager(TimeoutConfig(timeout=4), clock=clock)]
    policy = Policy("p", bounds, clock=clock)

    async def block():
        async with policy.admit():
            await sleep(9, clock)

    call = asyncio.ensure_future(block() if around == "block" else policy.call(sleep, 9, clock))
    await clock.advance(3)
    [error] = await asyncio.wait_for(asyncio.gather(call, return_exceptions=True), 60)
    assert isinstance(error, OperationTimeoutError)
    assert not error.neutral
