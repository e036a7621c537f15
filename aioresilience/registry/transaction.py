"""Applying a document: one at a time, all or nothing, one swap."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from aioresilience.config import AnySource, ConfigError, Document, PolicySpec, diagnose
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
            ledger = self._registry.ledger
            result = self._run(lambda: self._registry.loader.document(sources), "apply", expected_revision, own=False)
            if result.outcome == "applied":
                ledger.pinned, ledger.sources = True, tuple(sources)
            return result

    def patch(self, change: Callable[[], None]) -> ReloadResult:
        """Change the layer of code, and apply the sources that are in effect with it."""
        with self._serial:
            change()
            ledger = self._registry.ledger
            load = lambda: self._registry.loader.document(ledger.sources if ledger.pinned else None)  # noqa: E731
            return self._run(load, "code", None, own=False, guarded=False)

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
                check_against(ledger.document, document, ledger.ended)
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
            ledger.ended |= document.ended
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
        same = self._unchanged(document)
        with registry.lock:
            rebuilt = self._put(document, same, ledger.generation + 1)
            ledger.accept(document, registry.clock.wall())
            for policy in rebuilt:
                registry.specs[policy.policy.name] = policy.spec

    def _unchanged(self, document: Document) -> dict[str, PolicySpec]:
        """Return the specifications in use that stay as they are, compared outside of the lock."""
        same = {}
        for number, (name, old) in enumerate(list(self._registry.specs.items())):
            if number % 50 == 0:
                time.sleep(0)  # let the loop's thread have the interpreter
            new = self._wanted(name, old, document)
            if new is None or new == old:
                same[name] = old
        return same

    @staticmethod
    def _wanted(name: str, old: PolicySpec, document: Document) -> PolicySpec | None:
        """Return what a policy in use is to become, None where it goes on as it is because its name is gone."""
        new = document.policies.get(name)
        if new is None and old.name == document.default.name and document.settings.on_unknown_policy == "default":
            return document.default
        return new

    def _put(self, document: Document, same: dict[str, PolicySpec], generation: int) -> list[Rebuilt]:
        """Build every changed policy aside, then put them all in place, or none."""
        registry, done = self._registry, []
        try:
            rebuilt = [
                registry.builder.rebuild(policy, old, new)
                for name, policy in registry.policies.items()
                if same.get(name) is not (old := registry.specs[name])
                and (new := self._wanted(name, old, document)) is not None
            ]
            for policy in rebuilt:
                done.append(policy)
                policy.put(generation)
        except Exception as error:
            for policy in reversed(done):
                policy.undo()
            what = f"{type(error).__name__}: {error}"
            raise ConfigError([diagnose("AR321", None, f"a pattern refused its new config: {what}")]) from error
        return rebuilt

    def _reject(self, error: ConfigError, trigger: str) -> ReloadResult:
        self._registry.ledger.note("rejected", error)
        result = self._result("rejected", trigger, diagnostics=error.diagnostics, message=str(error))
        reporting.rejected(self._registry, result)
        return result

    def _result(self, outcome: object, trigger: str, **more: object) -> ReloadResult:
        ledger = self._registry.ledger
        return ReloadResult(outcome, ledger.generation, ledger.document.revision, trigger=trigger, **more)  # type: ignore[arg-type]
