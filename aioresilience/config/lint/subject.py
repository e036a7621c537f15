"""What lint looks at, and how a rule says what it found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from aioresilience.config.diagnostics import Diagnostic, diagnose
from aioresilience.config.document import Route
from aioresilience.config.places import Block, Path, Place
from aioresilience.config.spec import OverrideSpec, PolicySpec
from aioresilience.config.suppressions import Suppression
from aioresilience.config.tree import locate
from aioresilience.config.vocabulary import Vocabulary
from aioresilience.pattern import PatternConfig

ConfigT = TypeVar("ConfigT", bound=PatternConfig)


@dataclass(frozen=True, slots=True)
class Subject:
    """One document that nothing refuses; `now` is in seconds since the epoch, `roots` are the sources themselves."""

    tree: Block
    policies: Mapping[str, PolicySpec]
    routes: tuple[Route, ...]
    overrides: tuple[OverrideSpec, ...]
    vocabulary: Vocabulary
    suppressions: tuple[Suppression, ...]
    roots: frozenset[str]
    now: float
    breathe: Callable[[], None] = lambda: None

    def policy_place(self, spec: PolicySpec) -> Place:
        """Return where the name of a policy stands."""
        return locate(self.tree, ("policies", spec.name), key=True)


Rule = Callable[[Subject], Iterator[Diagnostic]]
PolicyRule = Callable[[Subject, PolicySpec], Iterator[Diagnostic]]


def part(spec: PolicySpec, kind: type[ConfigT]) -> ConfigT | None:
    """Return the config of that kind that a policy has, unless it is switched off."""
    found = next((config for _, config in spec.patterns if isinstance(config, kind)), None)
    return None if found is None or getattr(found, "mode", None) == "off" else found


def position(spec: PolicySpec, key: str) -> int:
    """Return how far in a pattern stands, 0 is the outermost."""
    return [name for name, _ in spec.patterns].index(key)


def found(code: str, spec: PolicySpec, path: Path, message: str, hint: str) -> Diagnostic:
    """Make a finding at the value that a policy has at `path`, or at the nearest key above it."""
    return diagnose(code, spec.place(path), message, hint=hint, path=("policies", spec.name, *path))
