"""What may be refused although it is valid: a document that looks cut off, or drops what must not go."""

from __future__ import annotations

from collections.abc import Iterator, Set

from aioresilience.config import ConfigError, Diagnostic, Document, diagnose
from aioresilience.config.places import Place
from aioresilience.registry.ledger import Ledger


def check_against(ledger: Ledger, new: Document) -> None:
    """Raise ConfigError where `new` looks like a truncated file, or removes what must stay."""
    found = list(objections(ledger, new))
    if found:
        raise ConfigError(found)


def objections(ledger: Ledger, new: Document) -> Iterator[Diagnostic]:
    """Say what speaks against `new` after the document in effect; nothing does after a fallback."""
    if not ledger.on_fallback:
        yield from _truncated(ledger.ended, new)
        yield from _shrunk(ledger.document, new)
        yield from _removed(ledger.document, new)


def _truncated(ended: Set[str], new: Document) -> Iterator[Diagnostic]:
    for path in sorted((ended - new.ended) & {path for path, _ in new.files}):
        message = "the last line 'end: true' is missing, so the file looks cut off"
        hint = "write the whole file, or restart without it if it is meant"
        yield diagnose("AR318", Place("file", path), message, hint=hint)


def _shrunk(old: Document, new: Document) -> Iterator[Diagnostic]:
    kept, before = len(old.policies.keys() & new.policies.keys()), len(old.policies)
    if old.whole or new.settings.shrink == "allow" or kept * 2 >= before:
        return
    message = f"{before - kept} of {before} policies would go, as they do when a file is cut off"
    hint = "if it is meant, set 'settings: {shrink: allow}' or end files with 'end: true'"
    yield diagnose("AR319", _files(new), message, hint=hint)


def _removed(old: Document, new: Document) -> Iterator[Diagnostic]:
    gone = sorted(old.policies.keys() - new.policies.keys())
    if gone and new.settings.on_removed == "reject":
        message = f"removes {', '.join(gone)}, and 'settings: {{on_removed: reject}}' forbids that"
        yield diagnose("AR320", _files(new), message, hint="put them back, or set 'on_removed: keep'")


def _files(document: Document) -> Place | None:
    """Name the files that a document came from."""
    return Place("file", ", ".join(path for path, _ in document.files)) if document.files else None
