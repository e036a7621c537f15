"""All or nothing, one at a time, each trigger with its result; and the log says afterwards what happened."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from aioresilience import Registry, RevisionConflictError, UnknownPolicyError, configure, resilient
from aioresilience.config import ConfigError
from aioresilience.registry import default, loading
from aioresilience.testing import EventLog, VirtualClock

BASIC = """version: 1
policies:
  payments: {timeout: 2s, bulkhead: 2}
  search: {bulkhead: 1}
  quotes: {rate_limiter: 10/minute}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "resilience.yaml"
    path.write_text(BASIC)
    return path


@pytest.fixture
def registry(file):
    return Registry.from_file(file, clock=VirtualClock(), environ={})


async def nothing():
    return "done"


def replace(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


async def eventually(check, seconds=15.0):
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "did not happen in time"
        await asyncio.sleep(0.005)


def told(caplog):
    """Return the registry's own lines: the collector may have others complain of what other tests left."""
    return [record for record in caplog.records if record.name == "aioresilience.registry"]


# One event, one line


async def test_a_valid_change_is_one_event_and_one_log_line(registry, file, caplog):
    caplog.set_level(logging.INFO, "aioresilience.registry")
    with EventLog() as log:
        replace(file, "bulkhead: 2", "bulkhead: 5")
        registry.reload()
        [event] = await log.wait_for("reload_applied")
        assert len(log.events) == 1
    assert (event.generation, event.revision) == (2, registry.revision)
    assert event.details["trigger"] == "api"
    [record] = told(caplog)
    assert record.levelname == "INFO"
    assert f"generation 2, revision {registry.revision[:12]}, by api" in record.message
    assert "payments.bulkhead.max_concurrent: 2 → 5 (a shrink is a debt" in record.message


async def test_an_error_is_told_once_and_readably(file, caplog):
    registry = Registry.from_file(file, environ={})
    file.write_text(BASIC.replace("bulkhead: 2", "bulkhed: 2").replace("10/minute", "10/minit"))
    with EventLog() as log:
        for _ in range(5):
            result = registry.reload(trigger="file")
            assert (result.outcome, len(result.diagnostics)) == ("rejected", 2)
        [event] = await log.wait_for("reload_rejected")
        assert len(log.of("reload_rejected")) == 1
    assert len(event.details["diagnostics"]) == 2
    lines = [record.message for record in told(caplog)]
    assert lines[0] == "reload_rejected: 2 errors, by file; generation 1 stays"
    assert lines[1].startswith(f"reload_rejected: {file}:3:")
    assert "error AR201" in lines[1]
    assert "did you mean 'bulkhead'?" in lines[3], lines
    assert "\\n" not in "".join(lines)
    assert registry.status()["reloads_by_trigger"]["file"]["rejected"] == 5


async def test_another_error_is_news(registry, file):
    with EventLog() as log:
        for broken in ("bulkhead: -1", "bulkhead: -2"):
            file.write_text(BASIC.replace("bulkhead: 2", broken))
            registry.reload(trigger="file")
        await log.wait_for("reload_rejected", 2)


async def test_lint_findings_are_applied_and_told(registry, file):
    with EventLog() as log:
        replace(file, "timeout: 2s", "timeout: 3")
        result = registry.reload()
        [event] = await log.wait_for("config_lint")
        assert result.outcome == "applied"
        assert [finding.id for finding in result.diagnostics] == ["AR412"]
        assert event.details["id"] == "AR412"
        assert "AR412" in registry.status()["findings"][0]
        replace(file, "bulkhead: 2", "bulkhead: 3")
        assert registry.reload().outcome == "applied"
        await log.wait_for("reload_applied", 2)
        assert len(log.of("config_lint")) == 1, "known already"


async def test_a_listener_that_raises_is_isolated_and_counted(registry, file):
    @registry.events.on("*")
    def broken(event):
        raise ValueError("listener")

    replace(file, "bulkhead: 2", "bulkhead: 3")
    assert registry.reload().outcome == "applied"
    await eventually(lambda: registry.events.stats()["failed"] == 1)


async def test_a_setting_that_needs_a_restart_is_named(registry, file):
    with EventLog() as log:
        file.write_text("service: checkout\n" + BASIC)
        result = registry.reload()
        [event] = await log.wait_for("restart_required")
    assert event.details["settings"] == ["service"]
    assert [str(change) for change in result.changes] == ["service: None → checkout"]


async def test_a_change_of_settings_is_part_of_the_differences(registry, file):
    file.write_text("settings: {on_removed: reject}\n" + BASIC)
    assert [str(change) for change in registry.reload().changes] == ["settings.on_removed: keep → reject"]


# What is in use goes on


async def test_handles_and_decorators_stay_valid_and_current(registry, file):
    handle = registry.get("payments")
    bound = handle.bind(key="one")

    @handle
    async def decorated():
        return handle.generation

    @resilient("payments", registry=registry)
    async def named():
        return "done"

    for generation, places in ((2, 5), (3, 7)):
        file.write_text(BASIC.replace("bulkhead: 2", f"bulkhead: {places}"))
        assert registry.reload().generation == generation
        assert registry.get("payments") is handle
        assert (await decorated(), handle.bulkhead.max_concurrent) == (generation, places)
        assert (await named(), await bound.call(nothing)) == ("done", "done")


async def test_a_long_retry_loop_finishes_under_the_rules_it_started_with(tmp_path):
    path, clock, tries = tmp_path / "r.yaml", VirtualClock(), []
    retry = "{max_attempts: 5, initial_delay: 1s, max_delay: 1s, jitter: 0.0, budget: null}"
    text = f"version: 1\npolicies:\n  p: {{bulkhead: 1, retry: {retry}}}\n"
    path.write_text(text)
    registry = Registry.from_file(path, clock=clock, environ={})
    policy = registry.get("p")

    async def fail():
        tries.append(1)
        raise ConnectionError

    task = asyncio.create_task(policy.call(fail))
    await clock.advance(1.5)
    assert 1 < len(tries) < 5
    path.write_text(text.replace("max_attempts: 5", "max_attempts: 1"))
    assert registry.reload().outcome == "applied"
    await clock.advance(10)
    assert isinstance(task.exception(), ConnectionError)
    assert len(tries) == 5
    with pytest.raises(ConnectionError):
        await policy.call(fail)
    assert len(tries) == 6
    assert policy.bulkhead.available_slots() == 1


async def test_retry_brought_into_a_policy_used_by_admit_is_skipped_there_with_an_event(registry, file):
    policy = registry.get("payments")
    async with policy.admit():
        pass
    replace(file, "payments: {", "payments: {retry: 2, ")
    assert registry.reload().outcome == "applied"
    with EventLog() as log:
        async with policy.admit():
            pass
        await log.wait_for("pattern_skipped")


def test_an_added_policy_is_there_at_once(registry, file):
    assert "refunds" not in registry
    file.write_text(BASIC + "  refunds: {bulkhead: 4}\n")
    [change] = registry.reload().changes
    assert str(change) == "refunds: added"
    assert registry.get("refunds").bulkhead.max_concurrent == 4


async def test_a_removed_policy_in_use_is_told_as_retired(registry, file):
    registry.get("search")
    with EventLog() as log:
        replace(file, "  search: {bulkhead: 1}\n", "")
        registry.reload()
        [event] = await log.wait_for("policy_retired")
    assert event.details["policies"] == ["search"]
    assert registry.status()["policies_retired"] == ["search"]


def test_a_policy_that_the_defaults_serve_is_not_retired(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("settings: {on_unknown_policy: default}\ndefaults: {timeout: 1s}\n" + BASIC)
    registry = Registry.from_file(path, environ={})
    registry.get("unheard-of")
    registry.get("search")
    replace(path, "  search: {bulkhead: 1}\n", "")
    assert registry.reload().outcome == "applied"
    status = registry.status()
    assert status["policies_retired"] == ["search"]
    assert [status["policies"][name]["retired"] for name in ("unheard-of", "search")] == [False, True]


async def test_a_retired_policy_that_comes_back_has_its_state(registry, file):
    quotes, text = registry.get("quotes"), file.read_text()
    for _ in range(10):
        await quotes.call(nothing)
    replace(file, "  quotes: {rate_limiter: 10/minute}\n", "")
    registry.reload()
    file.write_text(text.replace("10/minute", "11/minute"))
    assert registry.reload().outcome == "applied"
    assert registry.get("quotes") is quotes
    assert quotes.rate_limiter.status()["remaining"] == 0


# The start


def test_missing_or_broken_at_start_fails_with_the_absolute_path_and_all_errors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=str(tmp_path / "resilience.yaml")):
        Registry.from_file("resilience.yaml", environ={})
    Path("resilience.yaml").write_text(BASIC.replace("2s", "soon").replace("10/minute", "x"))
    with pytest.raises(ConfigError) as caught:
        Registry.from_file("resilience.yaml", environ={})
    assert len(caught.value.diagnostics) == 2


async def test_a_fallback_file_at_start_is_said_loudly_and_gives_way_to_the_first_good_file(file, tmp_path, caplog):
    fallback = tmp_path / "fallback.yaml"
    fallback.write_text("version: 1\npolicies:\n" + "".join(f"  p{number}: {{bulkhead: 9}}\n" for number in range(9)))
    file.write_text("version: [")
    with EventLog() as log:
        registry = Registry.from_file(file, environ={"AIORESILIENCE_FALLBACK_CONFIG": str(fallback)})
        await log.wait_for("fallback_config_used")
    assert told(caplog)[0].levelname == "CRITICAL"
    status = registry.status()
    assert (status["on_fallback"], status["last_reload_successful"]) == (True, False)
    assert "error AR" in status["last_error"]
    file.write_text(BASIC)
    assert registry.reload(trigger="file").outcome == "applied", "no guard compares the file with the fallback"
    status = registry.status()
    assert (status["on_fallback"], status["last_reload_successful"], status["last_error"]) == (False, True, None)


def test_a_broken_fallback_fails_the_start(file, tmp_path):
    file.write_text("version: [")
    fallback = tmp_path / "fallback.yaml"
    fallback.write_text("version: 2\n")
    with pytest.raises(ConfigError) as caught:
        Registry.from_file(file, environ={"AIORESILIENCE_FALLBACK_CONFIG": str(fallback)})
    assert {Path(one.file).name for one in caught.value.diagnostics} == {"resilience.yaml", "fallback.yaml"}


def test_names_in_code_are_checked_at_the_start(file, monkeypatch):
    monkeypatch.setattr("aioresilience.registry.names._default", set())
    monkeypatch.setattr(default, "_default", None)

    @resilient("paymets")
    async def typo():
        pass

    with pytest.raises(UnknownPolicyError, match="did you mean 'payments'"):
        configure(file, environ={})
    assert default._default is None


async def test_pending_exception_names_are_told_by_verify(file):
    replace(file, "timeout: 2s", "timeout: 2s, classify: {failure: {exceptions: [yaml.nowhere.Error]}}")
    registry = Registry.from_file(file, environ={})
    with EventLog() as log:
        registry.verify()
        [event] = await log.wait_for("name_unresolved")
    assert event.details["names"] == ["yaml.nowhere.Error"] == registry.status()["pending_exceptions"]


# Guards and pins


async def test_a_pin_is_lifted_by_what_the_guards_accept_and_by_nothing_else(registry, file):
    registry.apply(BASIC.replace("bulkhead: 2", "bulkhead: 9"))
    good = file.read_text()
    for refused in ("version: 1\npolicies:\n  search: {bulkhead: 1}\n", "version: ["):
        file.write_text(refused)
        assert registry.reload(trigger="file").outcome == "rejected"
        assert registry.status()["pinned"]
    with EventLog() as log:
        file.write_text(good)
        assert registry.reload(trigger="file").outcome == "unchanged", "it is what was last read of the file"
        await log.wait_for("reload_recovered")
    assert registry.get("payments").bulkhead.max_concurrent == 9
    replace(file, "bulkhead: 2", "bulkhead: 3")
    assert registry.reload(trigger="file").outcome == "applied"
    assert not registry.status()["pinned"]


def test_a_rejected_apply_leaves_the_pin_and_the_staleness_as_they_are(registry, file):
    file.write_text("version: [")
    registry.reload(trigger="file")
    error = registry.status()["last_error"]
    assert registry.apply(BASIC.replace("2s", "soon")).outcome == "rejected"
    assert registry.apply(BASIC.replace("2s", "3s")).outcome == "applied"
    status = registry.status()
    assert (status["last_reload_successful"], status["last_error"]) == (False, error), "the file is broken still"
    assert registry.status()["reloads_by_trigger"]["apply"] == {"applied": 1, "unchanged": 0, "rejected": 1}


def test_an_explicit_reload_takes_a_pin_away(registry):
    registry.apply(BASIC.replace("bulkhead: 2", "bulkhead: 9"))
    assert registry.reload().outcome == "applied"
    assert registry.get("payments").bulkhead.max_concurrent == 2


def test_plan_asks_the_guards_and_changes_nothing(registry):
    plan = registry.plan("version: 1\npolicies:\n  search: {bulkhead: 2}\n")
    assert [one.id for one in plan.refusals] == ["AR319"]
    assert plan
    assert "would be refused: " in str(plan)
    assert "search.bulkhead.max_concurrent: 1 → 2" in str(plan)
    assert registry.plan().refusals == ()
    assert (registry.generation, registry.status()["reloads"]["rejected"]) == (1, 0)


async def test_plan_shows_the_live_state_that_a_change_would_meet(registry):
    payments, quotes, gate = registry.get("payments"), registry.get("quotes"), asyncio.Event()
    calls = [asyncio.create_task(payments.call(gate.wait)) for _ in range(2)]
    for _ in range(4):
        await quotes.call(nothing)
    await asyncio.sleep(0)
    plan = registry.plan(BASIC.replace("bulkhead: 2", "bulkhead: 1").replace("10/", "20/"))
    first, second = plan.changes
    assert first.live == {"active": 2, "waiting": 0, "limit": 2}
    assert second.live["remaining"] == 6
    assert "[now active 2, waiting 0, limit 2]" in str(plan)
    assert payments.bulkhead.machine.limit == 2
    gate.set()
    await asyncio.gather(*calls)


async def test_the_async_form_of_plan(registry):
    assert await registry.aplan(BASIC.replace("2s", "3s"))


# Several files, half-written files


def test_several_files_are_read_as_one_set(file, tmp_path, monkeypatch):
    """A file that moves while another one is read: both are read again."""
    other = tmp_path / "other.yaml"
    other.write_text("version: 1\npolicies: {payments: {bulkhead: 3}, search: {bulkhead: 3}}\n")
    registry = Registry.from_file([file, other], environ={})
    registry.get("payments")
    read, reads = loading.read_settled, []

    def read_and_move(path):
        data = read(path)
        reads.append(path.name)
        if len(reads) == 1:  # both files change between the reading of one and of the other
            file.write_text(BASIC.replace("timeout: 2s", "timeout: 4s"))
            other.write_text("version: 1\npolicies: {payments: {bulkhead: 4}, search: {bulkhead: 3}}\n")
        return data

    monkeypatch.setattr(loading, "read_settled", read_and_move)
    assert registry.reload().outcome == "applied"
    assert reads == ["resilience.yaml", "other.yaml"] * 2
    policy = registry.get("payments")
    assert (policy.timeout.timeout, policy.bulkhead.max_concurrent) == (4.0, 4)


def test_files_that_never_hold_still_are_refused(file, registry, monkeypatch):
    read = loading.read_settled

    def read_and_touch(path):
        data = read(path)
        os.utime(path, ns=(0, time.perf_counter_ns()))
        return data

    monkeypatch.setattr(loading, "read_settled", read_and_touch)
    result = registry.reload()
    assert result.outcome == "rejected"
    assert "change while they are read" in result.message


# Triggers


def test_triggers_at_once_are_served_one_after_the_other_each_with_its_result(registry, file):
    results, barrier = [], threading.Barrier(8)

    def trigger(number):
        barrier.wait()
        for _ in range(5):
            results.append(registry.apply(BASIC.replace("bulkhead: 2", f"bulkhead: {number + 10}")))
            results.append(registry.reload(trigger="file"))

    threads = [threading.Thread(target=trigger, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 80
    applied = [result.generation for result in results if result.outcome == "applied"]
    assert sorted(applied) == list(range(2, len(applied) + 2)), "every swap has a generation of its own"
    assert registry.generation == len(applied) + 1
    assert sum(registry.status()["reloads"].values()) == 80


def test_of_two_who_expect_the_same_revision_one_is_told(registry):
    revision, outcomes, barrier = registry.revision, [], threading.Barrier(4)

    def apply(number):
        barrier.wait()
        try:
            outcomes.append(registry.apply(BASIC.replace("2s", f"{number + 3}s"), expected_revision=revision).outcome)
        except RevisionConflictError:
            outcomes.append("conflict")

    threads = [threading.Thread(target=apply, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["applied", "conflict", "conflict", "conflict"]


def test_sighup_reloads(tmp_path):
    """In a process of its own: besides the handler that was there, coalescing nothing, until signals are ignored."""
    path = tmp_path / "resilience.yaml"
    path.write_text(BASIC)
    program = """
        import logging, os, signal, sys, time
        from aioresilience import Registry

        logging.basicConfig(level=logging.INFO)

        def eventually(check):
            end = time.monotonic() + 45
            while not check():
                assert time.monotonic() < end, registry.status()["reloads_by_trigger"]
                time.sleep(0.005)

        heard = []
        before = lambda number, frame: heard.append(number)
        signal.signal(signal.SIGHUP, before)
        registry = Registry.from_file(sys.argv[1], environ={})
        registry.reload_on_signal()
        os.kill(os.getpid(), signal.SIGHUP)
        eventually(lambda: registry.status()["reloads_by_trigger"].get("sighup", {}).get("unchanged") == 1)
        text = open(sys.argv[1]).read()
        open(sys.argv[1], "w").write(text.replace("2s", "3s"))
        os.kill(os.getpid(), signal.SIGHUP)
        eventually(lambda: registry.generation == 2)
        open(sys.argv[1], "w").write("version: [")
        os.kill(os.getpid(), signal.SIGHUP)
        eventually(lambda: registry.status()["reloads_by_trigger"]["sighup"]["rejected"] == 1)
        registry.ignore_signals()
        assert signal.getsignal(signal.SIGHUP) is before
        assert heard == [signal.SIGHUP] * 3
        print("all three")
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert (done.stdout.strip(), done.returncode) == ("all three", 0), done.stderr
    assert "reload_rejected: 1 error, by sighup; generation 2 stays" in done.stderr
    assert done.stderr.count("reload_unchanged: nothing changed, by sighup; generation 1 stays, revision ") == 1


def test_a_hundred_processes_with_different_histories_end_at_one_revision(tmp_path):
    """Each child starts at another edition, sees another part of the next ones, and ends at the last."""
    program = """
        import logging, os, random, sys
        from aioresilience import Registry

        logging.basicConfig()

        folder, editions = sys.argv[1], 8

        def text(edition):
            lines = ["version: 1", "policies:"]
            for number in range(10 + edition % 3):
                lines.append(f"  p{number}: {{bulkhead: {edition + 1}, rate_limiter: {edition + number + 1}/second}}")
            return "\\n".join(lines) + ("\\nend: true\\n" if edition > 5 else "\\n")

        def process(number):
            chance = random.Random(number)
            path = os.path.join(folder, f"{number}.yaml")

            def publish(edition):
                with open(path + ".new", "w") as file:
                    file.write(text(edition) if edition != "broken" else "version: [")
                os.replace(path + ".new", path)

            start = chance.randrange(editions)
            publish(start)
            registry = Registry.from_file(path, environ={})
            for name in chance.sample(list(registry), 5):
                registry.get(name)
            for edition in range(start + 1, editions):
                if chance.random() < 0.5:
                    publish(edition)
                    assert registry.reload(trigger="file").outcome == "applied"
                if chance.random() < 0.2:
                    publish("broken")
                    assert registry.reload(trigger="file").outcome == "rejected"
            publish(editions)
            result = registry.reload(trigger="file")
            assert result.outcome == "applied", result
            return registry.revision

        pids = []
        for number in range(100):
            read, write = os.pipe()
            pid = os.fork()
            if not pid:
                os.write(write, process(number).encode())
                os._exit(0)
            os.close(write)
            pids.append((pid, read))
        revisions = [os.read(read, 100).decode() for _, read in pids]
        assert [os.waitpid(pid, 0)[1] for pid, _ in pids] == [0] * 100
        print(len(revisions), len(set(revisions)), len(revisions[0]))
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.stdout.strip() == "100 1 16", done.stderr
    assert "AR3" not in done.stderr, "no truncation guard"


def test_the_signal_can_be_any_and_only_the_main_thread_may_ask(registry):
    registry.reload_on_signal(signal.SIGUSR1)
    try:
        signal.raise_signal(signal.SIGUSR1)
        end = time.monotonic() + 15
        while "sigusr1" not in registry.status()["reloads_by_trigger"]:
            assert time.monotonic() < end
            time.sleep(0.005)
    finally:
        registry.ignore_signals()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    caught = []

    def ask():
        try:
            registry.reload_on_signal(signal.SIGUSR1)
        except ValueError as error:
            caught.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert caught
