"""What a reload did, or would do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from aioresilience.config import Diagnostic

Outcome = Literal["applied", "unchanged", "rejected"]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two documents.

    `path` is below the policy, such as `retry.max_attempts`, and empty where the whole policy came or went;
    `policy` is empty where the change concerns the document, such as `settings.shrink`; `effect` says what becomes of
    live state.
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
    live: Mapping[str, object] = field(default_factory=dict)
    """In a plan: the state that the change would meet, such as `{"active": 8, "limit": 10}`."""

    def __str__(self) -> str:
        effect = f" ({self.effect})" if self.effect else ""
        if not self.path:
            return f"{self.policy}: {self.kind}{effect}"
        where = f"{self.policy}.{self.path}" if self.policy else self.path
        old, new = self.old_text or str(self.old), self.new_text or str(self.new)
        what = f"{old} → {new}" if old != new else "changed"
        now = f" [now {', '.join(f'{key} {value}' for key, value in self.live.items())}]" if self.live else ""
        return f"{where}: {what}{effect}{now}"


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
    """What applying a document would change; truthy when there is anything.

    `refusals` are what would keep it from being applied, valid as it is: it looks cut off, or removes what must stay.
    """

    changes: tuple[Change, ...] = ()
    revision: str = ""
    diagnostics: tuple[Diagnostic, ...] = field(default=())
    refusals: tuple[Diagnostic, ...] = field(default=())

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __str__(self) -> str:
        refused = [f"would be refused: {one}" for one in self.refusals]
        return "\n".join([*refused, *map(str, self.changes)]) or "no changes"
