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
from aioresilience.registry import Registry, get_registry
from aioresilience.registry.loading import pace

Reading = tuple[tuple[str, ...], float]
"""Values of the labels, in the metric's order, and the number."""
State = Mapping[str, object]

NEVER_A_REJECTION: Final = frozenset({"CALL_FAILED", "THRESHOLD_EXCEEDED"})
"""Reasons of a circuit breaker that its callbacks know, and no refused call has."""


@dataclass(frozen=True, slots=True)
class Row:
    """One pattern of one policy, or a shared block; `states` are those of its partitions too, `own` its own."""

    policy: str
    pattern: str
    counts: Counts
    own: State
    states: tuple[State, ...]
    partitioned: bool
    is_guard: bool

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
        breathe = pace()
        for policy in self.policies:
            breathe()
            for pattern in self.registry.builder.present(policy):
                if id(pattern) not in found:
                    found[id(pattern)] = _row(pattern, policy)
        return [*found.values(), *(_row(pattern, None) for pattern in self._patterns)]

    def forget(self, breathe: Callable[[], None]) -> None:
        """Let go of the rows one by one; those that are read afterwards are new ones."""
        rows = self.__dict__.pop("_rows", [])
        while rows:
            rows.pop()
            breathe()


def _row(pattern: AnyPattern, policy: Policy | None) -> Row:
    partitions = None if policy is None else policy.partitions
    twins = [] if partitions is None else partitions.instances(pattern)
    own = pattern.status()
    name = pattern.policy or (pattern.name if policy is None else policy.name)
    states = (own, *(twin.status() for twin in twins))
    split = partitions is not None and pattern.splits
    return Row(name, pattern.key, pattern.counts, own, states, split, isinstance(pattern, Guard))
