import asyncio
import gc
import json
import pickle

import pytest

import aioresilience
from aioresilience import OperationTimeoutError, Registry, UnknownPolicyError, configure, get_registry, resilient
from aioresilience.bulkhead import Bulkhead
from aioresilience.config import ConfigError
from aioresilience.policy import BUILTIN
from aioresilience.registry import default
from aioresilience.registry.names import declared_names
from aioresilience.scope import Timeline
from aioresilience.testing import EventLog, VirtualClock, bypass, override

BASIC = """
version: 1
policies:
  payments: {timeout: 2s, retry: {max_attempts: 3, initial_delay: 10ms}, bulkhead: 2}
  search: {bulkhead: 1}
"""


@pytest.fixture
def registry():
    return Registry.from_text(BASIC, name="inline")


@pytest.fixture
def no_default(monkeypatch):
    monkeypatch.setattr(default, "_default", None)
    monkeypatch.setattr("aioresilience.registry.names._default", set())


async def nothing():
    return "done"


async def test_a_policy_protects_a_call_a_function_and_a_block(registry):
    policy = registry.get("payments")
    assert await policy.call(nothing) == "done"
    assert await policy(nothing)() == "done"
    async with registry["search"].admit():
        assert registry["search"].bulkhead.machine.active == 1
    assert registry["search"].bulkhead.machine.active == 0


def test_the_registry_is_a_collection_of_names(registry):
    assert list(registry) == ["payments", "search"]
    assert len(registry) == 2
    assert "payments" in registry
    assert "nope" not in registry
    assert registry.get("search") is registry["search"]


def test_patterns_are_reached_by_name_and_missing_ones_are_none(registry):
    policy = registry.get("payments")
    assert policy.bulkhead.max_concurrent == 2
    assert policy.circuit_breaker is None
    assert [pattern.key for pattern in policy.patterns] == ["retry", "bulkhead", "timeout"]
    assert (policy.name, policy.mode, policy.generation) == ("payments", "enforce", 1)


def test_an_unknown_policy_is_an_error_that_lists_near_names(registry):
    with pytest.raises(UnknownPolicyError, match="did you mean 'payments'") as caught:
        registry.get("paymnts")
    assert isinstance(caught.value, KeyError)
    assert caught.value.near == ("payments",)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    with pytest.raises(UnknownPolicyError, match="known: payments, search"):
        registry["zzz"]


def test_unknown_policies_may_be_handed_the_defaults():
    text = "version: 1\nsettings: {on_unknown_policy: default}\ndefaults: {bulkhead: 7}\npolicies: {}\n"
    assert Registry.from_text(text).get("anything").bulkhead.max_concurrent == 7


def test_a_bad_document_raises_with_every_diagnostic():
    with pytest.raises(ConfigError) as caught:
        Registry.from_text("version: 1\npolicies:\n  a: {retyr: 3}\n  b: {timeout: -1s}\n", name="x.yaml")
    assert isinstance(caught.value, ValueError)
    assert [(d.line, d.file) for d in caught.value.diagnostics] == [(3, "x.yaml"), (4, "x.yaml")]
    assert "did you mean 'retry'?" in str(caught.value)


def test_a_missing_file_names_its_absolute_path(tmp_path):
    with pytest.raises(ConfigError, match=str(tmp_path / "nope.yaml")):
        Registry.from_file(tmp_path / "nope.yaml", environ={})


def test_a_broken_file_at_start_gives_way_to_the_fallback_loudly(tmp_path):
    (tmp_path / "main.yaml").write_text("version: [")
    (tmp_path / "fallback.yaml").write_text(BASIC)
    environ = {"AIORESILIENCE_FALLBACK_CONFIG": str(tmp_path / "fallback.yaml")}
    registry = Registry.from_file(tmp_path / "main.yaml", environ=environ)
    assert registry.status()["on_fallback"] is True
    assert "payments" in registry
    (tmp_path / "main.yaml").write_text(BASIC + "  third: {bulkhead: 1}\n")
    assert registry.reload().outcome == "applied"
    assert registry.status()["on_fallback"] is False


def test_a_registry_is_made_of_a_mapping_or_of_variables():
    mapping = {"version": 1, "policies": {"a": {"bulkhead": 3}}}
    assert Registry.from_mapping(mapping).get("a").bulkhead.max_concurrent == 3
    environ = {"AIORESILIENCE_CONFIG_INLINE": BASIC}
    assert list(Registry.from_env(environ=environ)) == ["payments", "search"]


def test_the_status_is_fit_for_json(registry):
    registry.get("payments")
    status = json.loads(json.dumps(registry.status()))
    assert status["generation"] == 1
    assert status["last_reload_successful"] is True
    assert status["policies"]["payments"]["used"] is True
    assert status["policies"]["search"]["used"] is False
    assert {"revision", "sources", "watcher", "last_error", "config_age_seconds", "overrides_active"} <= set(status)


def test_callables_are_named_at_construction_and_later():
    text = "version: 1\npolicies: {a: {fallback: {call: cached}}}\n"
    with pytest.raises(ConfigError, match="cached"):
        Registry.from_text(text)
    registry = Registry.from_text(text, callables={"cached": nothing})

    async def fail():
        raise ConnectionError

    assert asyncio.run(registry.get("a").call(fail)) == "done"
    registry.register("other", nothing)
    assert registry.apply(text.replace("cached", "other")).outcome == "applied"
    with pytest.raises(TypeError, match="function"):
        registry.register("wrong", 5)


async def test_shared_instances_are_one_and_their_modes_may_differ():
    registry = Registry.from_text(
        "version: 1\nshared: {db: {bulkhead: 1}}\npolicies:\n"
        "  a: {bulkhead: {use: db}}\n  b: {bulkhead: {use: db, mode: observe}}\n"
    )
    a, b = registry.get("a"), registry.get("b")
    assert a.bulkhead is b.bulkhead
    async with a.admit():
        assert await b.call(nothing) == "done"
        with pytest.raises(aioresilience.BulkheadFullError):
            await a.call(nothing)


async def test_bind_gives_a_view_with_a_key():
    text = "version: 1\npolicies: {a: {rate_limiter: {rate: 1/minute, scope: key}}}\n"
    registry = Registry.from_text(text, clock=VirtualClock())
    policy = registry.get("a")
    assert await policy.bind(key="x").call(nothing) == "done"
    assert await policy.bind(key="y").call(nothing) == "done"
    with pytest.raises(aioresilience.RateLimitExceededError) as caught:
        await policy.bind(key="x").call(nothing)
    assert caught.value.retry_after == pytest.approx(60, abs=15)
    assert (caught.value.policy, caught.value.pattern_type) == ("a", "rate_limiter")


async def test_admit_refuses_what_it_cannot_apply(registry):
    with pytest.raises(TypeError, match=r"retry.*policy\.call"):
        registry.get("payments").admit()


async def test_admit_goes_on_when_a_reload_brings_retry(registry):
    policy = registry.get("search")
    with EventLog() as log:
        async with policy.admit():
            pass
        result = registry.apply(BASIC.replace("search: {bulkhead: 1}", "search: {bulkhead: 1, retry: 3}"))
        assert result.outcome == "applied"
        async with policy.admit():
            assert policy.bulkhead.machine.active == 1
        await log.wait_for("pattern_skipped")


async def test_admit_applies_bounds_and_gives_everything_back():
    clock = VirtualClock()
    text = "version: 1\npolicies: {a: {deadline: 2s, bulkhead: 1}}\n"
    policy = Registry.from_text(text, clock=clock).get("a")

    async def block():
        async with policy.admit():
            await asyncio.Event().wait()

    task = asyncio.create_task(block())
    await clock.advance(3)
    assert isinstance(task.exception(), aioresilience.OperationTimeoutError)
    assert policy.bulkhead.machine.active == 0
    assert policy.bulkhead.counts.failed == 1


async def test_admit_refuses_a_block_whose_time_was_over_before():
    clock = VirtualClock()
    registry = Registry.from_text("version: 1\npolicies: {p: {bulkhead: 1, deadline: 5s}}", clock=clock, environ={})
    policy, scope = registry.get("p"), Timeline(clock=clock, is_deadline=True).open(1.0)
    try:
        clock.stall(2.0)
        with pytest.raises(OperationTimeoutError, match="passed 1 s before"):
            await policy.admit().enter()
    finally:
        scope.leave(None)
    assert policy.bulkhead.machine.active == 0
    assert policy.deadline.counts.neutral == 1


@pytest.mark.parametrize(("mode", "cut"), [("enforce", True), ("observe", False)])
async def test_admit_applies_the_breakers_own_timeout(mode, cut):
    clock = VirtualClock()
    block = f"{{failure_threshold: 1, timeout: 2s, mode: {mode}}}"
    registry = Registry.from_text(f"version: 1\npolicies: {{p: {{circuit_breaker: {block}}}}}", clock=clock, environ={})
    policy, done = registry.get("p"), asyncio.Event()

    async def work():
        async with policy.admit():
            await done.wait()

    task = asyncio.create_task(work())
    await clock.advance(3.0)
    done.set()
    (raised,) = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(raised, OperationTimeoutError) is cut
    assert policy.circuit_breaker.status()["state"] == ("open" if cut else "closed")
    assert policy.circuit_breaker.counts.observed == (0 if cut else 1)
    assert clock.pending == 0


async def test_admit_settles_what_it_took_when_a_later_guard_refuses():
    text = "version: 1\npolicies: {a: {order: [rate_limiter, bulkhead], rate_limiter: 5/minute, bulkhead: 1}}\n"
    policy = Registry.from_text(text, clock=VirtualClock()).get("a")
    async with policy.admit():
        with pytest.raises(aioresilience.BulkheadFullError):
            async with policy.admit():
                pass
    assert policy.rate_limiter.counts.neutral == 1
    assert policy.bulkhead.machine.active == 0


async def test_resilient_follows_the_default_registry(no_default, tmp_path):
    @resilient("payments")
    async def pay(amount):
        "Pay."
        return amount

    (tmp_path / "r.yaml").write_text(BASIC)
    first = configure(tmp_path / "r.yaml")
    assert get_registry() is first
    assert await pay(3) == 3
    assert first.get("payments").bulkhead.counts.started == 1
    second = configure(tmp_path / "r.yaml")
    assert await pay(4) == 4
    assert second.get("payments").bulkhead.counts.started == 1
    assert pay.__name__ == "pay"
    assert pay.__doc__ == "Pay."


async def test_configure_checks_every_name_that_code_uses(no_default, tmp_path):
    (tmp_path / "r.yaml").write_text(BASIC)
    before = configure(tmp_path / "r.yaml")

    @resilient("paymnts")
    async def pay():
        pass

    with pytest.raises(UnknownPolicyError, match="did you mean 'payments'"):
        configure(tmp_path / "r.yaml")
    assert get_registry() is before


async def test_without_configure_the_first_use_reads_the_environment(no_default, tmp_path, monkeypatch):
    (tmp_path / "r.yaml").write_text(BASIC)
    monkeypatch.setenv("AIORESILIENCE_CONFIG", str(tmp_path / "r.yaml"))

    @resilient("search")
    async def work():
        return "done"

    assert await work() == "done"
    assert "search" in get_registry()


async def test_resilient_keys_and_priorities_are_called_with_the_calls_arguments():
    text = "version: 1\npolicies: {a: {rate_limiter: {rate: 1/minute, scope: key}}}\n"
    registry = Registry.from_text(text, clock=VirtualClock())

    @resilient("a", key=lambda user, *_, **__: user, priority="high", registry=registry)
    async def pay(user, amount):
        return amount

    assert await pay("x", 1) == 1
    assert await pay("y", 2) == 2
    with pytest.raises(aioresilience.RateLimitExceededError):
        await pay("x", 3)
    assert declared_names(registry) == {"a"}


def test_verify_finds_names_that_code_uses_and_the_file_lacks(registry):
    @resilient("serch", registry=registry)
    async def work():
        pass

    with pytest.raises(UnknownPolicyError, match="search"):
        registry.verify()


async def test_a_method_can_be_resilient(registry):
    class Service:
        factor = 2

        @resilient("search", registry=registry)
        async def double(self, value):
            return value * self.factor

    assert await Service().double(4) == 8


def test_resilient_wants_a_name_and_an_async_function():
    with pytest.raises(TypeError, match="name"):
        resilient(nothing)
    with pytest.raises(TypeError, match="async"):
        resilient("x")(lambda: 1)


async def test_bypass_lets_everything_through_and_ends():
    registry = Registry.from_text(BASIC)
    policy = registry.get("search")
    async with policy.admit():
        with bypass():
            assert await policy.call(nothing) == "done"
            assert await registry.get("payments").call(nothing) == "done"
        with pytest.raises(aioresilience.BulkheadFullError):
            await policy.call(nothing)


def test_override_lays_fields_over_one_policy_and_takes_them_off():
    registry = Registry.from_text(BASIC)
    policy = registry.get("payments")
    before = policy.bulkhead
    with override("payments", registry=registry, bulkhead=9, retry=None):
        assert policy.bulkhead.max_concurrent == 9
        assert policy.retry is None
    assert policy.bulkhead is before
    assert policy.bulkhead.max_concurrent == 2
    assert policy.retry is not None
    with pytest.raises(ConfigError), override("payments", registry=registry, bulkhead=-1):
        pass
    assert policy.bulkhead.max_concurrent == 2
    with pytest.raises(UnknownPolicyError), override("nope", registry=registry):
        pass


def test_policies_and_registries_are_collected_when_nobody_holds_them():
    import weakref

    registry = Registry.from_text(BASIC)
    policy = weakref.ref(registry.get("payments"))
    del registry
    gc.collect()
    assert policy() is None


def test_the_schema_is_offered():
    assert Registry.json_schema()["$schema"].startswith("http://json-schema.org/draft-07")


def test_the_status_asks_a_block_once_that_many_policies_share(monkeypatch):
    asked, status = [], Bulkhead.status
    policies = {f"p{number}": {"bulkhead": {"use": "all"}} for number in range(20)} | {"own": {"bulkhead": 3}}
    document = {"version": 1, "shared": {"all": {"bulkhead": 5}}, "policies": policies}
    registry = Registry.from_mapping(document, environ={})
    for name in registry:
        registry.get(name)
    monkeypatch.setattr(Bulkhead, "status", lambda self: asked.append(self.name) or status(self))
    shown = registry.status()["policies"]
    assert sorted(asked) == ["all", "own"]
    assert {policy["patterns"]["bulkhead"]["name"] for name, policy in shown.items() if name != "own"} == {"all"}


class Alike(Bulkhead):
    """A pattern of somebody who takes equal ones for the same."""

    key = "alike"
    stands_outside = "timeout"

    def __eq__(self, other):
        return isinstance(other, Alike)

    __hash__ = None


def test_patterns_that_are_equal_have_each_their_own_state():
    registry = Registry.from_mapping(
        {"version": 1, "policies": {"a": {"alike": 1}, "b": {"alike": 2}}}, environ={}, patterns=(*BUILTIN, Alike)
    )
    for name in registry:
        registry.get(name)
    shown = registry.status()["policies"]
    assert [shown[name]["patterns"]["alike"]["name"] for name in "ab"] == ["a", "b"]
