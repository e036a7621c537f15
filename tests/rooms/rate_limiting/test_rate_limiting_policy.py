"""The pattern: rejecting, refunding, keys, errors, events, configuration."""

from __future__ import annotations

import asyncio
import json
import pickle

import pytest
from pydantic import ValidationError

from aioresilience.calls import ANYONE, Call, Caller, invoker
from aioresilience.events import EventType
from aioresilience.exceptions import BulkheadFullError, ExceptionConfig, RateLimitExceededError, RateLimitReason
from aioresilience.failures import FAILURE, NEUTRAL, REJECTED, SUCCESS
from aioresilience.pattern import Context
from aioresilience.rate_limiting import MissingKeyError, RateLimit, RateLimiterConfig
from aioresilience.testing import VirtualClock
from aioresilience.units import Rate


def limiter(clock=None, exceptions=None, **fields):
    fields = {"rate": "2/minute"} | fields
    return RateLimit("r", RateLimiterConfig(**fields), exceptions, clock=clock or VirtualClock())


async def ok():
    return "ok"


async def told():
    for _ in range(10):
        await asyncio.sleep(0)


def called_by(caller, limit, func=ok, mode="enforce"):
    layer = limit.wrap(invoker(limit.clock), Context(mode=mode))
    return layer(Call(func, (), {}, caller))


async def test_it_admits_the_permits_and_rejects_the_rest():
    limit = limiter()
    assert [await limit.execute(ok) for _ in range(2)] == ["ok", "ok"]
    with pytest.raises(RateLimitExceededError):
        await limit.execute(ok)
    assert limit.counts.started == limit.counts.succeeded == 2
    assert limit.counts.rejected["RATE_LIMIT_EXCEEDED"] == 1


async def test_the_error_says_who_why_and_when():
    clock = VirtualClock()
    limit = limiter(clock)
    limit.policy = "payments"
    await limit.execute(ok), await limit.execute(ok)
    clock.move(10.0)
    with pytest.raises(RateLimitExceededError, match="2/minute") as caught:
        await limit.execute(ok)
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.policy, error.pattern_name, error.pattern_type) == ("payments", "r", "rate_limiter")
    assert error.reason is RateLimitReason.RATE_LIMIT_EXCEEDED
    assert error.retry_after == pytest.approx(20.0)
    clock.move(error.retry_after)
    assert await limit.execute(ok) == "ok"


@pytest.mark.parametrize("algorithm", ["gcra", "sliding_window", "leaky_bucket"])
@pytest.mark.parametrize(
    ("outcome", "refunded"), [(REJECTED, True), (SUCCESS, False), (FAILURE, False), (NEUTRAL, False)]
)
def test_only_a_rejection_further_in_refunds(algorithm, outcome, refunded):
    limit = limiter(rate="1/minute", algorithm=algorithm)
    assert limit.settle(limit.admit(ANYONE), outcome, None) is None
    assert (limit.admit(ANYONE) is not None) is refunded


async def test_a_full_bulkhead_further_in_costs_no_permit():
    limit = limiter(rate="1/minute")

    async def full(call):
        raise BulkheadFullError("full")

    layer = limit.wrap(full, Context())
    for _ in range(5):
        with pytest.raises(BulkheadFullError):
            await layer(Call(ok, (), {}, ANYONE))
    assert await limit.execute(ok) == "ok"


async def test_keys_have_limits_of_their_own():
    limit = limiter(rate="1/minute", scope="key")
    for key in ("a", "b", ""):
        assert await called_by(Caller(key=key), limit) == "ok"
        with pytest.raises(RateLimitExceededError) as caught:
            await called_by(Caller(key=key), limit)
        assert caught.value.metadata["key"] == key
    assert limit.status()["live_keys"] == 2  # the empty key counts as the shared one


async def test_under_policy_scope_keys_share_one_limit():
    limit = limiter(rate="1/minute")
    await called_by(Caller(key="a"), limit)
    with pytest.raises(RateLimitExceededError):
        await called_by(Caller(key="b"), limit)


async def test_a_key_that_is_no_plain_string_is_read_as_one():
    class Name(str):
        __slots__ = ()

        def __hash__(self):
            raise AssertionError

    limit = limiter(rate="1/minute", scope="key")
    await called_by(Caller(key=Name("7")), limit)
    with pytest.raises(RateLimitExceededError):
        await called_by(Caller(key=7), limit)  # type: ignore[arg-type]


async def test_a_call_without_a_key_is_a_mistake_that_names_its_fix():
    limit = limiter(scope="key")
    with pytest.raises(TypeError, match=r"bind\(key=") as caught:
        await limit.execute(ok)
    assert isinstance(caught.value, MissingKeyError)
    assert caught.value.pattern_name == "r"
    assert limit.counts.started == sum(limit.counts.rejected.values()) == 0


async def test_observe_lets_a_call_without_a_key_through():
    limit = limiter(scope="key")
    limit.events.add_handler("*", lambda event: None)
    assert await called_by(ANYONE, limit, mode="observe") == "ok"
    assert limit.counts.observed == 1


async def test_calls_without_a_key_share_one_limit_where_a_reload_brought_in_keys():
    limit, seen = limiter(rate="2/minute"), []
    limit.events.add_handler("*", seen.append)
    limit.retune(RateLimiterConfig(rate="2/minute", scope="key"))
    assert await limit.execute(ok) == await limit.execute(ok) == "ok"
    with pytest.raises(RateLimitExceededError):
        await limit.execute(ok)
    await told()
    assert [event.event_type for event in seen].count(EventType.KEY_MISSING) == 1
    assert limit.status()["keyless"] == 3


async def test_past_max_limiters_new_keys_share_one_limit_with_an_event_and_a_counter():
    clock, seen = VirtualClock(), []
    limit = limiter(clock, rate="1/minute", scope="key", max_limiters=2)
    limit.events.add_handler("*", seen.append)
    for key in ("a", "b", "c"):
        await called_by(Caller(key=key), limit)
    with pytest.raises(RateLimitExceededError, match="table of keys is full") as caught:
        await called_by(Caller(key="d"), limit)
    assert caught.value.reason is RateLimitReason.QUOTA_EXCEEDED
    assert caught.value.retry_after == pytest.approx(60.0)
    await told()
    assert [event.event_type for event in seen].count(EventType.KEY_OVERFLOW) == 1
    assert limit.status()["overflowed"] == 2
    clock.move(61.0)
    assert await called_by(Caller(key="d"), limit) == await called_by(Caller(key="e"), limit) == "ok"
    assert limit.status()["overflowed"] == 2


async def test_observe_charges_what_it_admits_and_lets_the_rest_through():
    limit = limiter(rate="2/minute")
    for _ in range(5):
        assert await called_by(ANYONE, limit, mode="observe") == "ok"
    assert (limit.counts.started, limit.counts.observed) == (2, 3)
    with pytest.raises(RateLimitExceededError):
        await limit.execute(ok)


async def test_a_sliding_window_names_its_reason():
    limit = limiter(rate="1/minute", algorithm="sliding_window")
    await limit.execute(ok)
    with pytest.raises(RateLimitExceededError) as caught:
        await limit.execute(ok)
    assert caught.value.reason is RateLimitReason.WINDOW_EXHAUSTED


async def test_events_name_the_key_and_what_is_left():
    limit, seen = limiter(rate="2/minute", scope="key"), []
    limit.events.add_handler("*", seen.append)
    for _ in range(2):
        await called_by(Caller(key="a"), limit)
    with pytest.raises(RateLimitExceededError):
        await called_by(Caller(key="a"), limit)
    await told()
    of_limit = [e for e in seen if e.event_type in (EventType.REQUEST_ALLOWED, EventType.REQUEST_REJECTED)]
    assert [(e.event_type.name, e.user_id, e.remaining, e.current_count) for e in of_limit] == [
        ("REQUEST_ALLOWED", "a", 1, 1), ("REQUEST_ALLOWED", "a", 0, 2), ("REQUEST_REJECTED", "a", 0, 2),
    ]  # fmt: skip


async def test_callbacks_of_an_exception_config_run():
    contexts = []
    limit = limiter(rate="1/minute", exceptions=ExceptionConfig(exception_type=KeyError, on_exception=contexts.append))
    await limit.execute(ok)
    with pytest.raises(KeyError):
        await limit.execute(ok)
    assert contexts[0].reason is RateLimitReason.RATE_LIMIT_EXCEEDED


async def test_the_status_is_fit_for_json():
    limit = limiter(rate="10/minute", burst=5)
    await limit.execute(ok)
    status = json.loads(json.dumps(limit.status()))
    expected = {"algorithm": "gcra", "rate": "10/minute", "burst": 5, "scope": "policy", "remaining": 4, "waiting": 0}
    assert expected.items() <= status.items()


async def test_a_plain_function_runs_in_a_worker_thread():
    assert await limiter().execute(lambda: 7) == 7


def test_config_fields_read_on_the_instance():
    limit = limiter(rate="100/minute", burst=20, wait="2s")
    assert (limit.rate, limit.burst, limit.config.wait) == (Rate(100, 60.0), 20, 2.0)
    assert limit.max_limiters == 10000


def test_without_a_rate_the_error_says_what_to_write():
    with pytest.raises(TypeError, match="100/minute"):
        RateLimit("r")


def test_a_backend_is_refused_at_build():
    with pytest.raises(ValueError, match="backend"):
        limiter(backend="main")


@pytest.mark.parametrize(
    "rate",
    ["5/second", {"permits": 5, "per": "1s"}, {"permits": 5, "per": 1}, Rate(5, 1.0)],
)
def test_a_rate_is_written_in_several_ways(rate):
    assert RateLimiterConfig(rate=rate).rate == Rate(5, 1.0)


@pytest.mark.parametrize(
    "rate",
    [
        "", "5", "5/fortnight", "0/second", "-1/second", "1.5/second", "five/second", " 5/second", 5, True, None,
        (5, 1.0),
        {"permits": 5}, {"permits": True, "per": 1}, {"permits": 0, "per": 1}, {"permits": 5, "per": 0},
        {"permits": 5, "per": float("nan")}, {"permits": 5, "per": float("inf")}, {"permits": 5, "per": -1},
        {"permits": 5, "per": 1, "burst": 2}, "10000000000/second", {"permits": 5, "per": 1e300},
        {"permits": 10**9, "per": 1e-9}, Rate(5, float("nan")),
    ],
)  # fmt: skip
def test_a_malformed_rate_is_refused(rate):
    with pytest.raises(ValidationError):
        RateLimiterConfig(rate=rate)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("burst", 0), ("burst", True), ("burst", 1.5), ("burst", -1), ("wait", -1), ("wait", float("nan")),
        ("wait", True), ("scope", "user"), ("algorithm", "token_bucket"), ("max_limiters", 0), ("max_limiters", True),
        ("unknown", 1), ("backend", 5),
    ],
)  # fmt: skip
def test_invalid_fields_are_refused_with_their_path(field, value):
    with pytest.raises(ValidationError) as caught:
        RateLimiterConfig(rate="5/second", **{field: value})
    assert caught.value.errors()[0]["loc"][0] == field


def test_a_sliding_window_has_no_burst():
    with pytest.raises(ValidationError, match="no burst"):
        RateLimiterConfig(rate="5/second", algorithm="sliding_window", burst=2)
    assert RateLimiterConfig(rate="5/second", algorithm="sliding_window", burst=5).capacity == 5


def test_the_schema_takes_both_forms_of_a_rate():
    field = RateLimiterConfig.model_json_schema()["properties"]["rate"]
    assert field["type"] == ["string", "object"]
    assert field["additionalProperties"] is False
    assert RateLimiterConfig.short == "rate"
    described = RateLimiterConfig.model_json_schema()["properties"]
    assert all(described[name].get("description") for name in RateLimiterConfig.model_fields)


def test_refunds_and_charges_reconcile_when_rejections_come_from_other_threads():
    limit = limiter(rate="5/hour")
    tickets = [limit.admit(ANYONE) for _ in range(5)]

    async def settle_elsewhere():
        await asyncio.gather(*(asyncio.to_thread(limit.settle, ticket, REJECTED, None) for ticket in tickets))

    asyncio.run(settle_elsewhere())
    assert limit.status()["remaining"] == 5
