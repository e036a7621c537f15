"""Overrides are announced and end by themselves, on the registry's clock, whether files are watched or not."""

import asyncio
import os
import threading
import time
import warnings
from datetime import UTC, datetime

import pytest

from aioresilience import Registry
from aioresilience.registry import overrides
from aioresilience.testing import EventLog, VirtualClock

START = 1_700_000_000.0


@pytest.fixture(autouse=True)
def quick_ticks(monkeypatch):
    monkeypatch.setattr(overrides, "TICK", 0.005)


@pytest.fixture
def clock():
    return VirtualClock(wall=START)


def text(minutes, places=9, rate="10/minute", more=""):
    expires = datetime.fromtimestamp(START + minutes * 60, UTC).isoformat().replace("+00:00", "Z")
    return (
        f"version: 1\npolicies:\n  a: {{bulkhead: 2}}\n  b: {{rate_limiter: {rate}}}\noverrides:\n"
        f"  - {{policy: a, set: {{bulkhead: {places}}}, expires: {expires}, reason: INC-1, by: ops}}\n{more}"
    )


async def eventually(check, seconds=15.0):
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "did not happen in time"
        await asyncio.sleep(0.002)


async def test_an_override_is_announced_a_quarter_of_an_hour_before_and_ends_by_itself(clock):
    with EventLog() as log:
        registry = Registry.from_text(text(60), clock=clock, environ={})
        policy = registry.get("a")
        clock.move(44 * 60)
        await asyncio.sleep(0.03)  # some ticks
        assert (log.events, policy.bulkhead.max_concurrent) == ([], 9)
        clock.move(61)
        [event] = await log.wait_for("override_expiring")
        assert event.details == {"policy": "a", "expires": START + 3600, "reason": "INC-1", "by": "ops"}
        assert "INC-1" in event.message
        assert registry.status()["overrides"] == [event.details]
        clock.move(15 * 60 + overrides.SPREAD)
        [event] = await log.wait_for("override_expired")
        await eventually(lambda: policy.bulkhead.max_concurrent == 2)
        [applied] = log.of("reload_applied")
        assert applied.details["trigger"] == "override"
        assert len(log.of("override_expiring")) == 1, "announced once"
    status = registry.status()
    assert (status["overrides_active"], status["overrides"], status["generation"]) == ([], [], 2)
    assert status["reloads_by_trigger"]["override"]["applied"] == 1


async def test_the_end_is_spread_over_up_to_a_minute(clock):
    fleet = [Registry.from_text(text(10), clock=clock, environ={}) for _ in range(40)]
    due = [min(registry.overrides._due.values()) - START for registry in fleet]
    assert all(600 <= one <= 660 for one in due)
    assert max(due) - min(due) > 20
    for seconds in (600, 630, 660):
        clock.move(START + seconds - clock.wall())
        over = sum(one <= seconds for one in due)
        await eventually(lambda over=over: sum(registry.generation == 2 for registry in fleet) == over)


async def test_an_override_that_ends_soon_is_announced_at_the_start(clock):
    with EventLog() as log:
        registry = Registry.from_text(text(5), clock=clock, environ={})
        [event] = await log.wait_for("override_expiring")
    assert "ends in 5 minutes" in event.message
    assert registry.status()["overrides_active"] == ["a"]


async def test_a_reload_after_the_end_takes_the_override_away_at_once_and_says_so(clock, tmp_path):
    path = tmp_path / "resilience.yaml"
    path.write_text(text(10))
    registry = Registry.from_file(path, clock=clock, environ={})
    with EventLog() as log:
        clock.stall(601)
        registry.reload()
        await log.wait_for("override_expired")
    assert registry.get("a").bulkhead.max_concurrent == 2


async def test_state_survives_the_end_of_an_override(clock):
    registry = Registry.from_text(text(10, places=1), clock=clock, environ={})
    policy, gate = registry.get("a"), asyncio.Event()
    bulkhead = policy.bulkhead
    running = asyncio.create_task(policy.call(gate.wait))
    await asyncio.sleep(0)
    clock.move(600 + overrides.SPREAD)
    await eventually(lambda: registry.generation == 2)
    assert policy.bulkhead is bulkhead
    assert (bulkhead.machine.active, bulkhead.machine.limit) == (1, 2)
    gate.set()
    await running


async def test_what_is_pinned_loses_its_overrides_too_and_stays_pinned(clock, tmp_path):
    path = tmp_path / "resilience.yaml"
    path.write_text(text(1000, places=3))
    registry = Registry.from_file(path, clock=clock, environ={})
    registry.apply(text(10, places=7))
    assert registry.get("a").bulkhead.max_concurrent == 7
    clock.move(600 + overrides.SPREAD)
    await eventually(lambda: registry.get("a").bulkhead.max_concurrent == 2)
    assert registry.status()["pinned"]
    assert registry.reload(trigger="file").outcome == "unchanged"


async def test_a_rollback_does_not_bring_back_an_override_that_is_over(clock):
    registry = Registry.from_text(text(10), clock=clock, environ={})
    registry.apply("version: 1\npolicies:\n  a: {bulkhead: 4}\n  b: {rate_limiter: 10/minute}\n")
    clock.move(3600)
    assert registry.rollback(1).outcome == "applied"
    assert registry.get("a").bulkhead.max_concurrent == 2
    assert registry.status()["overrides_active"] == []


async def test_a_prolonged_override_goes_on(clock):
    registry = Registry.from_text(text(10), clock=clock, environ={})
    with EventLog() as log:
        registry.apply(text(100))
        clock.move(700)
        await asyncio.sleep(0.03)
        assert registry.get("a").bulkhead.max_concurrent == 9
        assert log.of("override_expired") == []


async def test_an_end_that_is_refused_is_told_and_tried_again(clock, monkeypatch):
    registry = Registry.from_text(text(10), clock=clock, environ={})
    bulkhead = registry.get("a").bulkhead
    retune = bulkhead.retune
    monkeypatch.setattr(bulkhead, "retune", lambda config: 1 / 0)
    with EventLog() as log:
        clock.move(600 + overrides.SPREAD)
        await log.wait_for("reload_rejected")
        await asyncio.sleep(0.03)
        assert len(log.of("reload_rejected")) == 1, "not at every tick"
        assert bulkhead.max_concurrent == 9
        monkeypatch.setattr(bulkhead, "retune", retune)
        clock.move(overrides.SPREAD)
        await log.wait_for("override_expired")
    assert bulkhead.max_concurrent == 2


async def test_a_wall_clock_that_jumps_is_followed(clock):
    registry = Registry.from_text(text(60), clock=clock, environ={})
    clock.jump_wall(7200)
    await eventually(lambda: registry.get("a").bulkhead.max_concurrent == 2)


async def test_the_kill_switch_for_all_policies_ends_too(clock):
    everywhere = text(10).replace("policy: a", 'policy: "*"').replace("bulkhead: 9", "bulkhead: {mode: off}")
    registry = Registry.from_text(everywhere, clock=clock, environ={})
    assert registry.get("a").status()["patterns"]["bulkhead"]["limit"] == 2
    assert registry.document.policies["a"].patterns[0][1].mode == "off"
    clock.move(600 + overrides.SPREAD)
    await eventually(lambda: registry.document.policies["a"].patterns[0][1].mode is None)


async def test_nobody_waits_where_nothing_is_to_end(clock, monkeypatch):
    monkeypatch.setattr(overrides, "timekeeper", overrides.Timekeeper())  # the process's own may serve other registries
    before = set(threading.enumerate())
    waiting = lambda: [one for one in set(threading.enumerate()) - before if one.name == "aioresilience-overrides"]  # noqa: E731
    registry = Registry.from_text(text(10), clock=clock, environ={})
    assert len(waiting()) == 1
    clock.move(600 + overrides.SPREAD)
    await eventually(lambda: registry.generation == 2)
    await eventually(lambda: not waiting())


async def test_a_forked_child_ends_its_overrides_itself(clock):
    registry = Registry.from_text(text(10), environ={}, clock=clock)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of forks beside threads, from 3.12 on
        pid = os.fork()
    if pid == 0:
        clock.move(600 + overrides.SPREAD)
        end = time.monotonic() + 15
        while registry.generation == 1 and time.monotonic() < end:
            time.sleep(0.005)
        os._exit(0 if registry.generation == 2 else 1)
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    assert status == 0
    assert registry.generation == 1
