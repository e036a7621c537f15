"""Prometheus: what a real scrape says."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, generate_latest as plain_text, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics.exposition import generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from aioresilience import BulkheadFullError, CircuitBreaker, CircuitConfig, Registry
from aioresilience.bulkhead import Bulkhead
from aioresilience.integrations.metrics import CATALOGUE, View
from aioresilience.integrations.prometheus import ResilienceCollector, register
from aioresilience.policy import BUILTIN
from aioresilience.registry import loading
from aioresilience.testing import VirtualClock

EVERYTHING = """
version: 1
shared: {pool: {bulkhead: {max_concurrent: 1}}}
policies:
  all:
    idempotent: true
    deadline: 5s
    timeout: 1s
    retry: {max_attempts: 2, initial_delay: 0s, jitter: 0, budget: {ratio: 50%, min_per_second: 1, window: 10s}}
    circuit_breaker: {failure_threshold: 50}
    bulkhead: {use: pool}
    rate_limiter: {rate: 100/second}
    fallback: {value: sorry}
    adaptive_concurrency: {}
    load_shedder: {}
    backpressure: {}
  other: {bulkhead: {use: pool}}
  unused: {timeout: 1s}
"""
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def fine() -> str:
    return "fine"


async def broken() -> str:
    raise ConnectionError("host-7.example.invalid is gone")


def scraped(of: Registry, *patterns) -> Samples:
    """Serve the metrics over HTTP, fetch them and read them."""
    to = CollectorRegistry()
    register(of, patterns=patterns, to=to)
    server, thread = start_http_server(0, "127.0.0.1", registry=to)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as answer:
            text = answer.read().decode()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    return dict(samples(text))


def samples(text: str) -> Iterator[tuple[tuple[str, tuple[tuple[str, str], ...]], float]]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield (sample.name, tuple(sorted(sample.labels.items()))), sample.value


def value(found: Samples, name: str, **labels: str) -> float:
    return found[f"aioresilience_{name}", tuple(sorted(labels.items()))]


async def busy() -> Registry:
    of = Registry.from_text(EVERYTHING)
    policy = of.get("all")
    for _ in range(3):
        await policy.call(fine)
    await policy.call(broken)
    return of


async def test_a_scrape_has_every_metric_under_its_name_and_no_other():
    of = await busy()
    of.reload()
    found = scraped(of)
    silent = {"partition.count", "partition.events", "config.watcher_tick_age"}  # no partitions and no watcher here
    silent |= {f"rate_limit.{name}" for name in ("asked", "leased", "lease_returned", "backend_away")}  # no backend
    names = {name for name, _ in found}
    assert names == {one.prometheus_name for one in CATALOGUE if one.name not in silent}


async def test_the_numbers_are_those_of_the_status():
    of = await busy()
    found, status = scraped(of), of.status()["policies"]["all"]["patterns"]
    for key, pattern in status.items():
        if key == "bulkhead":
            continue
        for outcome, field in (("success", "succeeded"), ("failure", "failed"), ("neutral", "neutral")):
            assert value(found, "calls_total", policy="all", pattern=key, outcome=outcome) == pattern[field]
    assert value(found, "calls_total", policy="all", pattern="circuit_breaker", outcome="failure") == 2
    assert value(found, "retry_attempts_total", policy="all") == 1
    assert value(found, "retry_stopped_total", policy="all", reason="max_attempts") == 1
    assert value(found, "fallbacks_total", policy="all") == 1
    assert value(found, "circuit_states", policy="all", state="closed") == 1
    assert value(found, "places", policy="all", pattern="adaptive_concurrency") == 100


async def test_what_policies_share_is_counted_once():
    of = await busy()
    await of.get("other").call(fine)
    found = scraped(of)
    assert value(found, "calls_total", policy="shared:pool", pattern="bulkhead", outcome="success") == 4
    assert [
        labels for name, labels in found if name == "aioresilience_places" and ("pattern", "bulkhead") in labels
    ] == [(("pattern", "bulkhead"), ("policy", "shared:pool"))]


async def test_rejections_have_their_reason_and_places_their_use():
    of = await busy()
    go, policy = asyncio.Event(), of.get("other")
    call = asyncio.create_task(policy.call(go.wait))
    await asyncio.sleep(0)
    with pytest.raises(BulkheadFullError):
        await policy.call(fine)
    found = scraped(of)
    assert value(found, "rejections_total", policy="shared:pool", pattern="bulkhead", reason="capacity_full") == 1
    assert value(found, "in_use", policy="shared:pool", pattern="bulkhead") == 1
    go.set()
    await call


async def test_timeouts_and_observed_calls():
    clock = VirtualClock()
    text = "{version: 1, policies: {a: {timeout: 1s}, b: {bulkhead: {max_concurrent: 1, mode: observe}}}}"
    of = Registry.from_text(text, clock=clock)
    call = asyncio.create_task(of.get("a").call(asyncio.Event().wait))
    await clock.advance(2)
    await asyncio.gather(call, return_exceptions=True)
    await of.get("b").call(of.get("b").call, fine)
    found = scraped(of)
    assert value(found, "timeouts_total", policy="a", pattern="timeout") == 1
    assert value(found, "observed_total", policy="b", pattern="bulkhead") == 1


async def test_partitions_are_added_up_and_never_named():
    text = """
version: 1
policies:
  hosts: {circuit_breaker: {failure_threshold: 1}, bulkhead: 4, partition: {by: host, max: 3}}
"""
    of, go = Registry.from_text(text), asyncio.Event()
    policy = of.get("hosts")
    calls = [asyncio.create_task(policy.bind(host=f"busy-{n}.invalid").call(go.wait)) for n in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(ConnectionError):
        await policy.bind(host="dead.invalid").call(broken)
    await policy.bind(host="late.invalid").call(fine)
    await policy.call(fine)
    found = scraped(of)
    assert value(found, "circuit_states", policy="hosts", state="open") == 1
    assert value(found, "circuit_states", policy="hosts", state="closed") == 2
    assert value(found, "in_use", policy="hosts", pattern="bulkhead") == 2
    assert value(found, "partition_count", policy="hosts") == 3
    assert value(found, "partition_events_total", policy="hosts", reason="overflowed") == 1
    assert value(found, "partition_events_total", policy="hosts", reason="keyless") == 1
    assert value(found, "calls_total", policy="hosts", pattern="circuit_breaker", outcome="failure") == 1
    assert ".invalid" not in str(found)
    go.set()
    await asyncio.gather(*calls)


async def test_labels_are_closed_whatever_keys_and_messages_come():
    text = "{version: 1, policies: {api: {rate_limiter: {rate: 5/hour, scope: key}, bulkhead: 5}}}"
    of = Registry.from_text(text)
    of.get("api")
    before = set(scraped(of))
    for number in range(50):
        with pytest.raises(ConnectionError):
            await of.get("api").bind(key=f"user-{number}").call(broken)
    found = scraped(of)
    assert set(found) == before
    assert value(found, "rate_limit_keys", policy="api") == 50


async def test_reloads_by_result_and_trigger(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(EVERYTHING)
    of = Registry.from_file(path)
    assert value(scraped(of), "config_reloads_total", result="applied", trigger="file") == 0
    path.write_text(EVERYTHING.replace("1s", "2s"))
    of.reload()
    path.write_text("version: [")
    of.reload(trigger="file")
    found = scraped(of)
    assert value(found, "config_reloads_total", result="applied", trigger="api") == 1
    assert value(found, "config_reloads_total", result="rejected", trigger="file") == 1
    assert value(found, "config_last_reload_successful") == 0
    assert value(found, "config_generation") == 2
    path.unlink()
    assert value(scraped(of), "config_unreadable_sources") == 1


def test_triggers_of_ones_own_share_one_label():
    of = Registry.from_text("{version: 1, policies: {}}")
    for number in range(3):
        of.reload(trigger=f"deploy-{number}")
    found = scraped(of)
    assert value(found, "config_reloads_total", result="unchanged", trigger="other") == 3
    assert "deploy" not in str(found)


async def test_age_and_watcher(tmp_path):
    path, clock = tmp_path / "r.yaml", VirtualClock()
    path.write_text(EVERYTHING)
    of = Registry.from_file(path, clock=clock)
    clock.move(90)
    assert value(scraped(of), "config_age_seconds") == 90
    assert value(scraped(of), "config_last_success_timestamp_seconds") == clock.wall() - 90
    assert value(scraped(of), "config_watcher_alive") == 0
    async with of.watching():
        found = scraped(of)
        assert (value(found, "config_watcher_alive"), value(found, "config_watcher_wanted")) == (1, 1)


def test_instances_that_belong_to_no_registry():
    circuit = CircuitBreaker("legacy-psp", CircuitConfig())
    circuit.force_open("INC-1")
    found = scraped(Registry.from_text("{version: 1}"), circuit)
    assert value(found, "circuit_states", policy="legacy-psp", state="open") == 1
    assert value(found, "circuit_forced", policy="legacy-psp") == 1


async def test_openmetrics_reads_it_too():
    of, to = await busy(), CollectorRegistry()
    to.register(ResilienceCollector(of))
    families = {family.name: family for family in read_openmetrics(generate_latest(to).decode())}
    assert families["aioresilience_retry_delay_seconds"].type == "counter"
    assert families["aioresilience_circuit_states"].type == "gauge"


WORKER = """
import asyncio, sys
from prometheus_client import Counter, generate_latest
from aioresilience import Registry
from aioresilience.integrations.prometheus import register

async def fine():
    return "fine"

async def main(calls):
    registry = Registry.from_text("{version: 1, policies: {api: {bulkhead: 5}}}")
    register(registry)
    Counter("served", "What the app counts itself.").inc(calls)
    for _ in range(calls):
        await registry.get("api").call(fine)

asyncio.run(main(int(sys.argv[1])))
sys.stdout.write(generate_latest().decode())
"""


def test_of_several_processes_each_tells_its_own_and_the_merged_files_leave_collectors_out(tmp_path):
    environ = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    told = []
    for calls in (2, 3):
        command = [sys.executable, "-c", WORKER, str(calls)]
        run = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=60)
        told.append(dict(samples(run.stdout)))
    assert [value(one, "calls_total", policy="api", pattern="bulkhead", outcome="success") for one in told] == [2, 3]
    merged = CollectorRegistry()
    MultiProcessCollector(merged, path=str(tmp_path))
    found = dict(samples(plain_text(merged).decode()))
    assert found == {("served_total", ()): 5}


async def test_families_that_are_kept_are_read_when_they_are_iterated():
    registry = await busy()
    kept = list(ResilienceCollector(registry).collect())
    [calls] = [family for family in kept if family.name == "aioresilience_calls"]
    assert len(calls.samples) == len(list(calls.samples)) > 10
    at_once = scraped(registry)
    for sample in calls.samples:
        assert at_once[sample.name, tuple(sorted(sample.labels.items()))] == sample.value


async def test_samples_are_looked_at_as_a_list_is():
    registry = await busy()
    first, second = (next(iter(ResilienceCollector(registry).collect())) for _ in range(2))
    plain = list(first.samples)
    assert (first.samples[0], first.samples[-1], first.samples[1:3]) == (plain[0], plain[-1], plain[1:3])
    assert first == second
    assert first.samples == plain
    assert repr(first.samples) == repr(plain)
    await registry.get("all").call(fine)
    assert first.samples != plain
    with pytest.raises(IndexError):
        first.samples[len(plain)]


async def test_a_collection_that_is_half_read_does_not_keep_the_garbage_collector_from_running():
    families = ResilienceCollector(await busy()).collect()
    samples = iter(next(families).samples)
    assert gc.isenabled()
    next(samples)
    assert gc.isenabled()


class Sometimes(Bulkhead):
    """A pattern of somebody, whose state has a field of a timeout's where it was built with one place."""

    key = "sometimes"
    stands_outside = "timeout"

    def status(self):
        return super().status() | ({"timed_out": 7} if self.config.max_concurrent == 1 else {})


@pytest.mark.parametrize("places", [(1, 2), (2, 1)])
def test_patterns_of_others_show_each_what_it_has(places):
    policies = {name: {"sometimes": number} for name, number in zip("ab", places, strict=True)}
    registry = Registry.from_mapping({"version": 1, "policies": policies}, environ={}, patterns=(*BUILTIN, Sometimes))
    for name in registry:
        assert registry.get(name).patterns
    to = CollectorRegistry()
    register(registry, to=to)
    shown = [
        line for line in plain_text(to).decode().splitlines() if 'pattern="sometimes"' in line and line.endswith(" 7.0")
    ]
    assert len(shown) == 1


@pytest.mark.usefixtures("untraced")
async def test_a_scrape_of_many_policies_works_in_short_steps(monkeypatch):
    """What is measured is the time on the CPU of the scraping thread alone, from breath to breath."""
    policies = {f"p{number}": {"timeout": 2, "bulkhead": 3, "retry": 3} for number in range(500)}
    registry = Registry.from_mapping({"version": 1, "policies": policies}, environ={})
    for name in registry:
        await registry.get(name).call(fine)
    to = CollectorRegistry()
    register(registry, to=to)
    await asyncio.to_thread(plain_text, to)
    breaths, longest = [], []
    monkeypatch.setattr(loading, "breathe", lambda: breaths.append(time.thread_time()))
    for _ in range(3):  # a machine that takes its processors away adds to any step, and not each time
        breaths.clear()
        assert await asyncio.to_thread(plain_text, to)
        assert breaths[-1] - breaths[0] > 0.01, "or else nothing was measured"
        longest.append(max(after - before for before, after in itertools.pairwise(breaths)))
    assert min(longest) < 0.01
    assert gc.isenabled()


async def test_what_a_scrape_keeps_for_its_time_is_little_to_the_collector():
    """The collector goes through it in one step: with ten thousand policies whatever is kept of each counts."""
    policies = {f"p{number}": {"timeout": 2, "bulkhead": 3, "retry": 3, "circuit_breaker": {}} for number in range(100)}
    registry = Registry.from_mapping({"version": 1, "policies": policies}, environ={})
    for name in registry:
        await registry.get(name).call(fine)
    look = View(registry, ())
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        rows = sum(1 for _ in look.rows)
        assert rows == 4 * len(registry)
        assert len(gc.get_objects()) - before < 1.2 * rows + 50
    finally:
        gc.enable()


def test_registering_reads_nothing_and_needs_no_registry_yet():
    to = CollectorRegistry()
    to.register(ResilienceCollector())


def test_what_nobody_uses_costs_nothing():
    code = (
        "import sys, aioresilience; from aioresilience import Registry; "
        "Registry.from_text('{version: 1, policies: {a: {timeout: 1s}}}').get('a'); "
        "print([m for m in sys.modules if m.startswith(('prometheus_client', 'opentelemetry', 'httpx', 'aiohttp'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("module", "library", "extra"),
    [("prometheus", "prometheus_client", "prometheus"), ("otel", "opentelemetry", "otel")],
)
def test_a_missing_library_is_an_error_that_names_the_extra(module, library, extra):
    code = f"import sys; sys.modules[{library!r}] = None; import aioresilience.integrations.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"pip install 'aioresilience[{extra}]'" in done.stderr
