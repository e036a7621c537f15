"""What a review found once, and must not come back."""

import asyncio
import contextlib
import gc
import threading
import time
import weakref

import pytest

import aioresilience
from aioresilience import CircuitBreaker, CircuitConfig, Registry, configure, resilient
from aioresilience.bulkhead import Bulkhead, BulkheadConfig
from aioresilience.config import ConfigError
from aioresilience.pattern import Context
from aioresilience.policy import BUILTIN, Policy, bypass
from aioresilience.registry import default
from aioresilience.retry import RetryConfig, RetryPolicy
from aioresilience.testing import VirtualClock, override
from aioresilience.timeout import TimeoutConfig, TimeoutManager, with_timeout

TWO = "version: 1\npolicies:\n  a: {bulkhead: 1, timeout: 1s}\n  b: {bulkhead: 2}\n"


async def nothing():
    return "done"


async def test_a_result_whose_status_cannot_be_read_leaves_no_place_taken():
    class Detached:
        @property
        def status(self):
            raise RuntimeError("detached")

    async def work():
        return Detached()

    text = "version: 1\npolicies: {a: {classify: {failure: {status: [500]}}, bulkhead: 1}}"
    policy = Registry.from_text(text).get("a")
    for _ in range(3):
        await policy.call(work)
    assert policy.bulkhead.machine.active == 0


def test_a_loop_for_each_request_leaves_no_loop_behind():
    policy = Policy("p", [TimeoutManager(TimeoutConfig(timeout=60), name="p")])
    loops = []

    async def work():
        loops.append(weakref.ref(asyncio.get_running_loop()))

    for _ in range(20):
        asyncio.run(policy.call(work))
    gc.collect()
    assert sum(loop() is not None for loop in loops) <= 2


async def test_no_timer_is_left_for_each_call_whatever_the_form():
    text = "version: 1\npolicies: {a: {deadline: 50s, timeout: 30s}}"
    policy = Registry.from_text(text).get("a")
    loop = asyncio.get_running_loop()
    for _ in range(200):
        await policy.call(nothing)
        async with policy.admit():
            pass
        await with_timeout(nothing, 30)
        await with_timeout(nothing, 20)
    waiting = [timer for timer in loop._scheduled if not timer.cancelled()]
    assert len(waiting) <= 8


async def test_a_retry_may_take_a_place_while_a_left_behind_thread_holds_another():
    gate, clock, began = threading.Event(), VirtualClock(), threading.Semaphore(0)
    policy = Policy(
        "p",
        [
            RetryPolicy(RetryConfig(max_attempts=2, initial_delay=0), name="p", clock=clock),
            Bulkhead("p", BulkheadConfig(max_concurrent=1, max_waiting=5), clock=clock),
            TimeoutManager(TimeoutConfig(timeout=0.03), name="p", clock=clock),
        ],
        clock=clock,
    )
    task = asyncio.ensure_future(policy.call(lambda: began.release() or gate.wait(30)))
    assert await asyncio.to_thread(began.acquire, timeout=15)
    await clock.advance(0.045)
    assert not task.done()
    gate.set()
    assert await asyncio.wait_for(task, 15) is True
    end = time.monotonic() + 15
    while policy.bulkhead.machine.active and time.monotonic() < end:
        await asyncio.sleep(0.001)
    assert policy.bulkhead.machine.active == 0


async def test_a_pattern_that_refuses_its_config_changes_nothing_anywhere():
    class Stubborn(Bulkhead):
        def retune(self, config):
            if config.max_concurrent == 9:
                raise RuntimeError("not nine")
            super().retune(config)

    kinds = tuple(Stubborn if kind is Bulkhead else kind for kind in BUILTIN)
    registry = Registry.from_text(TWO, patterns=kinds)
    a, b = registry.get("a"), registry.get("b")
    result = registry.apply(TWO.replace("timeout: 1s", "timeout: 2s").replace("bulkhead: 2", "bulkhead: 9"))
    assert result.outcome == "rejected"
    assert "policies.b: a pattern refused its new config: RuntimeError: not nine" in result.message
    assert (registry.generation, a.timeout.timeout, b.bulkhead.max_concurrent) == (1, 1.0, 2)
    assert registry.status()["reloads"]["rejected"] == 1
    assert registry.apply(TWO.replace("bulkhead: 2", "bulkhead: 3")).outcome == "applied"


def test_a_file_of_one_policy_that_loses_it_is_refused(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("version: 1\npolicies: {a: {bulkhead: 1}}\n")
    registry = Registry.from_file(path, environ={})
    path.write_text("version: 1\n")
    assert registry.reload().outcome == "rejected"
    assert "a" in registry


def test_the_end_of_a_file_is_remembered_across_an_applied_document(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(TWO + "end: true\n")
    registry = Registry.from_file(path, environ={})
    registry.apply(TWO.replace("bulkhead: 2", "bulkhead: 3"))
    path.write_text(TWO)
    assert registry.reload().outcome == "rejected"


def test_a_removed_policy_stays_as_it_was_where_unknown_names_get_the_defaults():
    head = "version: 1\nsettings: {on_unknown_policy: default, shrink: allow}\ndefaults: {timeout: 9s}\n"
    registry = Registry.from_text(head + "policies: {a: {bulkhead: 1}, b: {bulkhead: 2}}")
    bulkhead = registry.get("a").bulkhead
    registry.apply(head + "policies: {b: {bulkhead: 2}}")
    assert registry.get("a").bulkhead is bulkhead


async def test_an_empty_registry_is_a_registry():
    registry = Registry.from_text("version: 1\nsettings: {on_unknown_policy: default}\npolicies: {}")
    assert registry

    @resilient("x", registry=registry)
    async def work():
        return "done"

    assert await work() == "done"


def test_first_use_from_many_threads_makes_one_registry(tmp_path, monkeypatch):
    (tmp_path / "r.yaml").write_text(TWO)
    monkeypatch.setattr(default, "_default", None)
    monkeypatch.setattr("aioresilience.registry.names._default", set())
    monkeypatch.setenv("AIORESILIENCE_CONFIG", str(tmp_path / "r.yaml"))
    found = []
    threads = [threading.Thread(target=lambda: found.append(aioresilience.get_registry())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(registry) for registry in found}) == 1


def test_verify_of_the_default_registry_checks_every_name_that_code_uses(tmp_path, monkeypatch):
    (tmp_path / "r.yaml").write_text(TWO)
    monkeypatch.setattr(default, "_default", None)
    monkeypatch.setattr("aioresilience.registry.names._default", set())
    registry = configure(tmp_path / "r.yaml")
    resilient("typo-name")
    with pytest.raises(aioresilience.UnknownPolicyError):
        registry.verify()


def test_bypassing_while_policies_are_made_ends_for_all_of_them():
    stop = threading.Event()

    def make():
        while not stop.is_set():
            Policy("p", [])

    thread = threading.Thread(target=make)
    thread.start()
    try:
        for _ in range(50):
            with bypass():
                pass
    finally:
        stop.set()
        thread.join()
    assert Policy("p", [Bulkhead("x")]).snapshot.patterns


async def test_a_bulkhead_as_a_context_manager_follows_its_mode():
    for mode in ("observe", "off"):
        pool = Bulkhead("x", BulkheadConfig(max_concurrent=1, mode=mode))
        async with pool, pool:
            assert pool.machine.active == (1 if mode == "observe" else 0)
        assert pool.machine.active == 0


async def test_thirty_patterns_are_folded():
    policy = Policy("p", [Bulkhead(f"x-{number}") for number in range(30)])
    assert await policy.call(nothing) == "done"


async def test_a_key_that_no_encoding_knows_is_a_key():
    registry = Registry.from_text("version: 1\npolicies: {a: {bulkhead: {max_concurrent: 1, mode: {enforce: 50%}}}}")
    policy = registry.get("a")
    async with policy.admit():
        with contextlib.suppress(aioresilience.BulkheadFullError):
            await policy.bind(key="\udcff").call(nothing)


async def test_an_error_through_a_timeout_is_freed_without_the_collector():
    manager = TimeoutManager(TimeoutConfig(timeout=5))

    class Unique(Exception):
        pass

    born = []

    def make():
        error = Unique()
        born.append(weakref.ref(error))
        return error

    async def fail():
        raise make()

    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(Unique):
            await manager.execute(fail)
        assert born[0]() is None
    finally:
        gc.enable()


def test_overrides_nest_and_keep_an_applied_document():
    registry = Registry.from_text(TWO)
    registry.apply(TWO.replace("timeout: 1s", "timeout: 2s"))
    policy = registry.get("a")
    with override("a", registry=registry, timeout="3s"):
        with override("a", registry=registry, bulkhead=7):
            assert (policy.timeout.timeout, policy.bulkhead.max_concurrent) == (3.0, 7)
        assert (policy.timeout.timeout, policy.bulkhead.max_concurrent) == (3.0, 1)
    assert policy.timeout.timeout == 2.0


def test_the_breaker_is_judged_in_the_context_of_its_policy():
    assert CircuitBreaker("x", CircuitConfig()).judge(Context("p")) is not None


@pytest.mark.parametrize("given", ["8M", "-1", "0", "x"])
def test_a_malformed_size_limit_in_the_environment_is_an_error_that_names_it(given, tmp_path):
    (tmp_path / "r.yaml").write_text(TWO)
    with pytest.raises(ConfigError, match="AIORESILIENCE_MAX_BYTES"):
        Registry.from_file(tmp_path / "r.yaml", environ={"AIORESILIENCE_MAX_BYTES": given})


def test_a_size_limit_in_the_environment_holds(tmp_path):
    (tmp_path / "r.yaml").write_text(TWO)
    with pytest.raises(ConfigError, match="AR102"):
        Registry.from_file(tmp_path / "r.yaml", environ={"AIORESILIENCE_MAX_BYTES": "20"})
