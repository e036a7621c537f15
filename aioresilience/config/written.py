"""Checks every block as it was written, whether or not it takes effect: templates, overlays, overrides."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from aioresilience.config.checking import Checker
from aioresilience.config.complaints import Spot, complain
from aioresilience.config.diagnostics import suggest
from aioresilience.config.document import NAME_PATTERN, Extending, Frame, Override, Part, PolicyFrame
from aioresilience.config.inherit import Inheritance
from aioresilience.config.places import Block, Items, Node, Path
from aioresilience.config.report import Report, either, shown
from aioresilience.config.vocabulary import IN_OVERLAY, POLICY_MAPS, SECTIONS, TOP_LEVEL, Vocabulary
from aioresilience.config.wording import choice, malformed_name

_NAME = re.compile(NAME_PATTERN)


class SharedFrame(Part):
    """A shared block without its patterns: nothing."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What sort of policy-like block it is: its frame, and whether its references are checked here."""

    frame: type[Part]
    refers: bool = True


KINDS: Mapping[str, Kind] = {
    "policies": Kind(Extending),
    "templates": Kind(Extending),
    "shared": Kind(SharedFrame),
    "defaults": Kind(PolicyFrame),
    "set": Kind(Extending),
}


class Written:
    """One check of one document; `refused` holds the identity of every pattern block with an error of its own."""

    def __init__(
        self, document: Block, vocabulary: Vocabulary, checker: Checker, inheritance: Inheritance, report: Report,
        breathe: Callable[[], None],
    ) -> None:  # fmt: skip
        self.refused: set[int] = set()
        self._document = document
        self._vocabulary = vocabulary
        self._checker = checker
        self._inheritance = inheritance
        self._report = report
        self._breathe = breathe
        self._patterns = frozenset(vocabulary.types)
        fields = {key: vocabulary.fields(key) for key in vocabulary.types}
        self._in_policy: Mapping[str, Collection[str]] = {**fields, "the top level of the file": TOP_LEVEL}
        self._in_pattern = {"the policy": vocabulary.policy_keys(), **fields}
        self._at_top = {"a policy": vocabulary.policy_keys(), **fields}

    def check(self) -> None:
        """Check the whole document."""
        self._top(self._document, (), TOP_LEVEL)
        overlays = self._document.get("environments")
        for name, overlay in self._named(overlays, ("environments",)):
            self._top(overlay, ("environments", name), IN_OVERLAY)
        self._inheritance.check_circles(self._report)

    def _top(self, document: Block, path: Path, valid: Collection[str]) -> None:
        known = {key for key in valid if key not in Frame.model_fields}
        frame = Block(document.source)
        for key, value in document.items():
            if key not in known and not key.startswith("x-"):
                frame.put(key, value, document.places[key])
        self._part(Frame, frame, path, document, more_keys=valid, elsewhere=self._at_top)
        for section in (*POLICY_MAPS, "defaults", "overrides"):
            if document.get(section) is not None:
                self._section(section, document, (*path, section))

    def _section(self, section: str, document: Block, path: Path) -> None:
        value = document[section]
        if section == "defaults":
            self.policy(value, path, KINDS["defaults"], document, section)
        elif section == "overrides":
            self._overrides(value, path, document)
        else:
            for name, block in self._named(value, path, document):
                self.policy(block, (*path, name), KINDS[section], value, name)  # type: ignore[arg-type]

    def _named(self, blocks: Node, path: Path, parent: Block | None = None) -> Iterator[tuple[str, Block]]:
        """Yield the blocks of a section; report malformed names and what is no block."""
        if blocks is None:
            return
        if not isinstance(blocks, Block):
            place = (parent or self._document).value_place(str(path[-1]))
            self._report.add("AR203", place, f"expected a block, got {shown(blocks)}", path=path)
            return
        for name, block in blocks.items():
            if not _NAME.fullmatch(name):
                complaint = malformed_name(name)
                self._report.add(complaint.code, blocks.key_place(name), complaint.message, hint=complaint.hint, path=path)
            if isinstance(block, Block):
                yield name, block
            elif block is not None or not blocks.value_place(name).shadows:
                self._no_block(name, block, blocks, path)

    def _no_block(self, name: str, value: Node, blocks: Block, path: Path) -> None:
        hint = f"write {name}: {{}} for one that adds nothing" if value is None else ""
        place = blocks.key_place(name) if value is None else blocks.value_place(name)
        self._report.add("AR203", place, f"expected a block, got {shown(value)}", hint=hint, path=(*path, name))

    def policy(self, policy: Node, path: Path, kind: Kind, parent: Block, name: str) -> None:
        """Check a policy, a template, a shared block, the defaults, or what an override sets."""
        if not isinstance(policy, Block):
            if policy is not None:
                self._no_block(name, policy, parent, path[:-1])
            return
        self._breathe()
        frame = Block(policy.source)
        for key, value in policy.items():
            if key in self._patterns:
                self._pattern(key, value, policy, path)
            else:
                frame.put(key, value, policy.places[key])
        if frame:
            keys = [*self._patterns, *(["extends"] if kind.frame is Extending else [])]
            self._part(kind.frame, frame, path, parent, more_keys=keys, elsewhere=self._in_policy)
            self._inheritance.check(policy, path, self._report)
            self._order(policy.get("order"), (*path, "order"))

    def _part(
        self, model: type[BaseModel], block: Block, path: Path, parent: Block, *, more_keys: Collection[str],
        elsewhere: Mapping[str, Collection[str]],
    ) -> None:  # fmt: skip
        checked = self._checker.part(model, block)
        partial = path[:1] == ("environments",) and model is Frame
        if checked.errors:
            place = parent.key_place(str(path[-1])) if path else parent.value_place("")
            complain(self._report, Spot(block, path, place, model, more_keys, elsewhere), _open(checked.errors), partial=partial)

    def _pattern(self, key: str, block: Node, policy: Block, path: Path) -> None:
        if block is None:
            return
        path = (*path, key)
        if not isinstance(block, Block):
            self._report.add("AR203", policy.value_place(key), f"expected a block, got {shown(block)}", path=path)
            return
        if "use" in block:
            block = self._use(key, block, path)
        checked = self._checker.pattern(key, block)
        if checked.errors:
            if checked.value is None and any(error["type"] != "missing" and error["loc"] for error in checked.errors):
                self.refused.add(id(policy[key]))
            place = policy.key_place(key)
            spot = Spot(block, path, place, self._vocabulary.types[key], ("use",), self._in_pattern)
            complain(self._report, spot, _open(checked.errors), partial=True)

    def _use(self, key: str, block: Block, path: Path) -> Block:
        """Check what `use` names and what stands beside it; return the rest of the block."""
        if block["use"] is None:
            return without(block, ("use",))
        beside = [other for other in block if other not in ("use", "mode") and block[other] is not None]
        for other in beside:
            message = f"{shown(other)} stands beside 'use': only 'mode' may"
            hint = "move it to the block under shared, or write use: null"
            self._report.add("AR215", block.key_place(other), message, hint=hint, path=(*path, other))
        if path[0] == "shared":
            self._report.add("AR215", block.key_place("use"), "a shared block cannot use another", path=(*path, "use"))
        else:
            self._shared(key, block, (*path, "use"))
        return without(block, ("use", *beside))

    def _shared(self, key: str, block: Block, path: Path) -> None:
        name, place, known = block["use"], block.value_place("use"), self._document.get("shared")
        if not isinstance(name, str):
            self._report.add("AR203", place, f"expected the name of a shared block, got {shown(name)}", path=path)
            return
        shared = known.get(name) if isinstance(known, Block) else None
        if isinstance(shared, Block) and shared.get(key) is not None:
            return
        fitting = [one for one, held in known.items() if isinstance(held, Block) and key in held] if isinstance(known, Block) else []
        near = suggest(name, fitting)
        hint = f"did you mean '{near}'?" if near else f"there is {either(fitting)}" if fitting else "add it under shared"
        message = f"the shared block {shown(name)} has no {key}" if isinstance(shared, Block) else f"unknown shared block {shown(name)}"
        self._report.add("AR303", place, message, hint=hint, path=path)

    def _order(self, order: Node, path: Path) -> None:
        if not isinstance(order, Items):
            return
        for index, key in enumerate(order):
            if not isinstance(key, str):
                continue
            if key not in self._patterns:
                complaint = choice(key, list(self._vocabulary.types))
                self._report.add(complaint.code, order.value_place(index), complaint.message, hint=complaint.hint, path=(*path, index))
            elif key in order[:index]:
                self._report.add("AR219", order.value_place(index), f"{shown(key)} stands twice", hint="delete one", path=(*path, index))

    def _overrides(self, overrides: Node, path: Path, document: Block) -> None:
        if not isinstance(overrides, Items):
            place = document.value_place("overrides")
            self._report.add("AR203", place, f"expected a list, got {shown(overrides)}", hint="begin each entry with '- '", path=path)
            return
        for index, one in enumerate(overrides):
            if not isinstance(one, Block):
                self._report.add("AR203", overrides.value_place(index), f"expected a block, got {shown(one)}", path=(*path, index))
                continue
            self._override(one, (*path, index), overrides, index)

    def _override(self, one: Block, path: Path, overrides: Items, index: int) -> None:
        checked = self._checker.part(Override, without(one, ("set",)))
        spot = Spot(one, path, overrides.value_place(index), Override, ("set",), {"set": self._vocabulary.policy_keys()})
        complain(self._report, spot, _open(checked.errors))
        if one.get("set") is None:
            self._report.add("AR202", overrides.value_place(index), "the field 'set' is missing", path=path)
        else:
            self.policy(one["set"], (*path, "set"), KINDS["set"], one, "set")


def without(block: Block, keys: Collection[str]) -> Block:
    """Return a block without some of its keys."""
    rest = Block(block.source)
    for key, value in block.items():
        if key not in keys:
            rest.put(key, value, block.places[key])
    return rest


def _open(errors: Iterable[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out complaints about values that are not filled in yet, as in an overlay that is not chosen."""
    return [error for error in errors if not (isinstance(error["input"], str) and "${" in error["input"])]


__all__ = ["SECTIONS", "Written", "without"]
