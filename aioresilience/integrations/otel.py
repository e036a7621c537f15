"""OpenTelemetry: metrics by observable instruments, and span events; needs the extra `otel`.

Without an SDK in the process both do nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from aioresilience.events import (
    CircuitBreakerEvent,
    DecisionEvent,
    EventType,
    FallbackEvent,
    ResilienceEvent,
    RetryEvent,
    global_bus,
)
from aioresilience.events.facts import plain
from aioresilience.integrations.extras import extra
from aioresilience.integrations.metrics import CATALOGUE, Metric, View
from aioresilience.pattern import AnyPattern
from aioresilience.registry import Registry

with extra("otel", "opentelemetry-api"):
    from opentelemetry import metrics, trace
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

__all__ = ["observe_metrics", "record_span_events"]

SCOPE = "aioresilience"
TOLD = (
    EventType.DECISION, EventType.RETRY_ATTEMPT, EventType.RETRY_EXHAUSTED, EventType.STATE_CHANGE,
    EventType.FALLBACK_EXECUTED, EventType.BUDGET_EXHAUSTED, EventType.LOOP_STALLED,
)  # fmt: skip
"""The events that become span events."""


class _Collection:
    """Lets the instruments of one collection share one look: the next begins when an instrument asks again."""

    def __init__(self, registry: Registry | None, patterns: tuple[AnyPattern, ...]) -> None:
        self._registry = registry
        self._patterns = patterns
        self._asked: set[str] = set()
        self._view: View | None = None

    def observe(self, metric: Metric, options: CallbackOptions) -> Iterator[Observation]:
        """Read one metric."""
        if self._view is None or metric.name in self._asked:
            self._view, self._asked = View(self._registry, self._patterns), set()
        self._asked.add(metric.name)
        for labels, value in metric.read(self._view):
            yield Observation(value, dict(zip(metric.labels, labels, strict=True)))


def observe_metrics(
    registry: Registry | None = None,
    *,
    patterns: Iterable[AnyPattern] = (),
    meter_provider: MeterProvider | None = None,
) -> None:
    """Create the instruments for a registry, the default one unless told; call it once.

    `patterns` are instances that belong to no registry; without `meter_provider` the global one is meant.
    """
    meter = metrics.get_meter(SCOPE, meter_provider=meter_provider)
    collection = _Collection(registry, tuple(patterns))
    for metric in CATALOGUE:
        create = meter.create_observable_counter if metric.kind == "counter" else meter.create_observable_gauge
        observe = partial(collection.observe, metric)
        create(metric.otel_name, [observe], unit=metric.otel_unit, description=metric.text)


def record_span_events() -> Callable[[], None]:
    """Add an event to the span around a call when a pattern decides something; return what ends it.

    It listens to every pattern of the process, so that each call builds its events.
    """
    for event_type in TOLD:
        global_bus.add_handler(event_type, _record, inline=True)
    return _stop


def _stop() -> None:
    for event_type in TOLD:
        global_bus.remove_handler(event_type, _record)


def _record(event: ResilienceEvent) -> None:
    span = trace.get_current_span()
    if span.is_recording():
        name = event.action if isinstance(event, DecisionEvent) else plain(event.event_type)
        span.add_event(f"{SCOPE}.{name}", _attributes(event))


def _attributes(event: ResilienceEvent) -> Mapping[str, str | float | int]:
    shown: dict[str, object] = {"pattern": plain(event.pattern_type), "name": event.pattern_name}
    if isinstance(event, DecisionEvent):
        shown |= {"policy": event.policy, "reason": event.reason, "waited": event.waited}
    elif isinstance(event, RetryEvent):
        shown |= {"attempt": event.attempt, "delay": event.delay, "error": event.error}
    elif isinstance(event, CircuitBreakerEvent):
        shown |= {"old_state": plain(event.old_state), "new_state": plain(event.new_state)}
    elif isinstance(event, FallbackEvent):
        shown |= {"error": plain(event.primary_error)}
    told = {name: value for name, value in shown.items() if value is not None}
    return {f"{SCOPE}.{name}": value if isinstance(value, (int, float)) else str(value) for name, value in told.items()}
