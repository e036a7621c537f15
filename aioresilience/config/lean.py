"""Keeping little of a document: what a registry needs, and not the text that it came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from aioresilience.config.places import Block
from aioresilience.config.spec import Document, PolicySpec
from aioresilience.pattern import PatternConfig

NO_TREE: Final = Block()
NOT_SHARED: Final[Mapping[str, str]] = {}
Placed = tuple[str, PatternConfig]


def lean(document: Document, known: Mapping[str, PolicySpec], breathe: Callable[[], None]) -> Document:
    """Return the document without trees, and with the objects of `known` where a policy is the same."""
    policies, alike = {}, _Alike()
    for name, spec in document.policies.items():
        breathe()
        policies[name] = _kept(spec, known.get(name), alike)
    return replace(document, policies=policies, default=replace(document.default, tree=NO_TREE), tree=NO_TREE)


def dismantle(document: Document, trees: Iterable[Block], breathe: Callable[[], None]) -> None:
    """Let a document go in small pieces, with all trees that it was made of: at once would hold the interpreter."""
    if isinstance(document.policies, dict):
        let_go(document.policies, breathe)
    for tree in (*trees, document.tree):
        for section in list(tree.values()):
            if isinstance(section, Block):
                let_go(section, breathe)


def _kept(spec: PolicySpec, before: PolicySpec | None, alike: _Alike) -> PolicySpec:
    if before is not None and before == spec and before.about == spec.about:
        return before
    return replace(spec, tree=NO_TREE, patterns=alike.patterns(spec.patterns), shared=spec.shared or NOT_SHARED)


class _Alike:
    """What many policies of a document have alike, kept once."""

    def __init__(self) -> None:
        self._patterns: dict[tuple[tuple[str, int], ...], tuple[Placed, ...]] = {}
        self._placed: dict[tuple[str, int], Placed] = {}
        self._fields: dict[frozenset[str], set[str]] = {}

    def patterns(self, patterns: tuple[Placed, ...]) -> tuple[Placed, ...]:
        """Return the same patterns, as the one tuple for all policies that have these very configs."""
        known = tuple((key, id(config)) for key, config in patterns)
        if known not in self._patterns:
            self._patterns[known] = tuple(self._one(placed) for placed in patterns)
        return self._patterns[known]

    def _one(self, placed: Placed) -> Placed:
        key, config = placed
        if (key, id(config)) not in self._placed:
            self._placed[key, id(config)] = placed
            fields = config.model_fields_set
            # A frozen model never changes it, and every model has one of its own, of 216 bytes.
            object.__setattr__(config, "__pydantic_fields_set__", self._fields.setdefault(frozenset(fields), fields))
        return self._placed[key, id(config)]


def let_go(held: dict[Any, Any], breathe: Callable[[], None]) -> None:
    """Empty a mapping entry by entry."""
    while held:
        held.popitem()
        breathe()
