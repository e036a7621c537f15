"""What pydantic found, as diagnostics: at the very token, with a cause and a fix in the words of the file."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from aioresilience.config import wording
from aioresilience.config.diagnostics import hint_for_key
from aioresilience.config.document import NAME_PATTERN
from aioresilience.config.interpolate import is_short
from aioresilience.config.places import Block, Node, Path, Place
from aioresilience.config.report import Report, shown
from aioresilience.config.tree import child, locate, walk

NAME = re.compile(NAME_PATTERN)
AS_BLOCK = "write its fields below, each on a line, indented"
PARTIAL_MAY_LACK = ("missing", "value_error", "assertion_error")


@dataclass(frozen=True, slots=True)
class Spot:
    """A checked block: where it stands, what models it, and which keys are valid in it and elsewhere."""

    block: Block
    path: Path
    place: Place
    model: type[BaseModel]
    more_keys: Collection[str] = ()
    elsewhere: Mapping[str, Collection[str]] = field(default_factory=dict)


def complain(report: Report, spot: Spot, errors: Iterable[ErrorDetails], *, partial: bool = False) -> None:
    """Report findings. A partial block may lack fields that others add, and need not make sense as a whole."""
    grouped: dict[Path, list[ErrorDetails]] = {}
    for error in errors:
        if partial and (error["type"] == "missing" or (not error["loc"] and error["type"] in PARTIAL_MAY_LACK)):
            continue
        grouped.setdefault(_path(spot.block, error), []).append(error)
    for path, group in grouped.items():
        if not _is_outdone(path, group, grouped, spot.block):
            _report(report, spot, path, group)


def _path(block: Block, error: ErrorDetails) -> Path:
    """Return the location without the steps that only pydantic knows, such as the branch of a union."""
    node: Node = block
    path: list[str | int] = []
    last = len(error["loc"]) - 1
    for depth, step in enumerate(error["loc"]):
        try:
            node = child(node, step)
        except KeyError:
            if depth != last or error["type"] not in ("missing", "extra_forbidden"):
                continue
        path.append(step)
    return tuple(path)


def _is_outdone(path: Path, group: list[ErrorDetails], grouped: Mapping[Path, object], block: Block) -> bool:
    """Tell whether these are complaints of branches that do not fit, while the branch that fits says more, deeper."""
    deeper = any(len(other) > len(path) and other[: len(path)] == path for other in grouped)
    return deeper and bool(path) and isinstance(walk(block, path), Block)


def _report(report: Report, spot: Spot, path: Path, group: list[ErrorDetails]) -> None:
    kind = group[0]["type"]
    if kind == "extra_forbidden":
        _unknown(report, spot, path)
    elif kind == "missing":
        place = locate(spot.block, path[:-1], key=True) if len(path) > 1 else spot.place
        hint = _what_is(spot.model, path)
        report.add("AR202", place, f"the field '{path[-1]}' is missing", hint=hint, path=spot.path + path[:-1])
    else:
        _refused(report, spot, path, group)


def _unknown(report: Report, spot: Spot, path: Path) -> None:
    word = str(path[-1])
    fields = set(_model_at(spot.model, path[:-1]).model_fields)
    nested = len(path) > 1
    valid = fields if nested else fields | set(spot.more_keys)
    elsewhere = {level: keys for level, keys in spot.elsewhere.items() if keys != valid}
    hint = _one_level_down(word, valid, elsewhere) or hint_for_key(word, valid, elsewhere)
    hint = hint or _as_block(spot, path, valid) or _some_of(valid)
    place = locate(spot.block, path, key=True)
    report.add("AR201", place, f"unknown field {shown(word)}", hint=hint, path=spot.path + path[:-1])


def _one_level_down(word: str, valid: Collection[str], elsewhere: Mapping[str, Collection[str]]) -> str:
    """Recognise what belongs into a policy, beside the sections of the file."""
    if "policies" not in valid or word not in elsewhere.get("a policy", ()):
        return ""
    return f"indent it below a policy's name, as in policies: {{payments: {{{word}: …}}}}, or below 'defaults:'"


def _what_is(model: type[BaseModel], path: Path) -> str:
    """Say what a missing field is for, in the words of its description."""
    if path == ("version",):
        return "begin with 'version: 1'"
    found = _model_at(model, path[:-1]).model_fields.get(str(path[-1]))
    text = (found.description or "") if found else ""
    return f"add it: {text[:1].lower()}{text[1:].rstrip('.')}" if text else ""


def _as_block(spot: Spot, path: Path, valid: Collection[str]) -> str:
    """Recognise a policy that stands at the top, and a path that stands for nested blocks."""
    word = str(path[-1])
    if word.partition(".")[0] in valid:
        return "write nested blocks, one step in each line"
    if "policies" not in valid or len(path) > 1:
        return ""
    note = f"if it is a note, call it x-{word}"
    value = spot.block.get(word)
    policy = (value is None or isinstance(value, Block)) and NAME.fullmatch(word)
    return f"if it is a policy, indent it below 'policies:'; {note}" if policy else note


def _some_of(valid: Collection[str]) -> str:
    return f"valid here: {', '.join(sorted(valid))}"


def _refused(report: Report, spot: Spot, path: Path, group: list[ErrorDetails]) -> None:
    on_key = group[0]["loc"][-1:] == ("[key]",)
    value: Node = walk(spot.block, path) if path else spot.block
    place = locate(spot.block, path, key=on_key) if path else spot.place
    short = not on_key and _is_short(spot.block, path, place)
    what = wording.describe(group, str(path[-1]) if on_key and path else value, whole=short)
    shown_path = path[:-1] if on_key or short else path
    hint = what.hint or (_fields_of(spot.model, path) if what.message.startswith("expected a block") else "")
    report.add(what.code, place, what.message, hint=hint, path=spot.path + shown_path, severity=what.severity)


def _fields_of(model: type[BaseModel], path: Path) -> str:
    """Say what stands in the block that belongs there."""
    inner = _model_at(model, path)
    known = inner is not model and len(inner.model_fields) <= 8
    return f"its fields: {', '.join(inner.model_fields)}" if known else AS_BLOCK


def _is_short(block: Block, path: Path, place: Place) -> bool:
    return bool(path) and isinstance(path[-1], str) and is_short(locate(block, path, key=True), place)


def _model_at(model: type[BaseModel], path: Path) -> type[BaseModel]:
    """Return the model of the block at a path of fields; mappings and lists lead on to what they hold."""
    for step in path:
        found = model.model_fields.get(step) if isinstance(step, str) else None
        model = (model_in(found.annotation) if found else None) or model
    return model


def model_in(annotation: object) -> type[BaseModel] | None:
    """Return the model of the blocks that a field may hold, None where it holds none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for one in get_args(annotation) if (found := model_in(one))), None)
