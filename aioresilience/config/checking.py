"""Checking blocks against their models: every distinct block once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Generic, NamedTuple, TypeVar, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from aioresilience.config.complaints import model_in
from aioresilience.config.interpolate import Absent, Untyped
from aioresilience.config.names import KnownNames, NameProblem
from aioresilience.config.places import Block
from aioresilience.config.report import MAX_ERRORS
from aioresilience.config.scalars import plain_scalar
from aioresilience.config.vocabulary import Vocabulary
from aioresilience.pattern import PatternConfig

OF_EXCEPTIONS = ("AR306", "AR307")
MAX_NAMES = 1000
M = TypeVar("M", bound=BaseModel)
NONE: Collection[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Checked(Generic[M]):
    """What a model made of a block: its value, unless something refuses it, and pydantic's findings."""

    value: M | None
    errors: tuple[ErrorDetails, ...] = ()


class Checker:
    """Checks blocks, and remembers what came out by identity and by content."""

    __slots__ = ("_by_content", "_by_identity", "_names", "_nullable", "_opaque", "_vocabulary")

    def __init__(self, vocabulary: Vocabulary, names: KnownNames) -> None:
        self._vocabulary = vocabulary
        self._names = names
        self._opaque = {key: vocabulary.opaque(key) for key in vocabulary.types}
        self._nullable = {key: vocabulary.nullable(key) for key in vocabulary.types}
        self._by_identity: dict[tuple[str, int], tuple[Block, Checked[PatternConfig]]] = {}
        self._by_content: dict[tuple[object, ...], Checked[BaseModel]] = {}

    def pattern(self, key: str, block: Block) -> Checked[PatternConfig]:
        """Check a pattern's block on top of what a file means by default."""
        known = self._by_identity.get((key, id(block)))
        if known is not None and known[0] is block:
            return known[1]
        checked = self._pattern(key, block)
        self._by_identity[key, id(block)] = (block, checked)
        return checked

    def forget(self, breathe: Callable[[], None]) -> None:
        """Forget what was checked, entry by entry: freeing all of it at once would hold the interpreter."""
        for known in (self._by_identity, self._by_content):
            while known:
                known.popitem()
                breathe()

    def _pattern(self, key: str, block: Block) -> Checked[PatternConfig]:
        content = _content(key, block)
        known = self._by_content.get(content)
        if known is None:
            model = self._vocabulary.types[key]
            given = without_nulls(block, model, self._opaque[key], self._nullable[key])
            low = model.file_defaults(given)
            known = self._by_content[content] = self._check(model, {**low, **given}, block)
        return cast("Checked[PatternConfig]", known)

    def part(self, model: type[M], block: Mapping[str, object]) -> Checked[M]:
        """Check any other part of the document."""
        content = _content(model.__name__, block)
        known = self._by_content.get(content)
        if known is None:
            known = self._by_content[content] = self._check(model, without_nulls(block, model), block)
        return cast("Checked[M]", known)

    def _check(self, model: type[M], given: Mapping[str, object], block: Mapping[str, object]) -> Checked[M]:
        value, errors = self._validate(model, given)
        errors = tuple(error for error in errors if not _is_unknown(error, block))
        texts = [text for error in errors for text in _untyped(error["input"])]
        if texts:
            given = cast("Mapping[str, object]", _typed(given, texts))
            value, errors = self._validate(model, given)
        notes = tuple(error for error in errors if _is_note(error))
        if not notes:
            return Checked(value, errors)
        self._names.lenient = True
        value, others = self._validate(model, given)
        self._names.lenient = False
        return Checked(value, notes + others)

    def _validate(self, model: type[M], given: Mapping[str, object]) -> tuple[M | None, tuple[ErrorDetails, ...]]:
        try:
            return model.model_validate(_bounded(given, model.model_fields), context=self._names), ()
        except ValidationError as error:
            return None, tuple(one for each in error.errors(include_url=False) for one in self._apart(each))
        except Exception as error:  # a validator that a strange value surprised
            return None, (ErrorDetails(type="value_error", loc=(), msg=str(error), input=given, ctx={"error": error}),)

    def _apart(self, error: ErrorDetails) -> Iterator[ErrorDetails]:
        """Give every name of a list a finding of its own."""
        names, problem = error["input"], error.get("ctx", {}).get("error")
        if not (isinstance(problem, NameProblem) and problem.code in OF_EXCEPTIONS and isinstance(names, list)):
            yield error
            return
        for index, name in enumerate(names[:MAX_NAMES]):
            if not isinstance(name, str):
                yield ErrorDetails(type="is_subclass_of", loc=(*error["loc"], index), msg="", input=name)
                continue
            try:
                self._names.exception(name)
            except NameProblem as own:
                yield ErrorDetails(
                    type="value_error", loc=(*error["loc"], index), msg=str(own), input=name, ctx={"error": own}
                )


def _bounded(given: Mapping[str, object], fields: Collection[str]) -> dict[str, object]:
    """Return a copy with no more unknown fields than anybody reads about."""
    if len(given) <= MAX_ERRORS:
        return dict(given)
    unknown = (key for key in given if key not in fields)
    shown = set(islice(unknown, MAX_ERRORS))
    return {key: value for key, value in given.items() if key in fields or key in shown}


def _is_unknown(error: ErrorDetails, block: object) -> bool:
    """Tell whether what is missing was written, but cannot be known here."""
    if error["type"] != "missing":
        return False
    for step in error["loc"]:
        if isinstance(block, Mapping):
            block = block.get(str(step))
    return isinstance(block, Absent)


def _content(kind: str, block: Mapping[str, object]) -> tuple[object, ...]:
    """Return what tells a block from others; a text of a variable may mean more than the same text in quotes."""
    return kind, repr(block), *_untyped_at(block)


def _untyped_at(node: Mapping[str, object] | list[object], *at: object) -> Iterator[tuple[object, ...]]:
    for step, below in enumerate(node) if isinstance(node, list) else node.items():
        if isinstance(below, (dict, list)):
            yield from _untyped_at(below, *at, step)
        elif isinstance(below, Untyped):
            yield (*at, step)


def _untyped(node: object) -> Iterator[Untyped]:
    if isinstance(node, Untyped):
        yield node
    elif isinstance(node, (dict, list, tuple)):
        for below in node.values() if isinstance(node, dict) else node:
            yield from _untyped(below)


def _is_note(error: ErrorDetails) -> bool:
    problem = error.get("ctx", {}).get("error")
    return isinstance(problem, NameProblem) and problem.severity == "note"


def _typed(node: object, texts: Collection[object]) -> object:
    """Return a copy in which the given texts are the numbers or truth values that they spell."""
    if isinstance(node, dict):
        return {key: _typed(value, texts) for key, value in node.items()}
    if isinstance(node, list):
        return [_typed(value, texts) for value in node]
    return _spelled(node) if isinstance(node, Untyped) and any(node is text for text in texts) else node


def _spelled(text: str) -> object:
    try:
        value = plain_scalar(text)
    except ValueError:
        return text
    return text if value is None else value


def without_nulls(
    block: Mapping[str, object],
    model: type[BaseModel] | None,
    opaque: Collection[str] = NONE,
    nullable: Collection[str] = NONE,
) -> Mapping[str, object]:
    """Leave out what is null, so that it means what the library has.

    A null stays where the field may be null by its own meaning, in blocks that are the user's own, and where the model
    knows no such field.
    """
    if not any(value is None or isinstance(value, (dict, Absent)) for value in block.values()):
        return block
    unknown = NONE if model is None else block.keys() - model.model_fields.keys()
    blocks = NO_BLOCKS if model is None else _blocks(model)
    return {
        key: _below(value, blocks.get(key)) if isinstance(value, dict) and key not in opaque else value
        for key, value in block.items()
        if not isinstance(value, Absent) and (value is not None or key in opaque or key in nullable or key in unknown)
    }


class _Held(NamedTuple):
    """What blocks a field holds, and whether there is one by each name."""

    model: type[BaseModel]
    named: bool


NO_BLOCKS: Mapping[str, _Held] = {}


@functools.cache
def _blocks(model: type[BaseModel]) -> Mapping[str, _Held]:
    held = ((name, field.annotation) for name, field in model.model_fields.items())
    return {name: _Held(below, _is_by_name(kind)) for name, kind in held if (below := model_in(kind)) is not None}


def _is_by_name(annotation: object) -> bool:
    return get_origin(annotation) in (dict, Mapping) or any(_is_by_name(one) for one in get_args(annotation))


def _below(block: Mapping[str, object], held: _Held | None) -> Mapping[str, object]:
    if held is None or not held.named:
        return without_nulls(block, None if held is None else held.model)
    return {
        name: without_nulls(one, held.model) if isinstance(one, dict) else one
        for name, one in block.items()
        if one is not None and not isinstance(one, Absent)
    }
