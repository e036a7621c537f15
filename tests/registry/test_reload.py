import asyncio
import os
import sys
import time

import pytest

import aioresilience
from aioresilience import RateLimitExceededError, Registry, RevisionConflictError
from aioresilience.config import ConfigError
from aioresilience.testing import EventLog, VirtualClock

BASIC = """version: 1
policies:
  payments:
    timeout: 2s
    bulkhead: 2
    circuit_breaker: {failure_threshold: 2, recovery_timeout: 10s, recovery_jitter: 0%}
  search: {bulkhead: 1}
  quotes: {rate_limiter: 10/minute}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "resilience.yaml"
    path.write_text(BASIC)
    return path


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def registry(file, clock):
    return Registry.from_file(file, clock=clock, environ={})


async def nothing():
    return "done"


async def fail():
    raise ConnectionError("down")


def replace(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


async def opened(policy):
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await policy.call(fail)
    assert policy.circuit_breaker.get_state().name == "OPEN"


def test_a_valid_change_is_applied_with_its_differences(registry, file):
    replace(file, "bulkhead: 2", "bulkhead: 5")
    result = registry.reload()
    assert (result.outcome, result.generation) == ("applied", 2)
    (change,) = result.changes
    assert (change.policy, change.path, change.old, change.new) == ("payments", "bulkhead.max_concurrent", 2, 5)
    assert "payments.bulkhead.max_concurrent: 2 → 5" in str(result)


def test_any_error_applies_nothing_and_reports_all_errors(registry, file):
    replace(file, "bulkhead: 2", "bulkhead: -2")
    replace(file, "timeout: 2s", "timeout: soon")
    revision = registry.revision
    result = registry.reload()
    assert result.outcome == "rejected"
    assert len(result.diagnostics) == 2
    assert (registry.generation, registry.revision) == (1, revision)
    assert registry.get("payments").bulkhead.max_concurrent == 2
    assert registry.status()["last_reload_successful"] is False
    assert "bulkhead" in registry.status()["last_error"]


async def test_good_then_bad_then_the_same_good_rebuilds_nothing_and_says_recovered(registry, file):
    good = file.read_text()
    policy = registry.get("payments")
    bulkhead = policy.bulkhead
    with EventLog() as log:
        file.write_text("version: [")
        assert registry.reload().outcome == "rejected"
        file.write_text(good)
        assert registry.reload().outcome == "unchanged"
        await log.wait_for("reload_recovered")
    assert policy.bulkhead is bulkhead
    assert registry.status()["last_error"] is None


def test_reformatting_comments_and_metadata_change_nothing(registry, file):
    file.write_text(
        "# a comment\nmetadata: {revision: abc}\n" + file.read_text().replace("bulkhead: 2", "bulkhead:   2")
    )
    assert registry.reload().outcome == "unchanged"
    assert registry.generation == 1
    assert registry.status()["metadata"] == {"revision": "abc"}


async def test_unchanged_policies_keep_their_objects_and_state(registry, file):
    search, payments = registry.get("search"), registry.get("payments")
    await opened(payments)
    bulkhead, breaker = search.bulkhead, payments.circuit_breaker
    replace(file, "10/minute", "20/minute")
    assert registry.reload().outcome == "applied"
    assert search.bulkhead is bulkhead
    assert payments.circuit_breaker is breaker
    assert payments.circuit_breaker.get_state().name == "OPEN"
    assert payments.generation == 1


async def test_a_changed_policy_keeps_its_patterns_and_their_state(registry, file):
    payments = registry.get("payments")
    await opened(payments)
    breaker = payments.circuit_breaker
    replace(file, "recovery_timeout: 10s", "recovery_timeout: 30s")
    assert registry.reload().outcome == "applied"
    assert payments.circuit_breaker is breaker
    assert breaker.get_state().name == "OPEN"
    assert breaker.counts.failed == 2
    assert payments.generation == 2
    with pytest.raises(aioresilience.CircuitBreakerOpenError) as caught:
        await payments.call(nothing)
    assert caught.value.retry_after == pytest.approx(30, abs=9)


async def test_only_removing_or_adding_a_pattern_makes_a_new_one(registry, file):
    payments = registry.get("payments")
    bulkhead, timeout = payments.bulkhead, payments.timeout
    replace(file, "    timeout: 2s\n", "    retry: 2\n")
    assert registry.reload().outcome == "applied"
    assert payments.bulkhead is bulkhead
    assert payments.timeout is None
    assert payments.retry is not None
    replace(file, "    retry: 2\n", "    timeout: 2s\n")
    assert registry.reload().outcome == "applied"
    assert payments.timeout is not timeout


async def test_a_call_under_way_finishes_on_its_snapshot_and_returns_its_permit(registry, file):
    payments, gate = registry.get("payments"), asyncio.Event()
    calls = [asyncio.create_task(payments.call(gate.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    replace(file, "bulkhead: 2", "bulkhead: 1")
    assert registry.reload().outcome == "applied"
    assert payments.bulkhead.machine.active == 2
    gate.set()
    await asyncio.gather(*calls)
    assert payments.bulkhead.machine.active == 0
    assert payments.bulkhead.available_slots() == 1


async def test_a_rate_change_is_no_refill(registry, file):
    quotes = registry.get("quotes")
    for _ in range(10):
        await quotes.call(nothing)
    replace(file, "10/minute", "20/minute")
    assert registry.reload().outcome == "applied"
    with pytest.raises(aioresilience.RateLimitExceededError):
        await quotes.call(nothing)


async def test_a_removed_policy_goes_on_where_it_is_used(registry, file):
    search = registry.get("search")
    replace(file, "  search: {bulkhead: 1}\n", "")
    result = registry.reload()
    assert [(c.policy, c.kind) for c in result.changes] == [("search", "removed")]
    assert registry.get("search") is search
    assert await search.call(nothing) == "done"
    assert registry.status()["policies"]["search"]["retired"] is True
    assert "search" not in registry


def test_a_removed_policy_that_nobody_used_is_unknown(registry, file):
    replace(file, "  search: {bulkhead: 1}\n", "")
    registry.reload()
    with pytest.raises(aioresilience.UnknownPolicyError):
        registry.get("search")


def test_removal_can_be_refused(registry, file):
    file.write_text("settings: {on_removed: reject}\n" + file.read_text().replace("  search: {bulkhead: 1}\n", ""))
    result = registry.reload()
    assert result.outcome == "rejected"
    assert "search" in str(result)
    assert "search" in registry


def test_a_file_that_lost_its_end_is_taken_for_truncated(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(BASIC + "end: true\n")
    registry = Registry.from_file(path, environ={})
    path.write_text(BASIC)
    result = registry.reload()
    assert result.outcome == "rejected"
    assert "end: true" in result.message
    assert registry.generation == 1


def test_a_file_that_drops_most_policies_is_taken_for_truncated_unless_it_says_that_it_is_meant(registry, file):
    text = "version: 1\npolicies:\n  search: {bulkhead: 1}\n"
    file.write_text(text)
    assert registry.reload().outcome == "rejected"
    file.write_text("settings: {shrink: allow}\n" + text)
    assert registry.reload().outcome == "applied"


@pytest.mark.parametrize("content", ["", "version: 1\n", None])
def test_an_emptied_or_deleted_file_changes_nothing(registry, file, content):
    file.unlink() if content is None else file.write_text(content)
    assert registry.reload().outcome == "rejected"
    assert len(registry) == 3


def test_an_expected_revision_that_is_gone_is_a_conflict(registry, file):
    revision = registry.revision
    replace(file, "bulkhead: 2", "bulkhead: 3")
    assert registry.reload(expected_revision=revision).outcome == "applied"
    with pytest.raises(RevisionConflictError, match="in effect"):
        registry.reload(expected_revision=revision)


def test_plan_shows_what_would_change_and_changes_nothing(registry, file):
    plan = registry.plan(BASIC.replace("bulkhead: 2", "bulkhead: 9"))
    assert plan
    assert "payments.bulkhead.max_concurrent: 2 → 9" in str(plan)
    assert "debt" in str(plan)
    assert registry.generation == 1
    assert not registry.plan(BASIC)
    assert str(registry.plan()) == "no changes"
    with pytest.raises(ConfigError):
        registry.plan("version: 1\npolicies: {a: {bulkhead: -1}}")


def test_an_applied_document_is_pinned_until_the_files_differ(registry, file):
    assert registry.apply(BASIC.replace("bulkhead: 2", "bulkhead: 9")).outcome == "applied"
    assert registry.reload(trigger="file").outcome == "unchanged"
    assert registry.get("payments").bulkhead.max_concurrent == 9
    replace(file, "bulkhead: 2", "bulkhead: 4")
    assert registry.reload(trigger="file").outcome == "applied"
    assert registry.get("payments").bulkhead.max_concurrent == 4


def test_a_rollback_is_pinned_until_the_files_differ(registry, file):
    replace(file, "bulkhead: 2", "bulkhead: 4")
    registry.reload()
    assert registry.rollback(1).outcome == "applied"
    assert registry.get("payments").bulkhead.max_concurrent == 2
    assert registry.generation == 3
    assert registry.reload(trigger="file").outcome == "unchanged"
    assert registry.get("payments").bulkhead.max_concurrent == 2
    with pytest.raises(IndexError, match="earlier documents"):
        registry.rollback(50)


def test_apply_takes_text_a_path_or_a_mapping(registry, file):
    assert registry.apply(file).outcome == "unchanged"
    assert registry.apply({"version": 1, "settings": {"shrink": "allow"}, "policies": {}}).outcome == "applied"
    with pytest.raises(TypeError, match="mapping"):
        registry.apply(5)


async def test_the_async_forms_do_not_block_the_loop(registry, file):
    replace(file, "bulkhead: 2", "bulkhead: 3")
    assert (await registry.areload()).outcome == "applied"
    assert (await registry.aapply(BASIC)).outcome == "applied"
    assert (await registry.arollback(1)).outcome == "applied"


async def test_a_listener_that_raises_does_not_stop_a_reload(registry, file):
    @registry.events.on("*")
    def broken(event):
        raise ValueError("listener")

    replace(file, "bulkhead: 2", "bulkhead: 3")
    assert registry.reload().outcome == "applied"
    await asyncio.sleep(0.01)


async def test_shared_instances_are_retuned_once_and_kept():
    text = (
        "version: 1\nshared: {db: {bulkhead: 1}}\npolicies:\n  a: {bulkhead: {use: db}}\n  b: {bulkhead: {use: db}}\n"
    )
    registry = Registry.from_text(text)
    a, b = registry.get("a"), registry.get("b")
    pool = a.bulkhead
    registry.apply(text.replace("bulkhead: 1", "bulkhead: 4"))
    assert a.bulkhead is b.bulkhead is pool
    assert pool.machine.limit == 4
    assert registry.get("a").bulkhead is pool


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("timeout: 5s", "rate_limiter: {rate: 2/minute, scope: key}"),
        ("rate_limiter: 9/minute", "rate_limiter: {use: api}"),
        ("partition: {}, rate_limiter: 9/minute", "partition: {}, rate_limiter: {rate: 2/minute, scope: key}"),
    ],
    ids=["new", "shared", "partitioned"],
)
async def test_calls_without_a_key_go_on_where_a_reload_brings_a_limit_by_key(before, after):
    text = "version: 1\nshared: {api: {rate_limiter: {rate: 2/minute, scope: key}}}\npolicies: {p: {%s}}"
    registry = Registry.from_text(text % before, environ={})
    policy = registry.get("p")
    registry.apply(text % after)
    assert await policy.bind(host="h").call(nothing) == await policy.bind(host="h").call(nothing) == "done"
    with pytest.raises(RateLimitExceededError):
        await policy.bind(host="h").call(nothing)


async def test_a_limit_by_key_from_the_start_goes_on_wanting_keys_when_others_share_it():
    text = "version: 1\nshared: {api: {rate_limiter: {rate: 2/minute, scope: key}}}\npolicies: {p: {rate_limiter: "
    registry = Registry.from_text(text + "{rate: 9/minute, scope: key}}}", environ={})
    policy = registry.get("p")
    registry.apply(text + "{use: api}}}")
    with pytest.raises(TypeError, match="this call has none"):
        await policy.call(nothing)


async def eventually(check, seconds=15.0):
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, "did not happen in time"
        await asyncio.sleep(0.01)


def rename_over(path, text):
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


@pytest.fixture
def watched(file):
    registry = Registry.from_file(file, environ={})
    registry.start_watching()
    end = time.monotonic() + 15
    while not registry.status()["reloads"]["unchanged"]:  # what comes within its first look may be looked at twice
        assert time.monotonic() < end
        time.sleep(0.005)
    yield registry
    registry.stop_watching()


async def test_a_file_written_in_place_is_applied(watched, file):
    await eventually(lambda: watched.status()["watcher"]["alive"])
    replace(file, "bulkhead: 2", "bulkhead: 6")
    await eventually(lambda: watched.generation == 2)
    assert watched.get("payments").bulkhead.max_concurrent == 6


async def test_a_file_renamed_over_is_applied_again_and_again(watched, file):
    for number in range(3, 6):
        rename_over(file, BASIC.replace("bulkhead: 2", f"bulkhead: {number}"))
        await eventually(lambda n=number: watched.get("payments").bulkhead.max_concurrent == n)


async def test_the_watcher_outlives_a_broken_file(watched, file):
    rename_over(file, "version: [")
    await eventually(lambda: watched.status()["reloads"]["rejected"] == 1)
    assert watched.generation == 1
    rename_over(file, BASIC.replace("bulkhead: 2", "bulkhead: 7"))
    await eventually(lambda: watched.generation == 2)
    assert watched.status()["reloads"]["rejected"] == 1


async def test_a_kubernetes_data_swap_is_noticed(tmp_path):
    (tmp_path / "..one").mkdir()
    (tmp_path / "..one" / "r.yaml").write_text(BASIC)
    (tmp_path / "..two").mkdir()
    (tmp_path / "..two" / "r.yaml").write_text(BASIC.replace("bulkhead: 2", "bulkhead: 8"))
    (tmp_path / "..data").symlink_to("..one")
    (tmp_path / "r.yaml").symlink_to("..data/r.yaml")
    registry = Registry.from_file(tmp_path / "r.yaml", environ={})
    async with registry.watching():
        await eventually(lambda: registry.status()["watcher"]["alive"])
        (tmp_path / "..data_tmp").symlink_to("..two")
        os.replace(tmp_path / "..data_tmp", tmp_path / "..data")
        await eventually(lambda: registry.generation == 2)
    assert registry.status()["watcher"]["alive"] is False


async def test_without_the_accelerator_polling_notices(file, monkeypatch):
    import watchfiles

    def broken(*args, **kwargs):
        raise OSError("inotify watch limit reached")

    monkeypatch.setattr(watchfiles, "watch", broken)
    registry = Registry.from_file(file, environ={})
    async with registry.watching():
        await eventually(lambda: registry.status()["watcher"]["kind"] == "polling")
        replace(file, "bulkhead: 2", "bulkhead: 6")
        await eventually(lambda: registry.generation == 2)


async def test_starting_twice_is_one_thread_and_stopping_twice_is_harmless(file):
    registry = Registry.from_file(file, environ={})
    registry.start_watching()
    thread = registry._watcher._thread
    registry.start_watching()
    assert registry._watcher._thread is thread
    registry.stop_watching()
    registry.stop_watching()
    assert not thread.is_alive()


SHEDDER = "version: 1\npolicies: {a: {load_shedder: {cpu_threshold: 80%, mode: observe}}}"
LIMIT = (
    "version: 1\nbackends: {main: {url: 'redis://redis.example.invalid'}}\n"
    "policies: {a: {rate_limiter: {rate: 9/second, backend: main}}}"
)


@pytest.mark.parametrize(("text", "library", "extra"), [(SHEDDER, "psutil", "system"), (LIMIT, "redis", "redis")])
async def test_what_is_not_installed_here_is_refused_before_a_call_would_need_it(monkeypatch, text, library, extra):
    registry = Registry.from_text("version: 1\npolicies: {a: {bulkhead: 2}}")
    monkeypatch.setitem(sys.modules, library, None)
    result = registry.apply(text)
    assert result.outcome == "rejected"
    assert f"needs {library}, which is not installed here" in str(result)
    assert f"aioresilience[{extra}]" in str(result)
    assert await registry.get("a").call(asyncio.sleep, 0, "served") == "served"
    with pytest.raises(ConfigError, match=library):
        Registry.from_text(text)
    assert Registry.from_text(text.replace("mode: observe", "mode: off").replace(", backend: main", "")) is not None
