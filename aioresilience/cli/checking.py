"""`aioresilience check`: everything that is wrong with files, in one run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import typer

from aioresilience.config import ConfigError, Diagnostic, Document, FileSource, load
from aioresilience.config.lint import compare_code, uses_in
from aioresilience.policy import BUILTIN

FINE, ERRORS, TROUBLE, LINT_ERRORS = 0, 1, 2, 3


def load_files(files: Sequence[Path], environment: str | None) -> Document:
    """Load as an ops repository can: without the service's callables and packages."""
    return load([FileSource(file) for file in files], patterns=BUILTIN, environment=environment, in_service=False)


def check(files: Sequence[Path], environment: str | None, *, strict: bool, form: str, code: Path | None = None) -> int:
    """Print what is wrong in every environment, or in the one named, and return the exit code."""
    missing = [file for file in (*files, *([code] if code else [])) if not file.exists()]
    for file in missing:
        typer.echo(f"{file}: no such file", err=True)
    if missing:
        return TROUBLE
    try:
        document = load_files(files, environment)
        findings = list(document.findings)
        for other in _environments(document) if environment is None else ():
            findings.extend(load_files(files, other).findings)
    except ConfigError as error:
        _write(error.diagnostics, form)
        return ERRORS
    if code is not None:
        findings.extend(compare_code(document, uses_in(code)))
    found = ConfigError(dict.fromkeys(findings)).diagnostics
    _write(found, form)
    if form == "text":
        typer.echo(_summary(document, found))
    return _verdict(found, strict)


def _environments(document: Document) -> list[str]:
    overlays = document.tree.get("environments")
    return list(overlays) if isinstance(overlays, dict) else []


def _verdict(findings: Sequence[Diagnostic], strict: bool) -> int:
    failing = {"error", "warning"} if strict else {"error"}
    return LINT_ERRORS if any(finding.severity in failing for finding in findings) else FINE


def _summary(document: Document, findings: Sequence[Diagnostic]) -> str:
    policies, files = len(document.policies), len(document.files)
    kinds = [finding.severity for finding in findings]
    found = [f"{kinds.count(kind)} {kind}{'s' * (kinds.count(kind) != 1)}" for kind in dict.fromkeys(kinds)]
    counted = f"{policies} polic{'y' if policies == 1 else 'ies'} in {files} file{'s' * (files != 1)}"
    return f"fine: {counted}, revision {document.revision[:12]}{'; ' + ', '.join(found) if found else ''}"


def _write(diagnostics: Sequence[Diagnostic], form: str) -> None:
    if form == "json":
        typer.echo(json.dumps([_row(diagnostic) for diagnostic in diagnostics], indent=2))
        return
    for diagnostic in diagnostics:
        typer.echo(_command(diagnostic) if form == "github" else str(diagnostic))


def _command(diagnostic: Diagnostic) -> str:
    """Return a finding as a workflow command, which GitHub shows beside the line."""
    kind = {"note": "notice"}.get(diagnostic.severity, diagnostic.severity)
    headline = str(diagnostic).splitlines()[0].partition(f" {diagnostic.id}")[2].lstrip(" :")
    file = _escaped(diagnostic.file).replace(":", "%3A").replace(",", "%2C")
    where = f"file={file},line={max(1, diagnostic.line)},col={max(1, diagnostic.column)}"
    return f"::{kind} {where},title={diagnostic.id}::{_escaped(headline)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _row(diagnostic: Diagnostic) -> dict[str, object]:
    names = ("id", "severity", "file", "line", "column", "path", "message", "hint")
    return {name: getattr(diagnostic, name) for name in names}
