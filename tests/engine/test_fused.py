"""The fused form and the fold mean the same, for every stack, mode, outcome and cancel."""

import ast
import asyncio
import pickle
import traceback
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from hypothesis import given, settings, strategies as st

from aioresilience.adaptive_concurrency import AdaptiveConcurrencyConfig, AdaptiveConcurrencyLimiter
from aioresilience.backpressure import BackpressureConfig, BackpressureManager
from aioresilience.bulkhead import Bulkhead, BulkheadConfig
from aioresilience.calls import ANYONE
from aioresilience.circuit_breaker import CircuitBreaker, CircuitConfig
from aioresilience.clock import SYSTEM_CLOCK
from aioresilience.events import audience
from aioresilience.exceptions import BulkheadFullError, CircuitBreakerOpenError
from aioresilience.failures import Classifier, Rule
from aioresilience.fallback import FallbackConfig, FallbackHandler
from aioresilience.guard import Guard
from aioresilience.load_shedding import BasicLoadShedder, LoadSheddingConfig
from aioresilience.pattern import Context
from aioresilience.policy import Policy
from aioresilience.policy.fused import RUN, bind, fuse, fuse_around, source
from aioresilience.policy.shape import shape_of
from aioresilience.policy.snapshot import fold, folded
from aioresilience.policy.texts import text_of
from aioresilience.rate_limiting import RateLimit, RateLimiterConfig
from aioresilience.retry import RetryConfig, RetryPolicy
from aioresilience.scope import sleep
from aioresilience.testing import VirtualClock
from aioresilience.timeout import Deadline, DeadlineConfig, TimeoutConfig, TimeoutManager

MODES = st.sampled_from([None, "enforce", "observe", "off"])
CLASSIFY = Classifier(failure=Rule((ConnectionError,), frozenset({500})), throttle=Rule((), frozenset({429})))


class Status:
    def __init__(self, status):
        self.status = status


STEPS = {
    "succeed": lambda clock: _return(Status(200)),
    "bad status": lambda clock: _return(Status(500)),
    "throttled": lambda clock: _return(Status(429)),
    "fail": lambda clock: _raise(ConnectionError("down")),
    "strange": lambda clock: _raise(LookupError("strange")),
    "rejected inside": lambda clock: _raise(BulkheadFullError("another's")),
    "slow": lambda clock: sleep(3, clock),
    "slower": lambda clock: sleep(30, clock),
}


async def _return(value):
    return value


async def _raise(error):
    raise error


@dataclass(frozen=True)
class Spec:
    kind: str
    mode: object

    def build(self, clock):
        builders = {
            "fallback": lambda: FallbackHandler(
                FallbackConfig(fallback="instead", mode=self.mode), clock=clock, name="p"
            ),
            "deadline": lambda: Deadline(DeadlineConfig(timeout=8, mode=self.mode), clock=clock, name="p"),
            "retry": lambda: RetryPolicy(
                RetryConfig(max_attempts=3, initial_delay=1, jitter=0, mode=self.mode), clock=clock, name="p"
            ),
            "circuit_breaker": lambda: CircuitBreaker(
                "p", CircuitConfig(failure_threshold=2, recovery_timeout=5, mode=self.mode), clock=clock
            ),
            "rate_limiter": lambda: RateLimit("p", RateLimiterConfig(rate="4/minute", mode=self.mode), clock=clock),
            "load_shedder": lambda: BasicLoadShedder(
                LoadSheddingConfig(max_requests=2, mode=self.mode), clock=clock, name="p"
            ),
            "backpressure": lambda: BackpressureManager(
                BackpressureConfig(max_pending=3, high_water_mark=2, low_water_mark=1, timeout=2.0, mode=self.mode),
                clock=clock,
                name="p",
            ),
            "adaptive_concurrency": lambda: AdaptiveConcurrencyLimiter(
                "p",
                AdaptiveConcurrencyConfig(
                    initial_limit=2, min_limit=1, max_limit=3, measurement_window=2, mode=self.mode
                ),
                clock=clock,
            ),
            "slow calls": lambda: CircuitBreaker(
                "p",
                CircuitConfig(
                    window=4,
                    minimum_calls=1,
                    slow_call_rate=0.5,
                    slow_call_duration=2.0,
                    failure_rate=0.9,
                    recovery_timeout=5,
                    mode=self.mode,
                ),
                clock=clock,
            ),
            "bulkhead": lambda: Bulkhead(
                "p", BulkheadConfig(max_concurrent=1, max_waiting=1, timeout=2, mode=self.mode), clock=clock
            ),
            "timeout": lambda: TimeoutManager(TimeoutConfig(timeout=4, mode=self.mode), clock=clock, name="p"),
        }
        return builders[self.kind]()


KINDS = ["fallback", "deadline", "retry", "circuit_breaker", "rate_limiter", "bulkhead", "timeout"]
MORE = ["load_shedder", "backpressure", "adaptive_concurrency", "slow calls"]
STACKS = st.lists(st.sampled_from([*KINDS, *MORE]), unique=True, max_size=7).flatmap(
    lambda kinds: st.tuples(*(st.builds(Spec, st.just(kind), MODES) for kind in kinds))
)
CALLS = st.lists(
    st.tuples(
        st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=3), st.sampled_from([None, None, 0, 1, 2, 5])
    ),
    min_size=1,
    max_size=6,
)


async def story(specs, calls, mode, classify, form):
    """Make the calls one after another, each overlapping the next, and return all that can be seen."""
    clock = VirtualClock()
    patterns = [spec.build(clock) for spec in specs]
    context = Context("p", classify, mode, 4.0 if any(spec.kind == "timeout" for spec in specs) else None)
    run = form(patterns, context, clock)
    tasks = []
    for steps, cancel_after in calls:
        outcomes = iter([*steps, *[steps[-1]] * 10])

        async def func(outcomes=outcomes):
            return await STEPS[next(outcomes)](clock)

        task = asyncio.ensure_future(run(func, (), {}, ANYONE))
        tasks.append(task)
        for _ in range(cancel_after or 3):
            await asyncio.sleep(0)
        if cancel_after is not None:
            task.cancel()
        await clock.advance(1.5)
    await clock.advance(200)
    seen = [_seen(task) for task in tasks]
    return seen, [pattern.status() for pattern in patterns], clock.pending


def _seen(task):
    if not task.done():
        return "hangs"
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    if error is not None:
        return (
            type(error),
            str(error),
            type(error.__cause__),
            getattr(error, "neutral", None),
            getattr(error, "trace", None),
        )
    result = task.result()
    return result.status if isinstance(result, Status) else result


def fused(patterns, context, clock):
    return fuse(patterns, context, clock, fold) or folded(patterns, context, clock)


def wrapped(patterns, context, clock):
    snapshot = SimpleNamespace(replaced=False)

    def run(func, args, kwargs, caller):
        return fuse_around(func, None, snapshot, patterns, context, clock, fold)(*args, **kwargs)

    if shape_of(patterns, context, clock) is None:
        return folded(patterns, context, clock)
    return run


@settings(max_examples=250, deadline=None)
@given(STACKS, CALLS, st.sampled_from(["enforce", "observe"]), st.sampled_from([Classifier(), CLASSIFY]))
def test_the_fused_form_equals_the_fold(specs, calls, mode, classify):
    one = asyncio.run(story(specs, calls, mode, classify, folded))
    assert asyncio.run(story(specs, calls, mode, classify, fused)) == one
    assert asyncio.run(story(specs, calls, mode, classify, wrapped)) == one


def five(clock):
    specs = [Spec(kind, None) for kind in KINDS]
    return [spec.build(clock) for spec in specs]


def test_the_default_stack_has_a_fused_form_that_is_compiled_once():
    clock = VirtualClock()
    shape = shape_of(five(clock), Context(), clock)
    assert shape is not None
    assert bind(shape, RUN) is bind(shape_of(five(clock), Context(), clock), RUN)
    ast.parse(source(shape)[0])


def test_a_pattern_with_a_path_of_its_own_goes_through_the_fold():
    class Own(Bulkhead):
        def layer(self, inner, context):
            return inner

    assert shape_of([Own("x")], Context(), SYSTEM_CLOCK) is None


@pytest.mark.parametrize("kinds", [["bulkhead"], ["timeout"], KINDS, ["circuit_breaker", "rate_limiter", "bulkhead"]])
async def test_a_traceback_shows_at_most_two_frames_of_ours_for_a_policy(kinds):
    clock = VirtualClock()
    stack = [Spec(kind, None).build(clock) for kind in kinds if kind not in ("fallback", "retry")]
    policy = Policy("p", stack, clock=clock)

    @policy
    async def fail(what):
        raise LookupError(what)

    with pytest.raises(LookupError) as caught:
        await fail("it")
    ours = [frame for frame in traceback.extract_tb(caught.value.__traceback__) if "test_fused" not in frame.filename]
    assert len(ours) <= 2, ours
    assert ours[0].line == "result = await func(what)", "the generated line is there to be read"


async def test_a_refusal_shows_at_most_two_frames_of_ours():
    policy = Policy("p", [CircuitBreaker("p")])
    policy.circuit_breaker.force_open("for the test")

    @policy
    async def call():
        raise AssertionError

    with pytest.raises(CircuitBreakerOpenError) as caught:
        await call()
    assert len(traceback.extract_tb(caught.value.__traceback__)) <= 2
    assert caught.value.policy == "p"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


async def test_parameters_go_through_as_they_are():
    policy = Policy("p", [Bulkhead("x")])

    @policy
    async def takes(a, /, b=2, *, c=3):
        return a, b, c

    @policy
    async def takes_our_names(result, error=1, **caller):
        return result, error, caller

    @policy
    async def takes_our_name(started, now=5):
        return started, now

    assert await takes(1) == (1, 2, 3)
    assert await takes(1, b=4, c=5) == (1, 4, 5)
    assert await takes_our_names(1, x=2) == (1, 1, {"x": 2})
    assert await takes_our_name(1) == (1, 5)
    with pytest.raises(TypeError, match="takes"):
        takes(1, 2, 3)


async def test_a_parameter_may_have_the_name_of_a_builtin_that_the_text_calls():
    outer, inner = (Policy(name, [Deadline(DeadlineConfig(timeout=3))]) for name in ("outer", "inner"))

    @inner
    async def draw(min, max, id=0):
        return min, max, id

    @outer
    async def nested():
        return await draw(1, max=6)

    assert await nested() == (1, 6, 0)


OPENED = True


class Gate(Guard[BulkheadConfig]):
    """A guard that somebody else wrote: what it goes by may be another at any time."""

    key, config_type, pattern_type = "gate", BulkheadConfig, Bulkhead.pattern_type

    def admit(self, caller):
        return object() if OPENED else None

    def refusal(self, caller):
        return BulkheadFullError("closed", self.name)

    def settle(self, ticket, outcome, started):
        return None


class Patient(Gate):
    async def enter(self, caller, trace):
        return object()


@pytest.mark.parametrize("form", ["called", "decorated", "alone"])
@pytest.mark.parametrize("kind", [Gate, Patient])
async def test_a_guard_of_somebody_else_does_what_its_methods_do(kind, form, monkeypatch):
    gate = kind("gate", BulkheadConfig())
    policy = Policy("p", [Bulkhead("x"), gate])
    assert shape_of(policy.patterns, Context(), SYSTEM_CLOCK) is None, "it goes through the fold"

    async def ok():
        return "ok"

    around = policy(ok)
    call = {"called": lambda: policy.call(ok), "decorated": around, "alone": lambda: gate.execute(ok)}[form]
    assert await call() == "ok"
    monkeypatch.setitem(globals(), "OPENED", False)
    if kind is Patient:
        assert await call() == "ok"
    else:
        with pytest.raises(BulkheadFullError, match="closed"):
            await call()


async def test_a_method_is_decorated_too():
    class Client:
        @Policy("p", [Bulkhead("x"), TimeoutManager()])
        async def get(self, path):
            return self, path

    client = Client()
    assert await client.get("/") == (client, "/")


def test_what_has_no_source_is_called(monkeypatch):
    text_of.cache_clear()
    monkeypatch.setattr("linecache.getlines", lambda file: [])
    try:
        shape = shape_of([Bulkhead("x")], Context(), SYSTEM_CLOCK)
        assert "p0.admit(caller)" in source(shape)[0]
    finally:
        text_of.cache_clear()


def test_a_source_that_has_changed_since_is_not_written_out(monkeypatch):
    text_of.cache_clear()
    monkeypatch.setattr("linecache.getlines", lambda file: ["def admit(self, caller):\n", "    return None\n"] * 400)
    try:
        shape = shape_of([Bulkhead("x")], Context(), SYSTEM_CLOCK)
        assert "p0.admit(caller)" in source(shape)[0]
    finally:
        text_of.cache_clear()


async def test_a_method_that_an_instance_replaces_is_honoured():
    pool = Bulkhead("x")
    pool.admit = lambda caller: None  # type: ignore[method-assign]
    assert shape_of([pool], Context(), SYSTEM_CLOCK) is None


async def test_a_handler_that_comes_in_mid_call_hears_of_the_end():
    pool, heard = Bulkhead("x"), []
    policy = Policy("p", [pool])

    @policy
    async def call():
        pool.events.add_handler("*", lambda event: heard.append(event.event_type.name))

    await call()
    for _ in range(100):  # handlers run after the calls
        await asyncio.sleep(0)
    assert heard == ["SLOT_RELEASED"]
    pool.events.clear()
    assert audience.size >= 0
