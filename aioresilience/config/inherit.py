"""Inheritance: defaults, then templates left to right, then the policy; what lies above wins."""

from __future__ import annotations

import re
from collections.abc import Iterator

from aioresilience.config.diagnostics import suggest
from aioresilience.config.document import NAME_PATTERN
from aioresilience.config.interpolate import Absent, copy
from aioresilience.config.layers import Layers
from aioresilience.config.places import Block, Items, Path, Place
from aioresilience.config.report import Report, either, shown
from aioresilience.config.sources import packs_known

_NAME = re.compile(NAME_PATTERN)
EMPTY = Block()
MAX_LISTED = 8


class Inheritance:
    """Resolves `extends` in one document.

    A template that is reached twice is laid once, at its first place: an ancestor never overwrites its descendants.
    """

    __slots__ = ("_layers", "_policies", "_prefixes", "_templates", "defaults")

    def __init__(self, document: Block, layers: Layers) -> None:
        templates, defaults = document.get("templates"), document.get("defaults")
        self._templates = templates if isinstance(templates, Block) else EMPTY
        policies = document.get("policies")
        self._policies = policies if isinstance(policies, Block) else EMPTY
        self.defaults = defaults if isinstance(defaults, Block) else EMPTY
        self._layers = layers
        self._prefixes: dict[tuple[str | None, ...], Block] = {}

    def check(self, block: Block, path: Path, report: Report) -> None:
        """Report the templates that a policy or template extends and that do not exist."""
        for name, place in _extended(block):
            if not isinstance(self._templates.get(name), Block) and _NAME.fullmatch(name):
                message = f"unknown template {shown(name)}"
                report.add("AR301", place, message, hint=self._hint(name), path=(*path, "extends"))

    def _hint(self, name: str) -> str:
        if name in packs_known():
            return f"write include: ['pack:{name}'] to bring it in"
        near = suggest(name, self._templates)
        if near:
            return f"did you mean '{near}'?"
        if name in self._policies:
            return f"{name!r} is a policy; move what both share to templates"
        if pack := suggest(name, packs_known()):
            return f"if the pack '{pack}' is meant, write include: ['pack:{pack}'] and extends: {pack}"
        return f"there is {either(self._templates)}" if 0 < len(self._templates) <= MAX_LISTED else ""

    def check_circles(self, report: Report) -> None:
        """Report every circle of templates once."""
        done: set[str] = set()
        for name in self._templates:
            if name not in done:
                self._walk(name, done, report)

    def _walk(self, name: str, done: set[str], report: Report) -> None:
        stack = [(name, _extended(self._template(name)))]
        trail = [name]
        while stack:
            step = next(stack[-1][1], None)
            if step is None:
                done.add(trail.pop())
                stack.pop()
            elif step[0] in trail:
                self._circle([*trail[trail.index(step[0]) :], step[0]], step[1], report)
            elif step[0] not in done:
                trail.append(step[0])
                stack.append((step[0], _extended(self._template(step[0]))))

    def _circle(self, steps: list[str], place: Place, report: Report) -> None:
        message = f"templates extend each other in a circle: {' -> '.join(steps)}"
        report.add("AR302", place, message, hint="remove one of these steps", path=("templates", steps[-2], "extends"))

    def _template(self, name: str) -> Block:
        found = self._templates.get(name)
        return found if isinstance(found, Block) else EMPTY

    def layers(self, policy: Block) -> list[tuple[str, Block]]:
        """Return what a policy consists of, lowest first, each with the name of who says it."""
        names = self._line(policy)
        low = [] if has_no_defaults(policy) else [("defaults", self.defaults)]
        return [*low, *((f"template {name}", self._template(name)) for name in names), ("the policy", policy)]

    def _line(self, block: Block) -> list[str]:
        """Return the templates under a block, ancestors first, each once."""
        line: dict[str, None] = {}
        on_the_way: set[str] = set()
        stack: list[tuple[str | None, Iterator[tuple[str, Place]]]] = [(None, _extended(block))]
        while stack:
            name, steps = stack[-1]
            step = next(steps, None)
            if step is None:
                stack.pop()
                if name is not None:
                    line[name] = None
            elif step[0] not in line and step[0] not in on_the_way:
                on_the_way.add(step[0])
                stack.append((step[0], _extended(self._template(step[0]))))
        return list(line)

    def effective(self, policy: Block) -> Block:
        """Return a policy with all that it inherits; what is null in it was removed."""
        merged = self._layers.policy(self._prefix(policy), policy)
        if "extends" in merged:
            del merged["extends"], merged.places["extends"]
        return merged

    def _prefix(self, policy: Block) -> Block:
        start = None if has_no_defaults(policy) else ""
        key = (start, *(name for name, _ in _extended(policy)))
        if key not in self._prefixes:
            merged = Block()
            for _, block in self.layers(policy)[:-1]:
                merged = self._layers.policy(merged, block)
            self._prefixes[key] = merged
        return self._prefixes[key]


def has_no_defaults(policy: Block) -> bool:
    """Tell whether a policy says `extends: null`: not even the defaults."""
    return "extends" in policy and policy["extends"] is None


def _extended(block: Block) -> Iterator[tuple[str, Place]]:
    value = block.get("extends")
    if isinstance(value, str) and not isinstance(value, Absent):
        yield value, block.value_place("extends")
    elif isinstance(value, Items):
        for index, name in enumerate(value):
            if isinstance(name, str):
                yield name, value.value_place(index)


def patch_of(patch: Block, policy: Block, patterns: frozenset[str] | set[str]) -> Block:
    """Return the part of a patch for all policies that concerns this one: only patterns that it has.

    Over a shared instance only `mode` is laid.
    """
    part = copy(patch)
    for key in patch:
        has = policy.get(key)
        if key == "extends" or (key in patterns and has is None):
            del part[key], part.places[key]
        elif key in patterns and isinstance(has, Block) and has.get("use") is not None:
            part[key] = _mode_of(patch[key])
    return part


def _mode_of(block: object) -> Block:
    only = Block()
    if isinstance(block, Block) and "mode" in block:
        only.put("mode", block["mode"], block.pair("mode"))
    return only
