"""Names of policies in Python code, read without importing it, beside those in the file."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from aioresilience.config.diagnostics import Diagnostic, diagnose, suggest
from aioresilience.config.lint.run import ELSEWHERE, silenced, useless
from aioresilience.config.places import Block, Place, Source
from aioresilience.config.spec import Document
from aioresilience.config.suppressions import Suppression, suppressions

GETTERS: Final = frozenset({"get", "policy"})
"""Methods of a registry that take a policy's name."""
PASSED_OVER: Final = frozenset({"node_modules", "__pycache__"})


class Use(NamedTuple):
    """One policy's name in code."""

    name: str
    place: Place


class Unread(NamedTuple):
    """Code that may name policies and cannot be parsed."""

    place: Place
    reason: str


def uses_in(folder: Path) -> Iterator[Use | Unread]:
    """Yield the names in `@resilient("…")`, `registry.get("…")` and `registry["…"]` under a folder, or in a file.

    Hidden folders and virtual environments are passed over.
    """
    for path in _sources(folder) if folder.is_dir() else [folder]:
        try:
            data = path.read_bytes()
        except OSError:
            continue
        yield from _uses(str(path), data)


def _uses(name: str, data: bytes) -> Iterator[Use | Unread]:
    try:
        source = Source(name, data.decode("utf-8-sig"))
        tree = ast.parse(source.text)
    except (ValueError, SyntaxError, RecursionError) as error:
        if any(word in data.lower() for word in (b"resilient", b"registry")):
            line = getattr(error, "lineno", None) or 1
            yield Unread(Place("file", name, line, 1, 1), str(getattr(error, "msg", error)))
        return
    for node in ast.walk(tree):
        yield from (Use(name.value, _place(source, name)) for name in _names(node))


def _sources(folder: Path) -> Iterator[Path]:
    for at, folders, files in os.walk(folder):
        folders[:] = sorted(one for one in folders if not _is_foreign(Path(at, one)))
        yield from (Path(at, one) for one in sorted(files) if one.endswith(".py"))


def _is_foreign(folder: Path) -> bool:
    return folder.name.startswith(".") or folder.name in PASSED_OVER or (folder / "pyvenv.cfg").exists()


class _Name(NamedTuple):
    value: str
    node: ast.expr


def _names(node: ast.AST) -> Iterator[_Name]:
    if isinstance(node, ast.Subscript) and _is_registry(node.value):
        yield from _texts([node.slice])
    elif isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        if called == "resilient" or (called in GETTERS and owner is not None and _is_registry(owner)):
            yield from _texts([*node.args[:1], *(one.value for one in node.keywords if one.arg in ("name", "policy"))])


def _texts(given: Iterable[ast.expr]) -> Iterator[_Name]:
    for one in given:
        if isinstance(one, ast.Constant) and isinstance(one.value, str):
            yield _Name(one.value, one)


def _is_registry(owner: ast.expr) -> bool:
    """Tell whether something is named registry, or a function that gives one: others have a `get` too."""
    named = owner.func if isinstance(owner, ast.Call) else owner
    name = named.attr if isinstance(named, ast.Attribute) else getattr(named, "id", "")
    return name.lower().endswith("registry")


def _place(source: Source, name: _Name) -> Place:
    lines = source.text.splitlines(keepends=True)
    line, before = name.node.lineno, name.node.col_offset
    column = len(lines[line - 1].encode()[:before].decode()) + 1
    return Place("file", source.name, line, column, len(name.value) + 2, source=source)


def compare_code(document: Document, looked_at: Iterable[Use | Unread]) -> Iterator[Diagnostic]:
    """Yield the names that only the code has, AR416, and those that only the file has, AR417.

    Where code cannot be parsed, AR422, nobody knows the latter. Comments on their lines silence them; those that
    silence nothing are found too.
    """
    used: list[Use] = []
    unread: list[Unread] = []
    for one in looked_at:
        if isinstance(one, Unread):
            unread.append(one)
        else:
            used.append(one)
    found = list(_only_in_code(document, used))
    found += _unread(unread) if unread else _only_in_file(document, used)
    comments = list(_comments(document, used))
    yield from silenced(found, comments)
    yield from useless(found, comments, elsewhere=())


def _unread(unread: Iterable[Unread]) -> Iterator[Diagnostic]:
    for place, reason in unread:
        yield diagnose("AR422", place, f"the policies that this code names are not known: {reason}")


def _only_in_code(document: Document, uses: Iterable[Use]) -> Iterator[Diagnostic]:
    for use in uses:
        if use.name not in document.policies:
            near = suggest(use.name, document.policies)
            hint = f"did you mean '{near}'?" if near else "add it under policies"
            yield diagnose("AR416", use.place, f"no policy is named '{use.name}'", hint=hint)


def _only_in_file(document: Document, uses: Iterable[Use]) -> Iterator[Diagnostic]:
    seen = {use.name for use in uses} | {route.policy for route in document.routes}
    for name in document.policies:
        if name not in seen:
            place, path = _policy_place(document, name), ("policies", name)
            yield diagnose("AR417", place, f"no code uses the policy '{name}'", hint="delete it", path=path)


def _policy_place(document: Document, name: str) -> Place | None:
    held = document.tree.get("policies")
    return held.key_place(name) if isinstance(held, Block) else None


def _comments(document: Document, uses: Iterable[Use]) -> Iterator[Suppression]:
    """Yield the comments about these two findings, in the code and in the files that name policies."""
    places = [*(use.place for use in uses), *(_policy_place(document, name) for name in document.policies)]
    sources = {place.source.name: place.source for place in places if place and place.source}
    for source in sources.values():
        for one in suppressions(source):
            kept = tuple(code for code in one.ids if code in ELSEWHERE)
            if kept:
                yield one._replace(ids=kept)
