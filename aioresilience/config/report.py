"""What was found so far, each finding once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from aioresilience.config.diagnostics import ConfigError, Diagnostic, Severity, diagnose, printable
from aioresilience.config.places import Path, Place
from aioresilience.config.tree import format_path

MAX_SHOWN = 40
MAX_ERRORS = 100
MIN_SECRET = 3
"""Shorter texts occur everywhere, and hiding them would hide the message."""
MAX_REMARKS = 10_000
"""Warnings and notes that are kept; nobody reads more."""


class Report:
    """Collects findings; the same finding at the same place counts once. Raises ConfigError at the hundredth error."""

    __slots__ = ("_all", "_errors", "environments", "secrets")

    def __init__(self) -> None:
        self._all: dict[tuple[object, ...], Diagnostic] = {}
        self._errors = 0
        self.secrets: set[str] = set()
        """Strings that no text may show."""
        self.environments: tuple[str, ...] = ()
        """The overlays that the document has."""

    def add(
        self, code: str, place: Place | None, message: str, *, hint: str = "", path: Path | str = (),
        severity: Severity | None = None,
    ) -> None:  # fmt: skip
        """Add a finding."""
        shown = path if isinstance(path, str) else format_path(path)
        self.extend([diagnose(code, place, message, hint=hint, path=shown, severity=severity)])

    def extend(self, findings: Iterable[Diagnostic]) -> None:
        """Add findings made elsewhere."""
        for one in findings:
            path = "" if one.line else one.path
            identity = (one.id, one.file, one.line, one.column, one.message, path)
            if identity not in self._all and (one.severity == "error" or len(self._all) < MAX_REMARKS):
                self._all[identity] = one
                self._count(one)

    def has(self, code: str, place: Place) -> bool:
        """Tell whether that place has a finding of that id."""
        where = (code, place.name, place.line, place.column)
        return any((one.id, one.file, one.line, one.column) == where for one in self._all.values())

    def _count(self, one: Diagnostic) -> None:
        self._errors += one.severity == "error"
        if self._errors == MAX_ERRORS:
            message = f"checking stopped here, at {MAX_ERRORS} errors"
            stop = replace(one, id="AR199", message=message, hint="mend these and check again")
            self._all[stop.id,] = stop
            raise self.error()

    def error(self) -> ConfigError:
        """Return every finding as one error."""
        return ConfigError(self._all.values(), secrets=self.secrets, environments=self.environments)

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The findings that refuse the document."""
        return tuple(one for one in self._all.values() if one.severity == "error")

    @property
    def findings(self) -> tuple[Diagnostic, ...]:
        """The findings that do not."""
        return tuple(one for one in self._all.values() if one.severity != "error")


def hide(report: Report, *secrets: str) -> None:
    """Keep texts out of every message."""
    report.secrets.update(secret for secret in secrets if len(secret) >= MIN_SECRET)


def shown(value: object) -> str:
    """Show a value in a message: quoted if it is text, named by its kind if it is a block or a list."""
    if isinstance(value, dict):
        return "a block"
    if isinstance(value, (list, tuple)):
        return "a list"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = printable(value if isinstance(value, str) else repr(value))
    short = text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."
    return f"'{short}'" if isinstance(value, str) else short


def either(words: Iterable[str]) -> str:
    """Join choices for a sentence: `a, b or c`."""
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last
