"""`aioresilience check`: everything that is wrong with files, in one run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aioresilience.cli.console import say
from aioresilience.cli.formats import FORMATS
from aioresilience.cli.reading import ERRORS, FINE, LINT_ERRORS, TROUBLE, Trouble, environments, read, unreadable
from aioresilience.config import ConfigError, Diagnostic, Document
from aioresilience.config.lint import compare_code, uses_in
from aioresilience.config.process import process_settings

Met = tuple[str | None, Diagnostic]
"""A finding, and the environment in which it was met; None: in the files alone."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found; `document` is that of the first environment, None where the files are refused."""

    found: tuple[Diagnostic, ...]
    document: Document | None
    verdict: int
    environments: int = 0


def check(files: Sequence[str], environment: str | None, *, strict: bool, form: str, code: Path | None = None) -> int:
    """Print what is wrong in every environment, or in the one named, and return the exit code."""
    checked = examine(files, environment, strict=strict, code=code)
    if checked.found or form != "text":
        say(FORMATS[form](checked.found))
    if form == "text":
        say(summary(checked))
    return checked.verdict


def examine(files: Sequence[str], environment: str | None, *, strict: bool, code: Path | None = None) -> Checked:
    """Check files as a service would read them; raises Trouble where there is nothing to look at."""
    if code is not None and not code.exists():
        raise Trouble(f"{code}: no such file or folder")
    found: list[Met] = []
    documents: list[Document] = []
    refused, wanted = FINE, [environment]
    for name in wanted:
        try:
            document = read(files, name)
        except ConfigError as error:
            found.extend((name, one) for one in error.diagnostics)
            refused = max(refused, TROUBLE if unreadable(error) else ERRORS)
            wanted.extend(error.environments if name is None else ())
            continue
        found.extend((name, one) for one in document.findings)
        if name is None:
            wanted.extend(_environments(document))
        documents.append(document)
    first = documents[0] if documents else None
    if first is not None and code is not None:
        found.extend((environment, one) for one in compare_code(first, uses_in(code)))
    ordered = ConfigError(_once(found, environment)).diagnostics
    return Checked(ordered, first, refused or _lint_verdict(ordered, strict), len(wanted))


def _environments(document: Document) -> list[str]:
    """Return the overlays, and the one that the process asks for: a service would not start without it."""
    overlays, asked_for = environments(document), process_settings(os.environ).environment
    return [*overlays, asked_for] if overlays and asked_for and asked_for not in overlays else overlays


def _once(met: Iterable[Met], asked_for: str | None) -> Iterator[Diagnostic]:
    """Yield what was found at one place once, and say in which environments, unless that one was asked for.

    What lint says of one place in other words elsewhere is a note below the first.
    """
    met = list(met)
    overlays = {_spot(one) for _, one in met if one.path.startswith("environments.")}
    alike: dict[object, dict[Diagnostic, list[str | None]]] = {}
    for environment, one in met:
        if _spot(one) in overlays and not one.path.startswith("environments."):
            continue  # an overlay is told what is wrong with it once, whatever it is laid over
        words = "" if one.id.startswith("AR4") and one.line else one.message
        place = (one.id, one.file, one.line, one.column, one.path, words)
        alike.setdefault(place, {}).setdefault(one, []).append(environment)
    for findings in alike.values():
        (first, where), *others = findings.items()
        apart = [set(there).isdisjoint(where) for _, there in others]
        notes = [] if None in where or asked_for else [_where(where)]
        notes += [f"{_where(there)}: {one.message}" for far, (one, there) in zip(apart, others, strict=True) if far]
        yield replace(first, notes=(*first.notes, *notes))
        yield from (one for far, (one, _) in zip(apart, others, strict=True) if not far)


def _spot(one: Diagnostic) -> tuple[object, ...]:
    return one.id, one.file, one.line, one.column, one.message


def _where(environments: Iterable[str | None]) -> str:
    names = [name for name in environments if name is not None]
    return f"in the environment{'s' if len(names) > 1 else ''} {', '.join(names)}"


def _lint_verdict(findings: Sequence[Diagnostic], strict: bool) -> int:
    failing = {"error", "warning"} if strict else {"error"}
    return LINT_ERRORS if any(finding.severity in failing for finding in findings) else FINE


def summary(checked: Checked) -> str:
    """Return the last line: what was looked at, and how many findings there are of each kind."""
    kinds = [one.severity for one in checked.found]
    counted = ", ".join(_count(kinds.count(kind), kind) for kind in ("error", "warning", "note") if kind in kinds)
    if checked.document is None:
        return f"refused: {counted}"
    policies = _count(len(checked.document.policies), "policy", "policies")
    looked = f"{policies} in {_count(len(checked.document.files), 'file')}"
    if checked.environments > 1:
        looked += f", {_count(checked.environments - 1, 'environment')}"
    word = "fine" if checked.verdict == FINE else "refused" if checked.verdict == ERRORS else "not fine"
    return f"{word}: {looked}, revision {checked.document.revision[:12]}{'; ' + counted if counted else ''}"


def _count(number: int, one: str, several: str = "") -> str:
    return f"{number} {one if number == 1 else several or one + 's'}"
