"""Values as YAML text that our reader, and every other of YAML 1.2, reads back to the very same values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Final

from aioresilience.config.scalars import is_string

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./$+*%()<>=^~-][A-Za-z0-9_./$+*%()<>=^~@ :-]*")
_RISKY: Final = re.compile(r"^[-.*%@&!|>`=<$~]|: |:$| $|^- | #")
_OLD_BOOLEANS: Final = frozenset(("y", "n", "yes", "no", "on", "off"))
"""YAML 1.1 reads these as truth values; quoted they are text for everybody."""
MAX_FLOW: Final = 100
"""Characters up to which a list or an inner block stands in one line."""


def flow(value: object) -> str:
    """Write a value in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_text(str(key))}: {flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(flow, value)) + "]"
    return scalar(value)


def scalar(value: object) -> str:
    """Write a scalar, quoted where it has to be."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(repr(value), repr(value))
    return _text(str(value)) if isinstance(value, str) else str(value)


def _text(text: str) -> str:
    plain = _PLAIN.fullmatch(text) and not _RISKY.search(text) and is_string(text)
    return text if plain and text.lower() not in _OLD_BOOLEANS else quoted(text)


def quoted(text: str) -> str:
    """Write a text between double quotes; escaped is what does not print, or would look like an unrendered template."""
    braces = "{" if text.startswith(("{{", "{%")) else ""
    plain = json.dumps(text, ensure_ascii=False)
    return "".join(one if one.isprintable() and one != braces else _escape(one) for one in plain)


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def block(value: Mapping[str, object], *, flow_from: int = 2) -> str:
    """Write a mapping over several lines; what stands `flow_from` levels deep and fits is written in one."""
    return "".join(f"{line}\n" for line in _lines(value, 0, flow_from))


def _lines(value: Mapping[str, object], depth: int, flow_from: int) -> Iterator[str]:
    for key, one in value.items():
        head = f"{'  ' * depth}{_text(str(key))}:"
        short = f"{head} {flow(one)}"
        if not isinstance(one, (Mapping, list)) or not one or (depth >= flow_from and len(short) <= MAX_FLOW):
            yield short
        elif isinstance(one, Mapping):
            yield head
            yield from _lines(one, depth + 1, flow_from)
        else:
            yield head
            yield from (f"{'  ' * (depth + 1)}- {flow(item)}" for item in one)
