"""OpenTelemetry: what an SDK's reader and exporter get."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from aioresilience import BulkheadFullError, Registry, global_bus
from aioresilience.integrations.metrics import CATALOGUE
from aioresilience.integrations.otel import observe_metrics, record_span_events

TEXT = """
version: 1
policies:
  api:
    idempotent: true
    deadline: 5s
    retry: {max_attempts: 2, initial_delay: 0s, jitter: 0}
    circuit_breaker: {failure_threshold: 2}
    bulkhead: {max_concurrent: 1}
  quotes: {fallback: {value: sorry}}
  watched: {bulkhead: {max_concurrent: 1, mode: observe}}
"""


async def fine() -> str:
    return "fine"


async def broken() -> str:
    raise ConnectionError("gone")


def collected(reader: InMemoryMetricReader) -> dict[tuple[str, frozenset], float]:
    data = reader.get_metrics_data()
    return {
        (metric.name, frozenset(point.attributes.items())): point.value
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }


def labels(**given: str) -> frozenset:
    return frozenset(given.items())


async def test_the_reader_gets_the_metrics_of_the_catalogue():
    of, reader = Registry.from_text(TEXT), InMemoryMetricReader()
    observe_metrics(of, meter_provider=MeterProvider([reader]))
    await of.get("api").call(fine)
    first = collected(reader)
    assert first["aioresilience.calls", labels(policy="api", pattern="bulkhead", outcome="success")] == 1
    assert {name for name, _ in first} <= {one.otel_name for one in CATALOGUE}
    with pytest.raises(ConnectionError):
        await of.get("api").call(broken)
    second = collected(reader)
    assert second["aioresilience.calls", labels(policy="api", pattern="circuit_breaker", outcome="failure")] == 2
    assert second["aioresilience.circuit.states", labels(policy="api", state="open")] == 1
    assert second["aioresilience.config.generation", labels()] == 1


async def test_units_and_kinds_are_those_of_the_catalogue():
    of, reader = Registry.from_text(TEXT), InMemoryMetricReader()
    observe_metrics(of, meter_provider=MeterProvider([reader]))
    of.get("api")
    scope = reader.get_metrics_data().resource_metrics[0].scope_metrics[0]
    assert scope.scope.name == "aioresilience"
    found = {metric.name: metric for metric in scope.metrics}
    assert found["aioresilience.retry.delay"].unit == "s"
    assert found["aioresilience.calls"].unit == "{call}"
    assert found["aioresilience.calls"].data.is_monotonic


@pytest.fixture
def spans():
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    stop = record_span_events()
    tracer = provider.get_tracer("test")
    yield tracer, exporter
    stop()
    provider.shutdown()
    assert not global_bus.is_active


def events(exporter: InMemorySpanExporter, name: str) -> list[tuple[str, dict]]:
    return [
        (event.name, dict(event.attributes))
        for span in exporter.get_finished_spans()
        if span.name == name
        for event in span.events
    ]


async def test_a_refusal_is_an_event_of_the_span_that_was_refused(spans):
    tracer, exporter = spans
    policy, go = Registry.from_text(TEXT).get("api"), asyncio.Event()
    call = asyncio.create_task(policy.call(go.wait))
    await asyncio.sleep(0)

    async def refused(name: str) -> None:
        with tracer.start_as_current_span(name), pytest.raises(BulkheadFullError):
            await policy.call(fine)

    await asyncio.gather(refused("one"), refused("two"))
    go.set()
    await call
    for name in ("one", "two"):
        ((event, attributes),) = events(exporter, name)
        assert event == "aioresilience.rejected"
        assert attributes["aioresilience.policy"] == "api"
        assert attributes["aioresilience.pattern"] == "bulkhead"
        assert attributes["aioresilience.reason"] == "CAPACITY_FULL"


async def test_retries_and_an_opening_circuit(spans):
    tracer, exporter = spans
    with tracer.start_as_current_span("call"), pytest.raises(ConnectionError):
        await Registry.from_text(TEXT).get("api").call(broken)
    names = [name for name, _ in events(exporter, "call")]
    assert names == ["aioresilience.retry_attempt", "aioresilience.state_change", "aioresilience.retry_exhausted"]
    changed = dict(events(exporter, "call"))["aioresilience.state_change"]
    assert (changed["aioresilience.old_state"], changed["aioresilience.new_state"]) == ("closed", "open")


async def test_a_fallback_and_what_observe_would_have_done(spans):
    tracer, exporter = spans
    of = Registry.from_text(TEXT)
    with tracer.start_as_current_span("call"):
        assert await of.get("quotes").call(broken) == "sorry"
        await of.get("watched").call(of.get("watched").call, fine)
    assert [name for name, _ in events(exporter, "call")] == [
        "aioresilience.fallback_executed",
        "aioresilience.would_reject",
    ]


async def test_calls_that_go_well_add_nothing_and_no_span_is_no_trouble(spans):
    tracer, exporter = spans
    policy = Registry.from_text(TEXT).get("api")
    with tracer.start_as_current_span("call"):
        await policy.call(fine)
    with pytest.raises(ConnectionError):
        await policy.call(broken)
    assert events(exporter, "call") == []
    assert trace.get_current_span() is trace.INVALID_SPAN


async def test_a_handler_that_is_inline_hears_at_once_and_its_errors_stay_with_it(caplog):
    seen = []

    def told(event) -> None:
        seen.append(event)
        raise ValueError("broken tracer")

    policy = Registry.from_text(TEXT).get("quotes")
    policy.fallback.events.add_handler("fallback_executed", told, inline=True)
    assert await policy.call(broken) == "sorry"
    assert len(seen) == 1
    assert policy.fallback.events.stats() == {"delivered": 0, "failed": 1, "dropped": 0}
    assert "broken tracer" in caplog.text


async def test_an_inline_handler_cannot_be_async():
    async def told(event) -> None: ...

    with pytest.raises(TypeError, match="nothing awaits an inline handler"):
        global_bus.add_handler("*", told, inline=True)
