"""`aioresilience check`: everything that is wrong with files, in one run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import typer

from aioresilience.config import ConfigError, Diagnostic, Document, FileSource, load
from aioresilience.policy import BUILTIN

FINE, ERRORS, TROUBLE, LINT_ERRORS = 0, 1, 2, 3


def load_files(files: Sequence[Path], environment: str | None) -> Document:
    """Load as an ops repository can: without the service's callables and packages."""
    return load([FileSource(file) for file in files], patterns=BUILTIN, environment=environment, in_service=False)


def check(files: Sequence[Path], environment: str | None, *, strict: bool, as_json: bool) -> int:
    """Print what is wrong and return the exit code."""
    missing = [file for file in files if not file.is_file()]
    for file in missing:
        typer.echo(f"{file}: no such file", err=True)
    if missing:
        return TROUBLE
    try:
        document = load_files(files, environment)
    except ConfigError as error:
        _write(error.diagnostics, as_json)
        return ERRORS
    _write(document.findings, as_json)
    if not as_json:
        typer.echo(_summary(document))
    return _verdict(document.findings, strict)


def _verdict(findings: Sequence[Diagnostic], strict: bool) -> int:
    failing = {"error", "warning"} if strict else {"error"}
    return LINT_ERRORS if any(finding.severity in failing for finding in findings) else FINE


def _summary(document: Document) -> str:
    policies, files = len(document.policies), len(document.files)
    kinds = [finding.severity for finding in document.findings]
    found = [f"{kinds.count(kind)} {kind}{'s' * (kinds.count(kind) != 1)}" for kind in dict.fromkeys(kinds)]
    counted = f"{policies} polic{'y' if policies == 1 else 'ies'} in {files} file{'s' * (files != 1)}"
    return f"fine: {counted}, revision {document.revision[:12]}{'; ' + ', '.join(found) if found else ''}"


def _write(diagnostics: Sequence[Diagnostic], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([_row(diagnostic) for diagnostic in diagnostics], indent=2))
        return
    for diagnostic in diagnostics:
        typer.echo(str(diagnostic))


def _row(diagnostic: Diagnostic) -> dict[str, object]:
    names = ("id", "severity", "file", "line", "column", "path", "message", "hint")
    return {name: getattr(diagnostic, name) for name in names}
