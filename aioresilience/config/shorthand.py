"""Short forms: `timeout: 2s` becomes `timeout: {timeout: 2s}`, at the same place."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aioresilience.config.interpolate import copy
from aioresilience.config.places import SPAN_BITS, SPAN_MASK, Block, Items, Node
from aioresilience.config.vocabulary import POLICY_MAPS, Vocabulary


class Shorthand:
    """Expands short forms wherever a policy's keys may stand."""

    __slots__ = ("_breathe", "_shorts")

    def __init__(self, vocabulary: Vocabulary, breathe: Callable[[], None]) -> None:
        self._shorts: Mapping[str, str] = {key: one.short for key, one in vocabulary.types.items() if one.short}
        self._breathe = breathe

    def document(self, root: Block) -> Block:
        """Return the document in its long form; what needs no change is shared with `root`."""
        return _mapped(root, self._section)

    def _section(self, key: str, value: Node) -> Node:
        if isinstance(value, Block):
            if key in POLICY_MAPS:
                return _mapped(value, lambda _, policy: self.policy(policy))
            if key == "defaults":
                return self.policy(value)
            if key == "environments":
                return _mapped(value, lambda _, one: self.document(one) if isinstance(one, Block) else one)
        if key == "overrides" and isinstance(value, Items):
            return self._overrides(value)
        return value

    def _overrides(self, items: Items) -> Items:
        expanded = Items(items.source)
        expanded.extend(_mapped(one, self._set) if isinstance(one, Block) else one for one in items)
        expanded.places = items.places
        return expanded

    def _set(self, key: str, value: Node) -> Node:
        return self.policy(value) if key == "set" else value

    def policy(self, policy: Node) -> Node:
        """Return a policy in its long form."""
        if not isinstance(policy, Block):
            return policy
        self._breathe()
        expanded = policy
        for key, value in policy.items():
            short = self._shorts.get(key)
            if short is None or value is None or isinstance(value, Block):
                continue
            expanded = copy(policy) if expanded is policy else expanded
            expanded[key] = _block(short, value, policy, key)
        return expanded


def _block(short: str, value: Node, policy: Block, key: str) -> Block:
    block = Block(policy.source)
    packed = policy.places[key]
    if isinstance(packed, int):
        span = packed & SPAN_MASK
        block.put(short, value, span << SPAN_BITS | span)
    else:
        block.put(short, value, (packed[1], packed[1]))
    return block


def _mapped(block: Block, change: Callable[[str, Node], Node]) -> Block:
    mapped = block
    for key, value in block.items():
        new = change(key, value)
        if new is not value:
            mapped = copy(block) if mapped is block else mapped
            mapped[key] = new
    return mapped
