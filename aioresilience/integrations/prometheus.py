"""Prometheus: a collector that reads counters when it is scraped; needs the extra `prometheus`.

Nothing is counted twice and nothing happens between scrapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Final, overload

from aioresilience.collector import collector_paused
from aioresilience.integrations.extras import extra
from aioresilience.integrations.metrics import CATALOGUE, Metric, Reading, View
from aioresilience.pattern import AnyPattern
from aioresilience.registry import Registry
from aioresilience.registry.loading import pace

with extra("prometheus", "prometheus-client"):
    from prometheus_client import REGISTRY, CollectorRegistry
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector
    from prometheus_client.samples import Sample

__all__ = ["ResilienceCollector", "register"]

Family = CounterMetricFamily | GaugeMetricFamily
STEP: Final = 64
"""Samples that are made at a time."""


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
        look = _Look(self._registry, self._patterns)
        for metric in CATALOGUE:
            family = _family(metric)
            family.samples = _Samples(family, metric, look)  # type: ignore[assignment]  # it is read as a list is
            yield family
        look.forget()


class _Look:
    """The one look at a registry that the families of a collection share, made when the first of them is read."""

    def __init__(self, registry: Registry | None, patterns: tuple[AnyPattern, ...]) -> None:
        self._view: View | None = None
        self._make = partial(View, registry, patterns)

    @property
    def view(self) -> View:
        """The look, a new one after `forget`."""
        if self._view is None:
            self._view = self._make()
        return self._view

    def forget(self) -> None:
        """Let go of it bit by bit: of thousands of policies at once would hold the interpreter."""
        if self._view is not None:
            self._view.forget(pace())
        self._view = None


class _Samples(Sequence[Sample]):
    """The samples of a family, each made when its line is written: ten thousand policies have half a million."""

    def __init__(self, family: Family, metric: Metric, look: _Look) -> None:
        self._name = family.name + ("_total" if metric.kind == "counter" else "")
        self._metric = metric
        self._look = look

    def __iter__(self) -> Iterator[Sample]:
        breathe, readings = pace(), self._metric.read(self._look.view)
        while step := self._step(readings):
            for sample in step:
                breathe()
                yield sample

    def _step(self, readings: Iterator[Reading]) -> list[Sample]:
        names = self._metric.labels
        with collector_paused():  # which would go through all that the look makes again and again
            return [
                Sample(self._name, dict(zip(names, labels, strict=True)), value)
                for labels, value in islice(readings, STEP)
            ]

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        return list(self)[index]

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, (list, _Samples)) else NotImplemented

    def __repr__(self) -> str:
        return repr(list(self))


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
