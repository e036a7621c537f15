"""Changes for the length of an incident, laid over what the sources say."""

from __future__ import annotations

from aioresilience.config.checking import Checker
from aioresilience.config.diagnostics import suggest
from aioresilience.config.document import Override
from aioresilience.config.layers import Layers
from aioresilience.config.places import Block, Items
from aioresilience.config.report import Report, shown
from aioresilience.config.spec import OverrideSpec
from aioresilience.config.tree import nest, with_origin
from aioresilience.config.written import without


def overridden(
    tree: Block, checker: Checker, layers: Layers, report: Report, now: float
) -> tuple[Block, tuple[OverrideSpec, ...], Block]:
    """Lay the overrides that have not expired over their policies; those for all of them come later."""
    specs: list[OverrideSpec] = []
    everywhere = Block()
    given = tree.get("overrides")
    listed = given if isinstance(given, Items) else Items()
    for index, one in enumerate(listed):
        if not isinstance(one, Block) or not isinstance(one.get("set"), Block):
            continue
        override = checker.part(Override, without(one, ("set",))).value
        if override is None:
            continue
        place = listed.value_place(index)
        spec = OverrideSpec(
            override.policy, override.expires.timestamp(), override.reason, override.by,
            override.expires.timestamp() > now, place,
        )  # fmt: skip
        specs.append(spec)
        patch = one["set"]
        if not isinstance(patch, Block):
            continue
        patch = with_origin(patch, "override") if spec.active else patch
        if spec.policy != "*":
            tree = _override(tree, spec, one, patch, layers, report)
        elif spec.active:
            everywhere = layers.policy(everywhere, patch)
    return tree, tuple(specs), everywhere


def _override(tree: Block, spec: OverrideSpec, one: Block, patch: Block, layers: Layers, report: Report) -> Block:
    known = tree.get("policies")
    known = known if isinstance(known, Block) else Block()
    if not isinstance(known.get(spec.policy), Block):
        near = suggest(spec.policy, known)
        hint = f"did you mean '{near}'?" if near else "delete the override"
        message = f"unknown policy {shown(spec.policy)}"
        report.add("AR314", one.value_place("policy"), message, hint=hint, path="overrides")
        return tree
    if not spec.active:
        return tree
    named = Block(patch.source)
    named.put(spec.policy, patch, one.pair("set"))
    return layers.document(tree, nest(("policies",), named, one.value_place("set")))
