"""What an error looks like: one frozen value per finding, rendered with its source line and a caret under the token."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from aioresilience.config.catalogue import CATALOGUE, Entry, Severity
from aioresilience.config.places import NOWHERE, Path, Place
from aioresilience.config.spelling import FOREIGN, hint_for_key, suggest
from aioresilience.config.tree import format_path

__all__ = [
    "CATALOGUE",
    "FOREIGN",
    "MAX_SHOWN",
    "ConfigError",
    "Diagnostic",
    "Entry",
    "Severity",
    "diagnose",
    "hint_for_key",
    "mask",
    "printable",
    "suggest",
]

MAX_SHOWN = 100
"""Columns of a source line that are shown; longer ones are clipped around the caret."""

_CLIP = "..."
_HIDDEN = "***"
_URL_PASSWORD = re.compile(r"(?<=://)([^\s/@:'\"]*):[^\s/'\"]+@")
_PASSWORD_FIELD = re.compile(r"(?i)(\b(?:password|passwd|secret)['\"]?\s*:\s+)(?![\"']?[${|>&*!])[^\s#,}][^#,}]*")


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding; `str()` is the text people read. Line and column count characters from 1, 0 where there are none."""

    id: str
    severity: Severity
    file: str
    line: int
    column: int
    path: str
    message: str
    hint: str = ""
    excerpt: str = field(default="", compare=False, repr=False)
    """The source line as it stands in the file; of a very long one the part around the token."""
    offset: int = field(default=0, compare=False, repr=False)
    """Characters of the line before the excerpt."""
    length: int = field(default=1, compare=False, repr=False)
    """Characters under the caret."""
    notes: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """Further lines, such as the chain that a merged value came through."""
    secrets: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    """Strings that are never shown."""

    def __str__(self) -> str:
        """Render the finding, safe for a terminal and free of secrets."""
        return "\n".join([self._headline(), *self._picture(), *self._footnotes()])

    def _headline(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        path = f" {self.path}" if self.path else ""
        return f"{self._clean(where)}: {self.severity} {self.id}{self._clean(path)}: {self._clean(self.message)}"

    def _picture(self) -> list[str]:
        hint = self._clean(self.hint)
        if not self.line or not self.excerpt:
            return [f"{'':6}= {hint}"] if hint else []
        before, token, after = _frame(self.excerpt, self.column - self.offset, self.length, self.secrets)
        gutter = max(5, len(str(self.line)))
        caret = " " * _width(before) + "^" * max(1, _width(token))
        return [
            f"{self.line:{gutter}} | {before}{token}{after}".rstrip(),
            f"{'':{gutter}} | {caret} {hint}".rstrip(),
        ]

    def _footnotes(self) -> list[str]:
        return [f"{'':6}= {self._clean(note)}" for note in self.notes]

    def _clean(self, text: str) -> str:
        return printable(mask(text, self.secrets))


class ConfigError(ValueError):
    """Bad configuration; `diagnostics` holds every finding, sorted by position, and `str()` shows them all.

    `environments` names the overlays that the document has, as far as it could be read.
    """

    def __init__(
        self, diagnostics: Iterable[Diagnostic], *, secrets: Iterable[str] = (), environments: Iterable[str] = ()
    ) -> None:
        """Sort the findings and hide `secrets` in all of them."""
        self.environments = tuple(environments)
        hidden = frozenset(secrets)
        ordered = sorted(diagnostics, key=_position)
        self.diagnostics = tuple(replace(one, secrets=one.secrets | hidden) if hidden else one for one in ordered)
        super().__init__(self.diagnostics)

    def __str__(self) -> str:
        """Render all findings, one below the other."""
        return "\n".join(map(str, self.diagnostics))


def diagnose(
    code: str,
    place: Place | None,
    message: str,
    *,
    hint: str = "",
    path: Path | str = "",
    severity: Severity | None = None,
    secrets: frozenset[str] = frozenset(),
) -> Diagnostic:
    """Make a diagnostic at a place; severity and hint are the catalogue's unless given, the notes what it shadows."""
    place = place or NOWHERE
    excerpt, offset = place.excerpt()
    return Diagnostic(
        id=code,
        severity=severity or CATALOGUE[code].severity,
        file=place.name if place.line else str(place),
        line=place.line,
        column=place.column,
        path=path if isinstance(path, str) else format_path(path),
        message=message,
        hint=hint or _fix(code),
        excerpt=excerpt,
        offset=offset,
        length=place.length,
        notes=tuple(f"lies over {shadowed}" for shadowed in place.chain()[1:]),
        secrets=secrets,
    )


def _fix(code: str) -> str:
    """Return the catalogue's fix as a hint, for a finding of which nothing nearer is known."""
    fix = CATALOGUE[code].fix.replace("`", "")
    return fix[:1].lower() + fix[1:].rstrip(".")


def printable(text: str) -> str:
    """Escape control, direction and invisible characters, which a terminal would obey or hide; tabs become spaces."""
    if text.isprintable():
        return text
    return "".join(_visible(char) for char in text)


def _visible(char: str) -> str:
    if char.isprintable():
        return char
    if char == "\t":
        return "    "
    return char.encode("unicode_escape").decode("ascii")


def mask(text: str, secrets: Iterable[str] = ()) -> str:
    """Replace every secret, every password in a url and every plain password field by ***."""
    for secret in sorted(filter(None, secrets), key=lambda one: (-len(one), one)):
        text = text.replace(secret, _HIDDEN)
    return _PASSWORD_FIELD.sub(rf"\1{_HIDDEN}", _URL_PASSWORD.sub(rf"\1:{_HIDDEN}@", text))


def _frame(line: str, column: int, length: int, secrets: frozenset[str]) -> tuple[str, str, str]:
    """Cut a line before and after its token, hide secrets, and clip it to what fits."""
    start = min(column - 1, len(line))
    end = min(start + length, len(line))
    line, start, end = _hide(line, start, end, secrets)
    before, token, after = printable(line[:start]), printable(line[start:end]), printable(line[end:])
    if len(before) + len(token) + len(after) <= MAX_SHOWN:
        return before, token, after
    token = _tail_clipped(token, MAX_SHOWN // 2)
    before = before if len(before) <= MAX_SHOWN // 3 else _CLIP + before[-(MAX_SHOWN // 3) :]
    return before, token, _tail_clipped(after, MAX_SHOWN - len(before) - len(token))


def _hide(line: str, start: int, end: int, secrets: frozenset[str]) -> tuple[str, int, int]:
    """Mask a line and move the token's bounds along with the text that shrinks or grows around them."""
    masked = mask(line, secrets)
    if masked == line:
        return line, start, end
    head = len(_common_head(line, masked))
    tail = len(_common_head(line[head:][::-1], masked[head:][::-1]))
    return masked, _moved(start, head, tail, line, masked), _moved(end, head, tail, line, masked)


def _common_head(one: str, other: str) -> str:
    length = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:length]


def _moved(index: int, head: int, tail: int, line: str, masked: str) -> int:
    if index <= head:
        return index
    if index >= len(line) - tail:
        return index + len(masked) - len(line)
    return len(masked) - tail


def _tail_clipped(text: str, room: int) -> str:
    return text if len(text) <= room else text[: max(0, room - len(_CLIP))] + _CLIP


def _width(text: str) -> int:
    """Return the columns that a terminal gives to a text."""
    if text.isascii():
        return len(text)
    return sum(_char_width(char) for char in text)


def _char_width(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _position(finding: Diagnostic) -> tuple[str, int, int, str, str]:
    return (finding.file, finding.line, finding.column, finding.id, finding.message)
