"""Names of policies in Python code, read without importing it, beside those in the file."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from aioresilience.config.diagnostics import Diagnostic, diagnose, suggest
from aioresilience.config.places import Block, Place, Source
from aioresilience.config.spec import Document

GETTERS = frozenset({"get", "policy"})
"""Methods of a registry that take a policy's name."""


class Use(NamedTuple):
    """One policy's name in code."""

    name: str
    place: Place


def uses_in(folder: Path) -> Iterator[Use]:
    """Yield the names in `@resilient("…")` and `registry.get("…")` under a folder, or in a file.

    What cannot be parsed is passed over: other tools say so better.
    """
    for path in sorted(folder.rglob("*.py")) if folder.is_dir() else [folder]:
        try:
            text = path.read_text("utf-8")
            tree = ast.parse(text)
        except (OSError, ValueError, SyntaxError, RecursionError):
            continue
        source = Source(str(path), text)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield from (Use(name.value, _place(source, name)) for name in _names(node))


class _Name(NamedTuple):
    value: str
    node: ast.expr


def _names(call: ast.Call) -> Iterator[_Name]:
    called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if called == "resilient" or (called in GETTERS and _is_registry(call.func)):
        given = [*call.args[:1], *(one.value for one in call.keywords if one.arg in ("name", "policy"))]
        yield from _texts(given)


def _texts(given: Iterable[ast.expr]) -> Iterator[_Name]:
    for one in given:
        if isinstance(one, ast.Constant) and isinstance(one.value, str):
            yield _Name(one.value, one)


def _is_registry(called: ast.expr) -> bool:
    """Tell whether a method is called on something named registry: others have a `get` too."""
    owner = called.value if isinstance(called, ast.Attribute) else None
    name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
    return name.lower().endswith("registry")


def _place(source: Source, name: _Name) -> Place:
    lines = source.text.splitlines(keepends=True)
    line, before = name.node.lineno, name.node.col_offset
    column = len(lines[line - 1].encode()[:before].decode()) + 1
    return Place("file", source.name, line, column, len(name.value) + 2, source=source)


def compare_code(document: Document, uses: Iterable[Use]) -> Iterator[Diagnostic]:
    """Yield the names that only the code has, AR416, and those that only the file has, AR417."""
    policies: Mapping[str, object] = document.policies
    seen = {route.policy for route in document.routes}
    for use in uses:
        seen.add(use.name)
        if use.name not in policies:
            near = suggest(use.name, policies)
            hint = f"did you mean '{near}'?" if near else "add it under policies"
            yield diagnose("AR416", use.place, f"no policy is named '{use.name}'", hint=hint)
    held = document.tree.get("policies")
    for name in policies:
        if name not in seen and isinstance(held, Block):
            place, path = held.key_place(name), ("policies", name)
            yield diagnose("AR417", place, f"no code uses the policy '{name}'", hint="delete it", path=path)
