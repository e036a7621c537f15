"""Diagnostics as people and machines read them: text, JSON, SARIF, GitHub's workflow commands."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from aioresilience import __version__
from aioresilience.cli.console import painted
from aioresilience.config import CATALOGUE, Diagnostic
from aioresilience.config.diagnostics import mask

_FIELDS: Final = ("id", "severity", "file", "line", "column", "path", "message", "hint")
_KINDS: Final = {"note": "notice"}
"""Severities that GitHub calls otherwise."""


def as_text(found: Sequence[Diagnostic]) -> str:
    """Return what a person reads."""
    return "\n".join(painted(str(one)) for one in found)


def as_json(found: Sequence[Diagnostic]) -> str:
    """Return a list of objects, one for each diagnostic."""
    rows = [{name: getattr(one, name) for name in _FIELDS} for one in map(_masked, found)]
    return json.dumps(rows, indent=2, ensure_ascii=False)


def as_github(found: Sequence[Diagnostic]) -> str:
    """Return workflow commands, which GitHub shows beside the lines of a change."""
    return "\n".join(map(_command, found))


def as_sarif(found: Sequence[Diagnostic]) -> str:
    """Return a SARIF 2.1.0 log, for code scanning."""
    ids = sorted({one.id for one in found})
    driver = {"name": "aioresilience", "version": __version__, "rules": [_rule(code) for code in ids]}
    results = [_result(_masked(one), ids.index(one.id)) for one in found]
    log = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}],
    }
    return json.dumps(log, indent=2, ensure_ascii=False)


FORMATS: Final[Mapping[str, Callable[[Sequence[Diagnostic]], str]]] = {
    "text": as_text,
    "json": as_json,
    "sarif": as_sarif,
    "github": as_github,
}


def _masked(one: Diagnostic) -> Diagnostic:
    return Diagnostic(
        one.id, one.severity, one.file, one.line, one.column, one.path, mask(one.message, one.secrets),
        mask(one.hint, one.secrets), length=one.length,
    )  # fmt: skip


def _command(one: Diagnostic) -> str:
    masked = _masked(one)
    said = "; ".join(filter(None, (f"{one.path}: {masked.message}".removeprefix(": "), masked.hint)))
    file = _escaped(one.file).replace(":", "%3A").replace(",", "%2C")
    where = f"file={file},line={one.line},col={one.column}," if one.line else ""
    return f"::{_KINDS.get(one.severity, one.severity)} {where}title={one.id}::{_escaped(said)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _rule(code: str) -> dict[str, object]:
    entry = CATALOGUE[code]
    return {
        "id": code,
        "shortDescription": {"text": entry.title},
        "fullDescription": {"text": entry.cause},
        "help": {"text": entry.fix},
        "defaultConfiguration": {"level": entry.severity},
    }


def _result(one: Diagnostic, index: int) -> dict[str, object]:
    said = ": ".join(filter(None, (one.path, one.message)))
    return {
        "ruleId": one.id,
        "ruleIndex": index,
        "level": one.severity,
        "message": {"text": f"{said}; {one.hint}" if one.hint else said},
        "locations": [{"physicalLocation": _location(one)}],
    }


def _location(one: Diagnostic) -> dict[str, object]:
    path = Path(one.file)
    location: dict[str, object] = {"uri": path.as_uri() if path.is_absolute() else quote(path.as_posix())}
    if not one.line:
        return {"artifactLocation": location}
    region = {"startLine": one.line, "startColumn": one.column, "endColumn": one.column + one.length}
    return {"artifactLocation": location, "region": region}
