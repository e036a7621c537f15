"""Prometheus: a collector that reads counters when it is scraped; needs the extra `prometheus`.

Nothing is counted twice and nothing happens between scrapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from aioresilience.integrations.extras import extra
from aioresilience.integrations.metrics import CATALOGUE, Metric, View
from aioresilience.pattern import AnyPattern
from aioresilience.registry import Registry

with extra("prometheus", "prometheus-client"):
    from prometheus_client import REGISTRY, CollectorRegistry
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector

__all__ = ["ResilienceCollector", "register"]

Family = CounterMetricFamily | GaugeMetricFamily


class ResilienceCollector(Collector):
    """Collects the metrics of a registry, the default one unless told, and of `patterns` that belong to none."""

    def __init__(self, registry: Registry | None = None, *, patterns: Iterable[AnyPattern] = ()) -> None:
        self._registry = registry
        self._patterns = tuple(patterns)

    def describe(self) -> Iterator[Family]:
        """Name the metrics, so that registering reads nothing."""
        return map(_family, CATALOGUE)

    def collect(self) -> Iterator[Family]:
        """Read every metric."""
        view = View(self._registry, self._patterns)
        for metric in CATALOGUE:
            family = _family(metric)
            for labels, value in metric.read(view):
                family.add_metric(labels, value)
            yield family


def _family(metric: Metric) -> Family:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    return kind(metric.prometheus_name, metric.text, labels=metric.labels)


def register(
    registry: Registry | None = None, *, patterns: Iterable[AnyPattern] = (), to: CollectorRegistry = REGISTRY
) -> ResilienceCollector:
    """Add a collector to prometheus_client's default registry, or to another, and return it."""
    collector = ResilienceCollector(registry, patterns=patterns)
    to.register(collector)
    return collector
