"""What a reload did, or would do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from aioresilience.config import Diagnostic

Outcome = Literal["applied", "unchanged", "rejected"]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two documents.

    `path` is below the policy, such as `retry.max_attempts`, and empty where the whole policy came or went; `effect`
    says what becomes of live state.
    """

    policy: str
    kind: Literal["added", "removed", "changed"]
    path: str = ""
    old: object = None
    new: object = None
    effect: str = ""
    old_text: str = ""
    """`old` as the file would write it."""
    new_text: str = ""

    def __str__(self) -> str:
        if not self.path:
            return f"{self.policy}: {self.kind}{f' ({self.effect})' if self.effect else ''}"
        values = f"{self.old_text or self.old} → {self.new_text or self.new}"
        return f"{self.policy}.{self.path}: {values}{f' ({self.effect})' if self.effect else ''}"


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """How a reload ended; `diagnostics` are errors when it was rejected, findings otherwise."""

    outcome: Outcome
    generation: int
    revision: str
    changes: tuple[Change, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    trigger: str = "api"
    message: str = ""

    def __str__(self) -> str:
        head = f"{self.outcome}: generation {self.generation}, revision {self.revision[:12]} ({self.trigger})"
        return "\n".join([head, *([self.message] if self.message else []), *map(str, self.changes)])


@dataclass(frozen=True, slots=True)
class Plan:
    """What applying a document would change; truthy when there is anything."""

    changes: tuple[Change, ...] = ()
    revision: str = ""
    diagnostics: tuple[Diagnostic, ...] = field(default=())

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __str__(self) -> str:
        return "\n".join(map(str, self.changes)) or "no changes"
