"""A reload on a thread lets the loop's thread run: its steps are short, and it leaves the collector little to look at.

What is measured is time on the CPU of the reloading thread alone, which other load on the machine does not change.
"""

import asyncio
import gc
import itertools
import os
import threading
import time

import pytest

from aioresilience import Registry
from aioresilience.policy import fused
from aioresilience.registry import loading
from benchmarks.reload import CHANGED, text

POLICIES = 400
STEP = 0.010
"""Seconds of work between two breaths, which are to be about one millisecond; and room for slow machines."""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "resilience.yaml"
    path.write_text(text(POLICIES, 0))
    return path


@pytest.fixture
def registry(file):
    registry = Registry.from_file(file, environ={})
    for name in registry:
        registry.get(name)
    return registry


def publish(file, edition):
    new = file.with_suffix(".new")
    new.write_text(text(POLICIES, edition))
    os.replace(new, file)


@pytest.mark.usefixtures("untraced")
def test_the_steps_of_reading_comparing_building_and_swapping_are_short(registry, file, monkeypatch):
    breaths, longest = [], []
    monkeypatch.setattr(loading, "breathe", lambda: breaths.append(time.thread_time()))
    for edition in (1, 2, 3):  # a machine that takes its processors away adds to any step, and not each time
        publish(file, edition)
        breaths[:] = [time.thread_time()]
        result = registry.reload()
        breaths.append(time.thread_time())
        assert len(result.changes) == CHANGED
        assert breaths[-1] - breaths[0] > 0.03, "or else nothing was measured"
        longest.append(max(after - before for before, after in itertools.pairwise(breaths)))
    assert min(longest) < STEP


def test_the_collector_has_little_to_look_at_afterwards(registry, file):
    """Of all policies ten are new; trees and equal policies of the file are gone without the collector."""
    publish(file, 1)
    registry.reload()
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        publish(file, 2)
        assert registry.reload().outcome == "applied"
        assert len(gc.get_objects()) - before < 20 * CHANGED + 1_000
    finally:
        gc.enable()
    assert gc.collect() < 2_000


def test_the_collector_runs_again_whatever_becomes_of_a_reload(registry, file):
    for content in (text(POLICIES, 1), "version: [", ""):
        file.write_text(content)
        registry.reload()
        assert gc.isenabled()


def test_an_unchanged_policy_is_the_same_object_as_before(registry, file):
    before = dict(registry.document.policies)
    publish(file, 1)
    registry.reload()
    after = registry.document.policies
    assert sum(after[name] is before[name] for name in before) == POLICIES - CHANGED


def test_the_documents_kept_for_rollbacks_share_what_is_equal(registry, file):
    for edition in range(1, 4):
        publish(file, edition)
        registry.reload()
    first, last = registry.ledger.history[0], registry.document
    assert first.policies["service-300"] is last.policies["service-300"]


async def test_a_new_shape_is_compiled_on_the_thread_that_reloads(tmp_path, monkeypatch):
    """A policy in use changes the patterns it has and how it acts; no call of it has to wait for the compiler."""
    path, threads = tmp_path / "resilience.yaml", []
    path.write_text("version: 1\npolicies: {p: {bulkhead: 5, timeout: 1s}}")
    registry = Registry.from_file(path, environ={})
    call, decorated = registry.get("p").call, registry.get("p")(asyncio.sleep)
    await decorated(0)
    source = fused.source
    fused.bind.cache_clear()
    monkeypatch.setattr(fused, "source", lambda *of: threads.append(threading.get_ident()) or source(*of))
    for policy in ("retry: 2, timeout: 1s", "mode: observe, retry: 2, circuit_breaker: {}", "deadline: 5s"):
        path.write_text(f"version: 1\npolicies: {{p: {{{policy}}}}}")
        assert (await registry.areload()).outcome == "applied"
        compiled = len(threads)
        await decorated(0)
        await call(asyncio.sleep, 0)
        assert len(threads) == compiled
    assert len(threads) == 3
    assert threading.get_ident() not in threads
