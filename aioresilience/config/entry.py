"""What the catalogue says about one diagnostic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Severity: TypeAlias = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One kind of finding: a title, its cause and its fix in a sentence each, and a text that gives it, if short."""

    title: str
    cause: str
    fix: str
    example: str = ""
    severity: Severity = "error"
