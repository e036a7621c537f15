"""The fused form and the fold mean the same, for every stack, mode, outcome and cancel."""

import ast
import asyncio
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from hypothesis import given, settings, strategies as st

from aioresilience.bulkhead import Bulkhead, BulkheadConfig
from aioresilience.calls import ANYONE
from aioresilience.circuit_breaker import CircuitBreaker, CircuitConfig
from aioresilience.clock import SYSTEM_CLOCK
from aioresilience.exceptions import BulkheadFullError
from aioresilience.failures import Classifier, Rule
from aioresilience.fallback import FallbackConfig, FallbackHandler
from aioresilience.pattern import Context
from aioresilience.policy.fused import RUN, bind, fuse, fuse_around, source
from aioresilience.policy.shape import shape_of
from aioresilience.policy.snapshot import fold, folded
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
            "bulkhead": lambda: Bulkhead(
                "p", BulkheadConfig(max_concurrent=1, max_waiting=1, timeout=2, mode=self.mode), clock=clock
            ),
            "timeout": lambda: TimeoutManager(TimeoutConfig(timeout=4, mode=self.mode), clock=clock, name="p"),
        }
        return builders[self.kind]()


KINDS = ["fallback", "deadline", "retry", "circuit_breaker", "rate_limiter", "bulkhead", "timeout"]
STACKS = st.lists(st.sampled_from(KINDS), unique=True, max_size=6).flatmap(
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


@settings(max_examples=150, deadline=None)
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


async def test_a_traceback_shows_one_frame_of_ours():
    import traceback

    clock = VirtualClock()
    patterns = [Bulkhead("x", clock=clock), TimeoutManager(TimeoutConfig(timeout=5), clock=clock)]
    run = fuse(patterns, Context(), clock, fold)

    async def fail():
        raise LookupError

    with pytest.raises(LookupError) as caught:
        await run(fail, (), {}, ANYONE)
    frames = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
    ours = [name for name in frames if "test_fused" not in name]
    assert len(ours) <= 4
