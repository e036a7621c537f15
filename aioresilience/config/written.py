"""Checks every block as it was written, whether or not it takes effect: templates, overlays, overrides."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from aioresilience.config.checking import Checker
from aioresilience.config.complaints import AS_BLOCK, Spot, complain, model_in
from aioresilience.config.diagnostics import suggest
from aioresilience.config.document import NAME_PATTERN, About, ClassRule, Extending, Frame, Override, Part, PolicyFrame
from aioresilience.config.inherit import Inheritance
from aioresilience.config.interpolate import Absent
from aioresilience.config.places import Block, Items, Node, Path, Place
from aioresilience.config.report import Report, either, shown
from aioresilience.config.slips import meant
from aioresilience.config.syntax import mend_entry
from aioresilience.config.vocabulary import IN_OVERLAY, POLICY_MAPS, TOP_LEVEL, Vocabulary
from aioresilience.config.wording import Complaint, choice, malformed_name
from aioresilience.units import Rate

_NAME = re.compile(NAME_PATTERN)
TOP = "the top level of the file"


class SharedFrame(Part):
    """A shared block without its patterns: nothing."""


FRAMES: Mapping[str, type[Part]] = {
    "policies": Extending,
    "templates": Extending,
    "shared": SharedFrame,
    "defaults": PolicyFrame,
    "set": Extending,
}
"""What a policy-like block may hold beside its patterns, by where it stands."""


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
        inside = {"about": About.model_fields, "classify.failure": ClassRule.model_fields}
        self._in_policy: Mapping[str, Collection[str]] = {
            **inside, **fields, "a policy": ["extends"], TOP: TOP_LEVEL,
        }  # fmt: skip
        self._in_pattern = {
            key: {**_inside(model), "the policy": vocabulary.policy_keys(), **fields}
            for key, model in vocabulary.types.items()
        }
        self._at_top = {"a policy": vocabulary.policy_keys(), **fields, TOP: TOP_LEVEL}

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
            self.policy(value, path, FRAMES["defaults"], document, section)
        elif section == "overrides":
            self._overrides(value, path, document)
        else:
            for name, block in self._named(value, path, document):
                self.policy(block, (*path, name), FRAMES[section], value, name)  # type: ignore[arg-type]

    def _named(self, blocks: Node, path: Path, parent: Block | None = None) -> Iterator[tuple[str, Block]]:
        """Yield the blocks of a section; report malformed names and what is no block."""
        if blocks is None:
            return
        if not isinstance(blocks, Block):
            place = (parent or self._document).value_place(str(path[-1]))
            self._expected("a block", blocks, place, path, _block_hint(blocks))
            return
        for name, block in blocks.items():
            if not _NAME.fullmatch(name):
                self._complain(malformed_name(name), blocks.key_place(name), path)
            if isinstance(block, Block):
                yield name, block
            elif name in self._patterns and path[-1:] in (("policies",), ("templates",)):
                hint = "if it is meant for the policy above, indent it below that name"
                self._expected("a block", block, blocks.value_place(name), (*path, name), hint)
            elif block is not None or not blocks.value_place(name).shadows:
                self._no_block(name, block, blocks, path)

    def _no_block(self, name: str, value: Node, blocks: Block, path: Path) -> None:
        hint = f"write {name}: {{}} for one that adds nothing" if value is None else _block_hint(value)
        place = blocks.key_place(name) if value is None else blocks.value_place(name)
        self._expected("a block", value, place, (*path, name), hint)

    def policy(self, policy: Node, path: Path, frame_type: type[Part], parent: Block, name: str) -> None:
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
            keys = [*self._patterns, *(["extends"] if frame_type is Extending else [])]
            self._part(frame_type, frame, path, parent, more_keys=keys, elsewhere=self._in_policy)
            if frame_type is Extending:
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
            spot = Spot(block, path, place, model, more_keys, elsewhere)
            complain(self._report, spot, _open(checked.errors), partial=partial)

    def _pattern(self, key: str, block: Node, policy: Block, path: Path) -> None:
        if block is None:
            return
        path = (*path, key)
        if not isinstance(block, Block):
            hint = meant("AR203", "a block", block, whole=True) or _block_hint(block)
            self._expected("a block", block, policy.value_place(key), path, hint)
            return
        if "use" in block:
            block = self._use(key, block, path)
        checked = self._checker.pattern(key, block)
        if checked.errors:
            if checked.value is None and any(error["type"] != "missing" and error["loc"] for error in checked.errors):
                self.refused.add(id(policy[key]))
            place = policy.key_place(key)
            spot = Spot(block, path, place, self._vocabulary.types[key], ("use",), self._in_pattern[key])
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
            message, hint = "a shared block cannot use another", "write the fields of that block here"
            self._report.add("AR215", block.key_place("use"), message, hint=hint, path=(*path, "use"))
        else:
            self._shared(key, block, (*path, "use"))
        return without(block, ("use", *beside))

    def _shared(self, key: str, block: Block, path: Path) -> None:
        name, place, known = block["use"], block.value_place("use"), self._document.get("shared")
        if isinstance(name, Absent):
            return
        if not isinstance(name, str):
            self._expected("the name of a shared block", name, place, path)
            return
        shared = known.get(name) if isinstance(known, Block) else None
        if isinstance(shared, Block) and shared.get(key) is not None:
            return
        message = f"unknown shared block {shown(name)}"
        if isinstance(shared, Block):
            message = f"the shared block {shown(name)} has no {key}"
        self._report.add("AR303", place, message, hint=_fitting(name, key, known), path=path)

    def _order(self, order: Node, path: Path) -> None:
        if not isinstance(order, Items):
            return
        for index, key in enumerate(order):
            if not isinstance(key, str):
                continue
            if key not in self._patterns:
                self._complain(choice(key, self._vocabulary.order), order.value_place(index), (*path, index))
            elif key in order[:index]:
                twice = Complaint("AR219", f"{shown(key)} stands twice", "delete one of them")
                self._complain(twice, order.value_place(index), (*path, index))

    def _complain(self, what: Complaint, place: Place, path: Path) -> None:
        self._report.add(what.code, place, what.message, hint=what.hint, path=path)

    def _expected(self, kind: str, value: Node, place: Place, path: Path, hint: str = "") -> None:
        if isinstance(value, Absent):
            return
        self._report.add("AR203", place, f"expected {kind}, got {shown(value)}", hint=hint, path=path)

    def _overrides(self, overrides: Node, path: Path, document: Block) -> None:
        if not isinstance(overrides, Items):
            place = document.value_place("overrides")
            self._expected("a list", overrides, place, path, "begin each entry with '- '")
            return
        for index, one in enumerate(overrides):
            if not isinstance(one, Block):
                self._expected("a block", one, overrides.value_place(index), (*path, index))
                continue
            self._override(one, (*path, index), overrides, index)

    def _override(self, one: Block, path: Path, overrides: Items, index: int) -> None:
        checked = self._checker.part(Override, without(one, ("set",)))
        elsewhere = {"set": self._vocabulary.policy_keys()}
        spot = Spot(one, path, overrides.value_place(index), Override, ("set",), elsewhere)
        complain(self._report, spot, _open(checked.errors))
        if one.get("set") is None:
            message, hint = "the field 'set' is missing", "add what it changes, such as set: {timeout: 3s}"
            self._report.add("AR202", overrides.value_place(index), message, hint=hint, path=path)
        else:
            self.policy(one["set"], (*path, "set"), FRAMES["set"], one, "set")


def _inside(model: type[BaseModel]) -> dict[str, Collection[str]]:
    """Return the keys of the blocks within a block."""
    found: dict[str, Collection[str]] = {}
    for name, field in model.model_fields.items():
        inner = model_in(field.annotation)
        if inner is not None:
            found[name] = inner.model_fields
        elif field.annotation is Rate:
            found[name] = ("permits", "per")
    return found


def without(block: Block, keys: Collection[str]) -> Block:
    """Return a block without some of its keys."""
    rest = Block(block.source)
    for key, value in block.items():
        if key not in keys:
            rest.put(key, value, block.places[key])
    return rest


def _block_hint(value: Node) -> str:
    if isinstance(value, Items):
        return "write each entry as 'name:' with its fields indented below, without '- '"
    words = " ".join(value.split()[:2]) if isinstance(value, str) else ""
    return (mend_entry(words) if " " in words or ":" in words else "") or AS_BLOCK


def _fitting(name: str, key: str, known: Node) -> str:
    """Return a hint that names the shared blocks with such a pattern."""
    blocks = known.items() if isinstance(known, Block) else ()
    fitting = [one for one, held in blocks if isinstance(held, Block) and key in held]
    near = suggest(name, fitting)
    if near:
        return f"did you mean '{near}'?"
    return f"there is {either(fitting)}" if fitting else "add it under shared"


def _open(errors: Iterable[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out complaints about values that are not filled in yet, as in an overlay that is not chosen."""
    return [error for error in errors if not (isinstance(error["input"], str) and "${" in error["input"])]
