"""What was found so far, each finding once."""

from __future__ import annotations

from collections.abc import Iterable

from aioresilience.config.diagnostics import Diagnostic, Severity, diagnose, printable
from aioresilience.config.places import Path, Place
from aioresilience.config.tree import format_path

MAX_SHOWN = 40


class Report:
    """Collects findings; the same finding at the same place counts once."""

    __slots__ = ("_all", "secrets")

    def __init__(self) -> None:
        self._all: dict[tuple[object, ...], Diagnostic] = {}
        self.secrets: set[str] = set()
        """Strings that no text may show."""

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
            self._all.setdefault((one.id, one.file, one.line, one.column, one.message, path), one)

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The findings that refuse the document."""
        return tuple(one for one in self._all.values() if one.severity == "error")

    @property
    def findings(self) -> tuple[Diagnostic, ...]:
        """The findings that do not."""
        return tuple(one for one in self._all.values() if one.severity != "error")


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
