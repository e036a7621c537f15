"""What has been applied so far, and what went wrong last."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from aioresilience.config import AnySource, ConfigError, Document

KEPT = 10


@dataclass(slots=True)
class Ledger:
    """The applied document with its generation, the last few before it, and the last failure."""

    document: Document
    generation: int = 1
    applied_at: float = 0.0
    """Wall clock of the last success."""
    last_error: str | None = None
    last_attempt_failed: bool = False
    on_fallback: bool = False
    pinned: bool = False
    sources: tuple[AnySource, ...] | None = None
    """What a pinned document was read from."""
    ended: set[str] = field(default_factory=set)
    """The files that ever carried `end: true`."""
    seen: tuple[tuple[str, str], ...] = ()
    """Path and hash of every file as last read from the registry's own sources; a pin holds while they stay equal."""
    reloads: dict[str, int] = field(default_factory=lambda: {"applied": 0, "unchanged": 0, "rejected": 0})
    history: deque[Document] = field(default_factory=lambda: deque(maxlen=KEPT))

    def accept(self, document: Document, at: float) -> None:
        """Note that another document is in effect."""
        self.history.append(self.document)
        self.document = document
        self.generation += 1
        self.note("applied")
        self.applied_at = at

    def note(self, outcome: str, error: ConfigError | None = None) -> None:
        """Count a reload and remember whether it failed."""
        self.reloads[outcome] += 1
        self.last_attempt_failed = error is not None
        self.last_error = None if error is None else str(error)
