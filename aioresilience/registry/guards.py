"""What may be refused although it is valid: a document that looks cut off, or drops what must not go."""

from __future__ import annotations

from collections.abc import Set

from aioresilience.config import ConfigError, Diagnostic, Document, diagnose


def check_against(old: Document, new: Document, ended: Set[str]) -> None:
    """Raise ConfigError where `new` looks like a truncated file, or removes what `old` must keep."""
    found = [*_truncated(ended, new), *_shrunk(old, new), *_removed(old, new)]
    if found:
        raise ConfigError(found)


def _truncated(ended: Set[str], new: Document) -> list[Diagnostic]:
    lost = sorted((ended - new.ended) & {path for path, _ in new.files})
    return [
        diagnose(
            "AR318", None, f"{path}: the last line 'end: true' is missing, so the file looks cut off",
            hint="write the whole file, or remove 'end: true' and restart",
        )
        for path in lost
    ]  # fmt: skip


def _shrunk(old: Document, new: Document) -> list[Diagnostic]:
    kept, before = len(old.policies.keys() & new.policies.keys()), len(old.policies)
    if old.whole or new.settings.shrink == "allow" or kept * 2 >= before:
        return []
    message = f"{before - kept} of {before} policies would go, as they do when a file is cut off"
    hint = "if it is meant, set 'settings: {shrink: allow}' or end files with 'end: true'"
    return [diagnose("AR319", None, message, hint=hint)]


def _removed(old: Document, new: Document) -> list[Diagnostic]:
    gone = sorted(old.policies.keys() - new.policies.keys())
    if not gone or new.settings.on_removed != "reject":
        return []
    message = f"removes {', '.join(gone)}, and 'settings: {{on_removed: reject}}' forbids that"
    return [diagnose("AR320", None, message, hint="put them back, or set 'on_removed: keep'")]
