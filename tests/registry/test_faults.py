"""What goes wrong around a reload stays there: pipes, reads that hang, refused swaps, faults that are no document's."""

import gc
import itertools
import os
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from aioresilience import Registry
from aioresilience.bulkhead import Bulkhead
from aioresilience.config import ConfigError
from aioresilience.policy import BUILTIN
from aioresilience.policy.snapshot import Snapshot
from aioresilience.registry import loading, sources, transaction, turn, watch
from aioresilience.registry.building import Builder
from aioresilience.registry.loading import Loader
from aioresilience.testing import override

BASIC = "version: 1\npolicies:\n  a: {bulkhead: 1}\n  b: {bulkhead: 2}\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "resilience.yaml"
    path.write_text(BASIC)
    return path


def until(check, seconds=15.0):
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.005)


def on_a_thread(work):
    """Return what `work` returns; fails where it takes longer than any work should."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(work()), daemon=True)
    thread.start()
    thread.join(15.0)
    assert answers, "it hangs"
    return answers[0]


class Stubborn(Bulkhead):
    def retune(self, config):
        if config.max_concurrent == 9:
            raise RuntimeError("not nine")
        super().retune(config)


STUBBORN = tuple(Stubborn if kind is Bulkhead else kind for kind in BUILTIN)


# What cannot be read, or takes for ever


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_in_place_of_the_file_is_refused_and_not_waited_for(file):
    registry = Registry.from_file(file, environ={})
    file.unlink()
    os.mkfifo(file)
    result = on_a_thread(registry.reload)
    assert result.outcome == "rejected"
    assert "regular file" in result.message


def test_a_read_that_hangs_in_the_watcher_holds_back_nothing_else(file, monkeypatch):
    goes_on, hangs = threading.Event(), threading.Event()

    def hang(path):
        hangs.set()
        goes_on.wait(30.0)
        return b""

    registry = Registry.from_file(file, environ={})
    monkeypatch.setattr(watch, "touch", hang)
    registry.start_watching()
    try:
        until(hangs.is_set)
        assert gc.isenabled()
        assert on_a_thread(lambda: registry.apply(BASIC.replace("1}", "3}"))).outcome == "applied"
        assert on_a_thread(registry.rollback).outcome == "applied"
    finally:
        goes_on.set()
        registry.stop_watching()


@pytest.fixture
def reload_that_hangs(file, monkeypatch):
    """Return a function that asks for a reload on a thread, and returns once what it names hangs."""
    goes_on, hangs, threads = threading.Event(), threading.Event(), []

    def hang(*args):
        hangs.set()
        goes_on.wait(30.0)
        return BASIC.encode()

    def ask(registry, module, name):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, hang)
            threads.append(threading.Thread(target=registry.reload))
            threads[-1].start()
            until(hangs.is_set)

    ask.goes_on = goes_on
    yield ask
    goes_on.set()
    for thread in threads:
        thread.join(15.0)


@pytest.mark.parametrize(("module", "name"), [(transaction, "touch"), (loading, "read_settled")])
def test_a_read_that_hangs_in_a_reload_that_was_asked_for_holds_back_only_others_who_read_the_same(
    file, monkeypatch, reload_that_hangs, module, name
):
    """The first look at the files, or the reading itself after it."""
    registry = Registry.from_file(file, environ={})
    reload_that_hangs(registry, module, name)
    assert gc.isenabled()
    assert registry.status()["reloading"]["trigger"] == "api"
    assert on_a_thread(lambda: registry.apply(BASIC.replace("1}", "3}"))).outcome == "applied"
    assert on_a_thread(lambda: registry.rollback(1)).outcome == "applied"
    monkeypatch.setattr(turn, "LONGEST", 0.01)
    result = on_a_thread(registry.reload)
    assert (result.outcome, [one.id for one in result.diagnostics]) == ("rejected", ["AR322"])
    assert "begun by api" in result.message
    with pytest.raises(ConfigError, match="begun by api"):
        registry.plan()
    reload_that_hangs.goes_on.set()
    until(lambda: registry.status()["reloading"] is None)


def test_a_fault_that_is_no_documents_keeps_its_traceback(file, monkeypatch):
    registry = Registry.from_file(file, environ={})

    def at_fault(*args, **rest):
        raise KeyError("ours")

    monkeypatch.setattr(loading, "load", at_fault)
    with pytest.raises(KeyError) as caught:
        registry.reload()
    assert caught.traceback[-1].name == "at_fault"


def test_who_reloads_within_the_turn_does_not_wait_for_those_who_wait_for_it(file, monkeypatch):
    registry, check, results = Registry.from_file(file, environ={}), transaction.check_against, []

    def reload_too(*args):
        monkeypatch.setattr(transaction, "check_against", check)
        other = threading.Thread(target=registry.reload)
        other.start()
        until(lambda: registry._transaction._reading.status() is not None)
        results.extend([registry.reload(), other])
        return check(*args)

    monkeypatch.setattr(transaction, "check_against", reload_too)
    assert on_a_thread(lambda: registry.apply(BASIC.replace("1}", "3}"))).outcome == "applied"
    results[1].join(15.0)
    assert results[0].outcome == "unchanged"


@pytest.mark.parametrize("ask", [Registry.apply, Registry.plan])
@pytest.mark.parametrize("far", ["far.yaml", "with-far.yaml"])
def test_a_file_from_elsewhere_whose_read_hangs_holds_back_nothing_else(file, monkeypatch, ask, far):
    goes_on, hangs, read = threading.Event(), threading.Event(), sources._read
    (file.parent / "far.yaml").write_text(BASIC)
    (file.parent / "with-far.yaml").write_text("version: 1\ninclude: [far.yaml]\npolicies: {}\n")

    def hang(path):
        if os.path.basename(path) == "far.yaml":
            hangs.set()
            goes_on.wait(30.0)
        return read(path)

    registry = Registry.from_file(file, environ={})
    monkeypatch.setattr(sources, "_read", hang)
    thread = threading.Thread(target=ask, args=(registry, file.parent / far))
    thread.start()
    try:
        until(hangs.is_set)
        assert gc.isenabled()
        assert registry.status()["reloading"] is None
        file.write_text(BASIC.replace("1}", "3}"))
        assert on_a_thread(registry.reload).outcome == "applied"
    finally:
        goes_on.set()
        thread.join(15.0)
    assert registry.get("a").bulkhead.max_concurrent == (1 if ask is Registry.apply else 3)


def test_a_reload_that_does_not_end_is_named_to_whoever_waits_for_it(file, monkeypatch, reload_that_hangs):
    registry = Registry.from_file(file, environ={})
    reload_that_hangs(registry, transaction, "check_against")
    monkeypatch.setattr(turn, "LONGEST", 0.01)
    assert registry.status()["reloading"]["trigger"] == "api"
    for ask in (
        registry.reload,
        lambda: registry.apply(BASIC),
        lambda: registry.rollback(1),
        registry.expire_overrides,
    ):
        result = on_a_thread(ask)
        assert (result.outcome, [one.id for one in result.diagnostics]) == ("rejected", ["AR322"])
        assert "begun by api" in result.message
    with pytest.raises(ConfigError, match="begun by api"):
        registry.plan()
    assert registry.status()["last_reload_successful"], "nothing is wrong with the file"


@pytest.mark.parametrize("ask", [Registry.reload, Registry.plan, lambda registry: registry.apply("version: [")])
def test_a_wrong_document_is_read_once_and_not_in_the_turn(file, monkeypatch, ask):
    registry, load, reads = Registry.from_file(file, environ={}), loading.load, []
    turn = registry._transaction._turn
    monkeypatch.setattr(loading, "load", lambda *args, **rest: reads.append(turn.status()) or load(*args, **rest))
    file.write_text("version: [")
    try:
        assert ask(registry).outcome == "rejected"
    except ConfigError:
        assert ask is Registry.plan
    assert reads == [None]


def test_what_was_read_before_another_came_first_is_read_again(file, monkeypatch):
    """The slow one has read the old file when the quick one applies the new one: the old must not come back."""
    registry, own, reads = Registry.from_file(file, environ={}), Loader.own, []

    def slow(*args):
        document = own(*args)
        reads.append(document.revision)
        if len(reads) == 1:
            file.write_text(BASIC.replace("1}", "3}"))
            assert on_a_thread(lambda: registry.apply(BASIC.replace("1}", "3}"))).outcome == "applied"
        return document

    monkeypatch.setattr(Loader, "own", slow)
    assert registry.reload().outcome == "unchanged"
    assert registry.get("a").bulkhead.max_concurrent == 3
    assert len(reads) == len(set(reads)) == 2


def test_who_is_too_late_again_and_again_reads_in_the_turn(file, monkeypatch):
    registry, load, reads = Registry.from_file(file, environ={}), loading.load, []

    def outrun(*args, **rest):
        reads.append(registry._transaction._turn.status())
        document = load(*args, **rest)
        if reads[-1] is None:
            on_a_thread(registry.expire_overrides)
        return document

    monkeypatch.setattr(loading, "load", outrun)
    file.write_text(BASIC.replace("1}", "3}"))
    assert registry.reload().outcome == "applied"
    assert [None if read is None else read["trigger"] for read in reads] == [None] * transaction.TRIES + ["api"]


def test_a_file_is_what_two_reads_agree_on(file, monkeypatch):
    reads = iter([b"a", b"b", b"c", b"c"])
    monkeypatch.setattr(sources, "_read", lambda path: next(reads))
    assert sources.read_settled(file) == b"c"
    endless = itertools.count()
    monkeypatch.setattr(sources, "_read", lambda path: b"%d" % next(endless))
    with pytest.raises(OSError, match="changes while it is read"):
        sources.read_settled(file)


def test_a_file_that_carried_its_end_only_later_is_taken_for_truncated_without_it(file):
    registry = Registry.from_file(file, environ={})
    file.write_text(BASIC + "end: true\n")
    assert registry.reload().outcome != "rejected"
    file.write_text(BASIC.replace("1}", "3}"))
    assert [one.id for one in registry.reload().diagnostics] == ["AR318"]


def test_a_forked_child_builds_shared_instances_though_a_thread_of_the_parent_was_building_one():
    text = "version: 1\nshared: {s: {bulkhead: 3}}\npolicies:\n  a: {bulkhead: {use: s}}\n"
    registry = Registry.from_text(text, environ={})
    assert registry.builder.lock.acquire(timeout=1.0)
    registry.restart_in_child()
    assert on_a_thread(lambda: registry.get("a")).bulkhead.max_concurrent == 3


# A swap that is refused


def test_a_refused_document_leaves_the_backends_of_the_one_in_effect():
    pytest.importorskip("redis")
    text = (
        "version: 1\nbackends: {main: {url: 'redis://127.0.0.1:1/0'}}\npolicies:\n  b: {bulkhead: 2}\n"
        "  late: {rate_limiter: {rate: 5/second, backend: main}}\n"
    )
    registry = Registry.from_text(text, patterns=STUBBORN, environ={})
    registry.get("b")
    without = "version: 1\npolicies:\n  b: {bulkhead: 9}\n  late: {rate_limiter: 5/second}\n"
    assert registry.apply(without).outcome == "rejected"
    assert registry.get("late").status()["patterns"]["rate_limiter"]["backend"] == "main"


def test_a_backend_that_changes_under_a_policy_first_used_meanwhile_is_that_of_the_document_in_effect():
    pytest.importorskip("redis")
    text = (
        "version: 1\nbackends: {main: {url: 'redis://127.0.0.1:1/0', prefix: old}}\npolicies:\n  b: {bulkhead: 2}\n"
        "  late: {rate_limiter: {rate: 5/second, backend: main}}\n"
    )
    registry = Registry.from_text(text, patterns=STUBBORN, environ={})
    registry.get("b")
    changed = text.replace("prefix: old", "prefix: new").replace("bulkhead: 2", "bulkhead: 9")
    assert registry.apply(changed).outcome == "rejected"
    assert registry.get("late").rate_limiter.server.config.prefix == "old"


def test_a_refused_document_leaves_no_shared_instance_behind():
    own = "version: 1\nshared: {s: {rate_limiter: 10/hour}}\npolicies:\n  a: {rate_limiter: 10/hour}\n"
    own += "  b: {bulkhead: 2}\n"
    registry = Registry.from_text(own, patterns=STUBBORN, environ={})
    a, _ = registry.get("a"), registry.get("b")
    shared = own.replace("a: {rate_limiter: 10/hour}", "a: {rate_limiter: {use: s}}")
    assert registry.apply(shared.replace("bulkhead: 2", "bulkhead: 9")).outcome == "rejected"
    a.rate_limiter._limit.take("")
    spent = a.rate_limiter.spent()
    assert registry.apply(shared).outcome == "applied"
    assert a.rate_limiter.spent() == spent


# In the middle of a reload


def test_a_reload_waits_for_the_one_under_way(file, monkeypatch):
    """Each reads for itself; what it does with that waits."""
    registry = Registry.from_file(file, environ={})
    inside, goes_on, entered = threading.Event(), threading.Event(), []
    check = transaction.check_against

    def slow(*args):
        entered.append(threading.current_thread())
        inside.set()
        assert goes_on.wait(30.0)
        check(*args)

    monkeypatch.setattr(transaction, "check_against", slow)
    threads = [threading.Thread(target=registry.reload, daemon=True) for _ in range(2)]
    threads[0].start()
    assert inside.wait(15.0)
    threads[1].start()
    threads[1].join(0.03)
    assert entered == threads[:1]
    goes_on.set()
    for thread in threads:
        thread.join(15.0)
    assert entered == threads


def test_a_policy_first_used_while_others_are_built_is_current_afterwards(file, monkeypatch):
    registry = Registry.from_file(file, environ={})
    registry.get("a")
    build = Builder.rebuild

    def first_use_meanwhile(self, policy, old, new):
        monkeypatch.setattr(Builder, "rebuild", build)
        registry.get("b")
        return build(self, policy, old, new)

    monkeypatch.setattr(Builder, "rebuild", first_use_meanwhile)
    assert registry.apply(BASIC.replace("1}", "3}").replace("2}", "4}")).outcome == "applied"
    assert (registry.get("a").bulkhead.max_concurrent, registry.get("b").bulkhead.max_concurrent) == (3, 4)
    assert registry.get("b").generation == 2


def test_a_save_that_somebody_else_has_only_looked_at_is_still_applied(file, monkeypatch):
    registry = Registry.from_file(file, environ={})
    reload, saved = registry.reload, []

    def then_save_and_plan(*, trigger):
        result = reload(trigger=trigger)
        if not saved and result.outcome == "applied":
            saved.append(file.write_text(BASIC.replace("1}", "7}")))
            registry.plan()
        return result

    monkeypatch.setattr(registry, "reload", then_save_and_plan)
    registry.start_watching()
    try:
        until(lambda: registry.status()["reloads"]["unchanged"])
        file.write_text(BASIC.replace("1}", "3}"))
        until(lambda: registry.get("a").bulkhead.max_concurrent == 7)
    finally:
        registry.stop_watching()


# Faults


def test_a_fault_in_a_reload_is_in_the_status_until_a_reload_succeeds(file, monkeypatch):
    registry = Registry.from_file(file, environ={})

    def fail(known):
        raise MemoryError("no room")

    with monkeypatch.context() as broken:
        broken.setattr(type(registry.loader), "own", lambda self, known, looked: fail(known))
        with pytest.raises(MemoryError):
            registry.reload()
    assert not registry.status()["last_reload_successful"]
    assert registry.status()["last_error"] == "MemoryError: no room"
    registry.reload()
    assert registry.status()["last_reload_successful"]


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
def test_whatever_a_reload_raises_the_next_signal_is_served(file, monkeypatch):
    registry = Registry.from_file(file, environ={})
    asked = []

    def reload(*, trigger):
        asked.append(trigger)
        raise SystemExit

    monkeypatch.setattr(registry, "reload", reload)
    registry._signals._run_thread()
    registry._signals._word.put("first")
    registry._signals._word.put("second")
    until(lambda: asked == ["first", "second"])
    registry.ignore_signals()


def test_an_applied_document_is_no_fallback(tmp_path):
    (tmp_path / "baked.yaml").write_text(BASIC)
    environ = {"AIORESILIENCE_FALLBACK_CONFIG": str(tmp_path / "baked.yaml")}
    registry = Registry.from_file(tmp_path / "missing.yaml", environ=environ)
    assert registry.status()["on_fallback"]
    assert registry.apply(BASIC.replace("1}", "3}")).outcome == "applied"
    assert not registry.status()["on_fallback"]


# Fields laid over from code


def test_nothing_is_laid_over_a_document_that_was_rolled_back_to(file):
    registry = Registry.from_file(file, environ={})
    registry.apply(BASIC.replace("1}", "3}"))
    file.write_text(BASIC.replace("1}", "7}"))
    registry.reload()
    registry.rollback(1)
    assert registry.get("a").bulkhead.max_concurrent == 3
    with pytest.raises(RuntimeError, match="rolled back"), override("b", registry=registry, bulkhead=5):
        pytest.fail("it has no text to lay fields over")
    assert (registry.get("a").bulkhead.max_concurrent, registry.get("b").bulkhead.max_concurrent) == (3, 2)
    assert registry.status()["pinned"]


def test_a_rollback_under_an_override_outlives_it(file):
    registry = Registry.from_file(file, environ={})
    policy = registry.get("a")
    registry.apply(BASIC.replace("1}", "3}"))
    with override("b", registry=registry, bulkhead=5):
        registry.rollback(2)
        assert policy.bulkhead.max_concurrent == 1
    assert policy.bulkhead.max_concurrent == 1
    assert registry.get("b").bulkhead.max_concurrent == 2
    assert registry.reload().outcome == "unchanged"


def test_an_override_that_ends_while_another_reload_hangs_is_gone_with_the_next_one(
    file, monkeypatch, reload_that_hangs
):
    registry = Registry.from_file(file, environ={})
    with override("b", registry=registry, bulkhead=5):
        reload_that_hangs(registry, loading, "read_settled")
        monkeypatch.setattr(turn, "LONGEST", 0.01)
    assert registry.patched("b") is None
    reload_that_hangs.goes_on.set()
    until(lambda: registry.status()["reloading"] is None)
    monkeypatch.undo()
    registry.reload()
    assert registry.get("b").bulkhead.max_concurrent == 2


# Partitions


def test_a_partition_that_is_first_used_during_a_reload_is_current_afterwards(monkeypatch):
    text = "version: 1\npolicies:\n  a: {partition: {by: key}, bulkhead: 1, timeout: 1s}\n"
    registry = Registry.from_text(text, environ={})
    policy = registry.get("a")
    member = policy.partitions.enter(type("Key", (), {"key": "k", "host": None})())
    make = Snapshot.__init__

    def reload_meanwhile(self, *args):
        make(self, *args)
        monkeypatch.setattr(Snapshot, "__init__", make)
        registry.apply(text.replace(", timeout: 1s", ""))

    monkeypatch.setattr(Snapshot, "__init__", reload_meanwhile)
    member.snapshot  # noqa: B018  # made while the reload comes in between
    assert [pattern.key for pattern in member.snapshot.patterns] == ["bulkhead"]


# What the log says


def test_without_any_handler_a_broken_file_is_told_on_standard_error_and_nothing_else_is(file):
    text = f"""
        import pathlib
        from aioresilience import Registry, disable_logging
        file = pathlib.Path({str(file)!r})
        good = file.read_text()
        registry = Registry.from_file(file)
        file.write_text(good.replace("bulkhead: 2", "bulkhead: 5"))
        assert registry.reload().outcome == "applied"
        file.write_text("version: 1\\npolicys: 1\\n")
        assert registry.reload().outcome == "rejected"
        file.write_text(good)
        assert registry.reload().outcome == "applied"
        disable_logging()
        file.write_text("nothing")
        assert registry.reload().outcome == "rejected"
    """
    program = [sys.executable, "-c", textwrap.dedent(text)]
    said = subprocess.run(program, capture_output=True, text=True, check=True, timeout=60).stderr.splitlines()
    assert "policys" in "".join(said)
    assert [line for line in said if not line.startswith("reload_rejected: ")] == []
    assert not any("nothing" in line for line in said)


def test_the_differences_of_a_backend_name_the_fields_and_no_value():
    pytest.importorskip("redis")
    text = "version: 1\nbackends: {main: {url: 'redis://:hush@127.0.0.1:1/0', timeout: 50ms}}\npolicies: {}\n"
    registry = Registry.from_text(text, environ={})
    (change,) = registry.plan(text.replace("hush", "hist").replace("50ms", "80ms")).changes
    assert "url, timeout" in str(change)
    assert "hist" not in str(change)


def test_what_a_policy_is_partitioned_by_begins_anew_and_the_number_of_places_does_not():
    text = "version: 1\npolicies:\n  a: {partition: {by: key}, bulkhead: 1}\n"
    registry = Registry.from_text(text, environ={})
    (by,) = registry.plan(text.replace("by: key", "by: host")).changes
    (places,) = registry.plan(text.replace("by: key", "by: key, max: 9")).changes
    assert (by.effect, places.effect) == ("new state", "from the next call on")
