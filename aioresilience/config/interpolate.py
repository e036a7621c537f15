"""`${NAME}` in values: filled in from the environment, once, in scalars only, never read as YAML again."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from aioresilience.config.diagnostics import Severity
from aioresilience.config.places import Block, Items, Node, Path, Place
from aioresilience.config.report import Report, hide

_TOKEN = re.compile(r"\$\$|\$\{([^}]*)(\}?)")
_INSIDE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:(:-|:\?)(.*))?", re.DOTALL)
MAX_FILLED: Final = 16 * 2**20
"""Characters that variables may bring into one document."""


class _TooLong(Exception):
    """The variables bring in too much."""


class Untyped(str):
    """A text from the environment, which its field may read as the number or truth value that it spells."""

    __slots__ = ()


class Absent(str):
    """A text that cannot be known here: it counts as left out, without being missed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Absent({super().__repr__()})"


class Interpolation:
    """Fills in one document; unset variables are errors in a service, notes outside."""

    __slots__ = ("_breathe", "_environ", "_filled", "_in_service", "_overflown", "_report")

    def __init__(
        self, environ: Mapping[str, str], report: Report, *, in_service: bool, breathe: Callable[[], None]
    ) -> None:
        self._environ = environ
        self._report = report
        self._in_service = in_service
        self._breathe = breathe
        self._filled = 0
        self._overflown = False

    def document(self, root: Block) -> Block:
        """Return the document with every value filled in, but for `environments` and `x-…`."""
        filled = root
        for key in [key for key in root if key != "environments" and not key.startswith("x-")]:
            value = self.node(root[key], partial(root.value_place, key), (key,))
            if value is not root[key]:
                filled = copy(root) if filled is root else filled
                filled[key] = value
        return filled

    def node(self, node: Node, place: Callable[[], Place], path: Path) -> Node:
        """Return a node with its values filled in; the very same one where there is nothing to fill in."""
        if isinstance(node, Block):
            return self._block(node, path)
        if isinstance(node, Items):
            return self._items(node, path)
        if type(node) is str and "$" in node:
            return self._text(node, place(), path)
        return node

    def _block(self, block: Block, path: Path) -> Block:
        filled = block
        self._breathe()
        for key, value in block.items():
            if not value or (type(value) is str and "$" not in value) or isinstance(value, (int, float)):
                continue
            here = path if isinstance(value, str) and is_short(*block.pair(key)) else (*path, key)
            new = self.node(value, partial(block.value_place, key), here)
            if new is not value:
                filled = copy(block) if filled is block else filled
                filled[key] = new
        return filled

    def _items(self, items: Items, path: Path) -> Items:
        filled = Items(items.source)
        for index, value in enumerate(items):
            new = self.node(value, partial(items.value_place, index), (*path, index))
            if not isinstance(new, Absent):
                filled.append(new)
                filled.places.append(items.places[index])
        same = len(filled) == len(items) and all(a is b for a, b in zip(filled, items, strict=True))
        return items if same else filled

    def _text(self, text: str, place: Place, path: Path) -> str:
        if self._overflown:
            return Absent(text)
        known: dict[str, str | None] = {}

        def fill(found: re.Match[str]) -> str:
            token = found[0]
            if token == "$$":
                return "$"
            if token not in known:
                known[token] = self._value(found, place, path)
            value = known[token] or ""
            self._filled += len(value)
            if self._filled > MAX_FILLED:
                raise _TooLong
            return value

        try:
            result = _TOKEN.sub(fill, text)
        except _TooLong:
            self._too_long(place, path)
            return Absent(text)
        if None in known.values():
            return Absent(text)
        if known and path[0] == "backends":
            hide(self._report, *filter(None, known.values()))
        return Untyped(result) if known else result

    def _too_long(self, place: Place, path: Path) -> None:
        self._overflown = True
        message = f"filled in, the values of the document have more than {MAX_FILLED >> 20} MiB"
        self._report.add("AR114", place, message, hint="use shorter variables", path=path)

    def _value(self, found: re.Match[str], place: Place, path: Path) -> str | None:
        inside = _INSIDE.fullmatch(found[1]) if found[2] else None
        if inside is None or "${" in found[1]:
            spot = _pinpoint(place, found[0])
            self._report.add("AR217", spot, _malformed(found), hint=_FORMS, path=path)
            return None
        name, sign, rest = inside.groups()
        value = self._environ.get(name)
        if value or (value is not None and sign is None):
            return value
        if sign == ":-":
            return str(rest)
        self._unset(name, rest or "", _pinpoint(place, found[0]), path)
        return None

    def _unset(self, name: str, message: str, place: Place, path: Path) -> None:
        text = f"the environment variable {name} is not set" + (f": {message}" if message else "")
        severity: Severity = "error" if self._in_service else "note"
        hint = f"set it, or write ${{{name}:-default}}"
        self._report.add("AR308", place, text, hint=hint, path=path, severity=severity)


_FORMS: Final = "write ${NAME}, ${NAME:-default} or ${NAME:?message}; a plain dollar sign is $$"


def _malformed(found: re.Match[str]) -> str:
    if not found[2]:
        return "'${' has no closing brace"
    if "${" in found[1]:
        return "one '${…}' stands inside another"
    return f"'{found[0]}' holds no name"


def _pinpoint(place: Place, token: str) -> Place:
    """Return the place of a part of a scalar, the whole where the text stands there in another form."""
    offset = place.text().find(token)
    if offset < 0:
        return place
    return replace(place, column=place.column + offset, length=len(token))


def is_short(key: Place, value: Place) -> bool:
    """Tell whether a field was written as a short form: its key and its value share one place in a file."""
    return key == value and key.line > 0


def copy(block: Block) -> Block:
    """Return a shallow copy that may be changed while a new tree is built."""
    copied = Block(block.source)
    copied.update(block)
    copied.places = dict(block.places)
    return copied
