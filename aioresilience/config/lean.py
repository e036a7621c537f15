"""Keeping little of a document: what a registry needs, and not the text that it came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from aioresilience.config.places import Block
from aioresilience.config.spec import Document, PolicySpec

NO_TREE: Final = Block()


def lean(document: Document, known: Mapping[str, PolicySpec], breathe: Callable[[], None]) -> Document:
    """Return the document without trees, and with the objects of `known` where a policy is the same."""
    policies = {}
    for name, spec in document.policies.items():
        breathe()
        policies[name] = _kept(spec, known.get(name))
    return replace(document, policies=policies, default=replace(document.default, tree=NO_TREE), tree=NO_TREE)


def dismantle(document: Document, trees: Iterable[Block], breathe: Callable[[], None]) -> None:
    """Let a document go in small pieces, with all trees that it was made of: at once would hold the interpreter."""
    if isinstance(document.policies, dict):
        let_go(document.policies, breathe)
    for tree in (*trees, document.tree):
        for section in list(tree.values()):
            if isinstance(section, Block):
                let_go(section, breathe)


def _kept(spec: PolicySpec, before: PolicySpec | None) -> PolicySpec:
    same = before is not None and before == spec and before.about == spec.about
    return before if before is not None and same else replace(spec, tree=NO_TREE)


def let_go(held: dict[Any, Any], breathe: Callable[[], None]) -> None:
    """Empty a mapping entry by entry."""
    while held:
        held.popitem()
        breathe()
