"""Applying a document: one at a time, all or nothing, one swap."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from aioresilience.config import AnySource, ConfigError, Document
from aioresilience.exceptions import RevisionConflictError
from aioresilience.registry import reporting
from aioresilience.registry.building import Rebuilt
from aioresilience.registry.diff import differences
from aioresilience.registry.guards import check_against
from aioresilience.registry.results import ReloadResult

if TYPE_CHECKING:
    from aioresilience.registry.registry import Registry


class Transaction:
    """Serialises what changes a registry; nothing that runs is touched before the swap."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._serial = threading.RLock()

    def reload(self, trigger: str, expected_revision: str | None) -> ReloadResult:
        """Apply the registry's own sources; a pinned document gives way only to changed files or an explicit call."""
        with self._serial:
            ledger = self._registry.ledger
            result = self._run(self._registry.loader.document, trigger, expected_revision, own=True)
            if result.outcome != "rejected":
                ledger.on_fallback = False
            return result

    def apply(self, sources: Sequence[AnySource], expected_revision: str | None) -> ReloadResult:
        """Apply a document from elsewhere and pin it."""
        with self._serial:
            result = self._run(lambda: self._registry.loader.document(sources), "apply", expected_revision, own=False)
            self._registry.ledger.pinned |= result.outcome == "applied"
            return result

    def rollback(self, steps: int) -> ReloadResult:
        """Apply an earlier document and pin it; IndexError where there is none."""
        with self._serial:
            ledger = self._registry.ledger
            if not 1 <= steps <= len(ledger.history):
                raise IndexError(f"cannot go back {steps}: {len(ledger.history)} earlier documents are kept")
            earlier = ledger.history[-steps]
            result = self._run(lambda: earlier, "rollback", None, own=False, guarded=False)
            ledger.pinned = True
            return result

    def _run(
        self, load: Callable[[], Document], trigger: str, expected: str | None, *, own: bool, guarded: bool = True
    ) -> ReloadResult:
        ledger = self._registry.ledger
        if expected is not None and expected != ledger.document.revision:
            raise RevisionConflictError(
                f"expected revision {expected[:12]}, but {ledger.document.revision[:12]} is in effect; look again"
            )
        try:
            document = load()
            if own and self._held_by_pin(document, trigger):
                return self._result("unchanged", trigger)
            if guarded:
                check_against(ledger.document, document)
            return self._accept(document, trigger, own)
        except ConfigError as error:
            return self._reject(error, trigger)

    def _held_by_pin(self, document: Document, trigger: str) -> bool:
        ledger = self._registry.ledger
        held = ledger.pinned and trigger == "file" and document.files == ledger.seen
        if not held:
            ledger.pinned = False
        return held

    def _accept(self, document: Document, trigger: str, own: bool) -> ReloadResult:
        registry, ledger = self._registry, self._registry.ledger
        recovered = ledger.last_attempt_failed
        if own:
            ledger.seen = document.files
        if document.revision == ledger.document.revision:
            ledger.document = document
            ledger.note("unchanged")
            result = self._result("unchanged", trigger)
        else:
            changes = differences(ledger.document, document)
            self._swap(document)
            result = self._result("applied", trigger, changes=changes, diagnostics=document.findings)
        reporting.accepted(registry, result, recovered)
        return result

    def _swap(self, document: Document) -> None:
        registry, ledger = self._registry, self._registry.ledger
        with registry.lock:
            rebuilt = list(self._rebuild(document))
            ledger.accept(document, registry.clock.wall())
            for policy in rebuilt:
                policy.put(ledger.generation)
                registry.specs[policy.policy.name] = policy.spec

    def _rebuild(self, document: Document) -> list[Rebuilt]:
        registry = self._registry
        rebuilt = []
        for name, policy in registry.policies.items():
            old, new = registry.specs[name], registry.spec_of(name, document)
            if new is not None and new is not old and new != old:
                rebuilt.append(registry.builder.rebuild(policy, old, new))
        return rebuilt

    def _reject(self, error: ConfigError, trigger: str) -> ReloadResult:
        self._registry.ledger.note("rejected", error)
        result = self._result("rejected", trigger, diagnostics=error.diagnostics, message=str(error))
        reporting.rejected(self._registry, result)
        return result

    def _result(self, outcome: object, trigger: str, **more: object) -> ReloadResult:
        ledger = self._registry.ledger
        return ReloadResult(outcome, ledger.generation, ledger.document.revision, trigger=trigger, **more)  # type: ignore[arg-type]
