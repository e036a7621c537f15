"""What has been applied so far, and what went wrong last."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from aioresilience.config import AnySource, Document

KEPT = 10


@dataclass(slots=True)
class Ledger:
    """The applied document with its generation, the last few before it, and the last failure."""

    document: Document
    generation: int = 1
    applied_at: float = 0.0
    """Wall clock of the last success."""
    last_error: str | None = None
    """What is wrong with the registry's own sources."""
    on_fallback: bool = False
    pinned: bool = False
    sources: tuple[AnySource, ...] | None = None
    """What a pinned document was read from."""
    ended: set[str] = field(default_factory=set)
    """The files that ever carried `end: true`."""
    seen: tuple[tuple[str, str], ...] = ()
    """Path and hash of every file as last read from the registry's own sources; a pin holds while they stay equal."""
    reloads: dict[str, int] = field(default_factory=lambda: {"applied": 0, "unchanged": 0, "rejected": 0})
    triggers: dict[str, dict[str, int]] = field(default_factory=dict)
    """The same by trigger: file, api, sighup, apply, rollback, override, code."""
    keyed: set[str] = field(default_factory=set)
    """The policies into which a reload brought a limit per key."""
    rendered: tuple[Document | None, tuple[str, ...]] = None, ()
    """The findings as text, and whose they are."""
    history: deque[Document] = field(default_factory=lambda: deque(maxlen=KEPT))

    @property
    def last_attempt_failed(self) -> bool:
        """Whether the registry's own sources were refused when they were last read."""
        return self.last_error is not None

    def findings(self) -> list[str]:
        """Return what lint found in the document in effect, rendered once: a status is asked for again and again."""
        of, texts = self.rendered
        if of is not self.document:
            of, texts = self.rendered = self.document, tuple(map(str, self.document.findings))
        return list(texts)

    def accept(self, document: Document, at: float) -> None:
        """Note that another document is in effect."""
        self.history.append(self.document)
        self.document = document
        self.generation += 1
        self.applied_at = at

    def count(self, outcome: str, trigger: str) -> None:
        """Count a reload."""
        self.reloads[outcome] += 1
        by = self.triggers.setdefault(trigger, dict.fromkeys(self.reloads, 0))
        by[outcome] += 1

    def recover(self) -> bool:
        """Note that the registry's own sources are good; return whether they were not."""
        failed, self.last_error = self.last_attempt_failed, None
        return failed

    def fail(self, error: str) -> bool:
        """Note what is wrong with the registry's own sources; return whether that is news."""
        before, self.last_error = self.last_error, error
        return before != self.last_error

    def as_of(self, document: Document, now: float) -> Document:
        """Return a document without the overrides that have expired by now."""
        later: Callable[[float], Document] | None = document.later
        overdue = any(override.active and override.expires <= now for override in document.overrides)
        return later(now) if overdue and later is not None else document
