"""Attempts that multiply along `depends_on`: one call at the near end, many at the far one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from aioresilience.config.diagnostics import Diagnostic
from aioresilience.config.lint.retrying import retrying
from aioresilience.config.lint.subject import Subject, found
from aioresilience.config.spec import PolicySpec

MAX_AMPLIFICATION: Final = 10
"""Calls at the far end per call at the near one, above which lint speaks."""
MAX_TRAIL: Final = 32
"""Policies in a row that are looked at."""
MAX_STEPS: Final = 100_000
"""Steps through one document's dependencies; only circles within circles need so many."""


class _Way(NamedTuple):
    """The most calls at the far end of a way, and the policies along it; `open` where a circle or a bound cut it."""

    calls: int
    trail: tuple[str, ...]
    open: bool


def amplification(subject: Subject) -> Iterator[Diagnostic]:
    """AR415: the attempts of policies that lead to each other multiply."""
    ways = _Ways(subject.policies)
    for spec in subject.policies.values():
        if spec.about is None or not spec.about.depends_on:
            continue
        worst = ways.worst(spec, ())
        if worst.calls > MAX_AMPLIFICATION and len(worst.trail) > 1:
            message = f"one call can become {worst.calls} along {' -> '.join(worst.trail)}"
            yield found("AR415", spec, ("about", "depends_on"), message, "retry at one of these places only")


class _Ways:
    """The worst ways from each policy; each is walked once, unless it leads into a circle."""

    __slots__ = ("_known", "_policies", "_steps")

    def __init__(self, policies: Mapping[str, PolicySpec]) -> None:
        self._policies = policies
        self._known: dict[str, _Way] = {}
        self._steps = 0

    def worst(self, spec: PolicySpec, above: tuple[str, ...]) -> _Way:
        """Return the way with the most calls at its end; a circle ends where it closes."""
        known = self._known.get(spec.name)
        if known is not None and not set(above).intersection(known.trail):
            return known
        self._steps += 1
        retry = retrying(spec)
        own, trail = retry.max_attempts if retry else 1, (*above, spec.name)
        ways = list(self._below(spec, trail))
        most = max(ways, default=_Way(1, (), False))
        way = _Way(own * most.calls, (spec.name, *most.trail), any(one.open for one in ways))
        if not way.open:
            self._known[spec.name] = way
        return way

    def _below(self, spec: PolicySpec, trail: tuple[str, ...]) -> Iterator[_Way]:
        for name in spec.about.depends_on if spec.about else ():
            below = self._policies.get(name)
            if below is None:
                continue
            if name in trail or len(trail) >= MAX_TRAIL or self._steps >= MAX_STEPS:
                yield _Way(1, (), True)
            else:
                yield self.worst(below, trail)
