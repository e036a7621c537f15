"""One look at a registry: its own state, and every pattern instance that is in use, once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from aioresilience.counts import Counts
from aioresilience.guard import Guard
from aioresilience.pattern import AnyPattern
from aioresilience.policy import Policy
from aioresilience.policy.shape import is_ours
from aioresilience.registry import Registry, get_registry
from aioresilience.registry.loading import pace

Reading = tuple[tuple[str, ...], float]
"""Values of the labels, in the metric's order, and the number."""
State = Mapping[str, object]

NEVER_A_REJECTION: Final = frozenset({"CALL_FAILED", "THRESHOLD_EXCEEDED"})
"""Reasons of a circuit breaker that its callbacks know, and no refused call has."""


@dataclass(frozen=True, slots=True)
class Row:
    """One pattern of one policy, or a shared block.

    States are made when a metric asks: those of ten thousand policies together would be much for the collector.
    """

    policy: str
    pattern: str
    instance: AnyPattern
    twins: tuple[AnyPattern, ...]
    """The instances of its partitions."""
    partitioned: bool
    is_guard: bool
    shown: frozenset[str]
    """The fields of its state."""

    @property
    def counts(self) -> Counts:
        """How its calls ended, those of its partitions included."""
        return self.instance.counts

    @property
    def own(self) -> State:
        """Its own state."""
        return self.instance.status()

    @property
    def states(self) -> tuple[State, ...]:
        """Its own state and those of its partitions."""
        return (self.own, *(twin.status() for twin in self.twins))

    @property
    def rejections(self) -> Iterator[tuple[str, int]]:
        """The refused calls by reason, in lower case."""
        for reason, count in self.counts.rejected.items() if self.is_guard else ():
            if reason not in NEVER_A_REJECTION:
                yield reason.lower(), count


class View:
    """What one collection reads; `patterns` are instances that belong to no registry."""

    def __init__(self, registry: Registry | None, patterns: Iterable[AnyPattern]) -> None:
        self.registry = get_registry() if registry is None else registry
        self._patterns = tuple(patterns)

    @functools.cached_property
    def overview(self) -> Mapping[str, object]:
        """The registry's own state."""
        return self.registry.overview()

    @functools.cached_property
    def policies(self) -> tuple[Policy, ...]:
        """The policies that are in use, those that a reload removed included."""
        with self.registry.lock:
            return tuple(self.registry.policies.values())

    @property
    def rows(self) -> Iterator[Row]:
        """Every pattern instance once, in short steps: most metrics have nothing to say of most of them."""
        breathe = pace()
        for row in self._rows:
            breathe()
            yield row

    @functools.cached_property
    def _rows(self) -> list[Row]:
        """Look at each instance; one that several policies share is named after its block."""
        found: dict[int, Row] = {}
        fields: dict[type[AnyPattern], frozenset[str]] = {}
        breathe = pace()
        for policy in self.policies:
            breathe()
            for pattern in self.registry.builder.present(policy):
                if id(pattern) not in found:
                    found[id(pattern)] = _row(pattern, policy, fields)
        return [*found.values(), *(_row(pattern, None, fields) for pattern in self._patterns)]

    def forget(self, breathe: Callable[[], None]) -> None:
        """Let go of the rows one by one; those that are read afterwards are new ones."""
        rows = self.__dict__.pop("_rows", [])
        while rows:
            rows.pop()
            breathe()


def _row(pattern: AnyPattern, policy: Policy | None, fields: dict[type[AnyPattern], frozenset[str]]) -> Row:
    partitions = None if policy is None else policy.partitions
    twins = () if partitions is None else tuple(partitions.instances(pattern))
    name = pattern.policy or (pattern.name if policy is None else policy.name)
    shown = fields.get(type(pattern))
    if shown is None:
        shown = frozenset(pattern.status())
        if is_ours(type(pattern)):  # those of a class show the same
            fields[type(pattern)] = shown
    split = partitions is not None and pattern.splits
    return Row(name, pattern.key, pattern, twins, split, isinstance(pattern, Guard), shown)
