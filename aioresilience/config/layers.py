"""Laying one document over another: mappings deep, scalars and lists replace, null replaces and stays."""

from __future__ import annotations

from collections.abc import Callable, Collection

from aioresilience.config.places import Block, Node
from aioresilience.config.tree import merge
from aioresilience.config.vocabulary import POLICY_MAPS

Join = Callable[[Block, Block], Block]


class Layers:
    """Lays documents and policies over each other; a block with `use` replaces what lies below it."""

    __slots__ = ("_patterns",)

    def __init__(self, patterns: Collection[str]) -> None:
        self._patterns = frozenset(patterns)

    def document(self, low: Block, high: Block) -> Block:
        """Lay a source over those before it."""
        return _lay(low, high, self._section)

    def _section(self, key: str) -> Join:
        if key in POLICY_MAPS:
            return self.policies
        if key == "defaults":
            return self.policy
        return self._overlays if key == "environments" else merge

    def _overlays(self, low: Block, high: Block) -> Block:
        return _lay(low, high, lambda _: self.document)

    def policies(self, low: Block, high: Block) -> Block:
        """Lay policies over those of the same names."""
        return _lay(low, high, lambda _: self.policy)

    def policy(self, low: Block, high: Block) -> Block:
        """Lay one policy, template or set of defaults over another."""
        return _lay(low, high, lambda key: lay_pattern if key in self._patterns else merge)


def lay_pattern(low: Block, high: Block) -> Block:
    """Lay one pattern's block over another."""
    return high if high.get("use") is not None else merge(low, high)


def _lay(low: Block, high: Block, join_for: Callable[[str], Join]) -> Block:
    merged = Block(low.source if len(low) >= len(high) else high.source)
    _take(merged, low)
    for key, value in high.items():
        below: Node = low.get(key)
        if key not in low:
            _put(merged, key, value, high)
        elif isinstance(below, Block) and isinstance(value, Block):
            _put(merged, key, join_for(key)(below, value), high)
        else:
            key_place, value_place = high.pair(key)
            merged.put(key, value, (key_place, value_place.over(low.value_place(key))))
    return merged


def _take(merged: Block, low: Block) -> None:
    merged.update(low)
    same = merged.source is low.source
    merged.places = dict(low.places) if same else {key: low.pair(key) for key in low}


def _put(merged: Block, key: str, value: Node, high: Block) -> None:
    merged.put(key, value, high.places[key] if high.source is merged.source else high.pair(key))
