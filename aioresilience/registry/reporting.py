"""Telling people and machines what the registry did: log lines, events, the status."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from aioresilience.config import ConfigError, Document
from aioresilience.events import RegistryEvent, global_bus
from aioresilience.logging import log_event
from aioresilience.policy import Policy
from aioresilience.registry.names import declared_names
from aioresilience.registry.results import ReloadResult

if TYPE_CHECKING:
    from aioresilience.registry.registry import Registry
    from aioresilience.registry.watch import Watcher

LOGGER = "aioresilience.registry"


def tell(registry: Registry, name: str, message: str, level: int = logging.INFO, **details: object) -> None:
    """Log one line and publish one event."""
    log_event(LOGGER, level, f"{name}: {message}")
    if registry.events.handlers or global_bus.handlers:
        ledger = registry.ledger
        registry.events.publish(
            RegistryEvent(
                name, generation=ledger.generation, revision=ledger.document.revision, details=details, message=message
            )
        )


def accepted(registry: Registry, result: ReloadResult, recovered: bool) -> None:
    """Tell of a document that is in effect, or of one that is good again."""
    if result.outcome == "applied":
        changes = [str(change) for change in result.changes]
        head = f"generation {result.generation}, revision {result.revision[:12]}, by {result.trigger}"
        tell(registry, "reload_applied", f"{head}: {'; '.join(changes[:20]) or 'no policy changed'}", changes=changes)
        findings(registry, registry.document)
    if recovered:
        tell(registry, "reload_recovered", f"the sources are good again, revision {result.revision[:12]}")


def rejected(registry: Registry, result: ReloadResult) -> None:
    """Tell of a document that was refused whole."""
    head = f"{len(result.diagnostics)} errors, by {result.trigger}; generation {result.generation} stays"
    message = f"{head}\n{result.message}"
    diagnostics = [str(diagnostic) for diagnostic in result.diagnostics]
    tell(registry, "reload_rejected", message, logging.ERROR, diagnostics=diagnostics)


def findings(registry: Registry, document: Document) -> None:
    """Tell of what lint found; it refuses nothing."""
    for finding in document.findings:
        log_event(LOGGER, logging.WARNING, f"config_lint: {finding}")


def started_on_fallback(registry: Registry, error: ConfigError) -> None:
    """Say loudly that the configuration in effect is the fallback."""
    broken = ", ".join(registry.source_names())
    message = f"{broken} cannot be used, so AIORESILIENCE_FALLBACK_CONFIG is in effect\n{error}"
    log_event(LOGGER, logging.CRITICAL, f"fallback_config_used: {message}")


def verify(registry: Registry) -> None:
    """Raise UnknownPolicyError or ConfigError for names in code or in the file that lead nowhere."""
    for name in sorted(declared_names(registry, default=registry.is_default)):
        registry.get(name)
    pending = registry.document.pending
    if pending:
        log_event(LOGGER, logging.WARNING, f"exception names not resolved yet: {', '.join(pending)}")


def status(registry: Registry, watcher: Watcher) -> dict[str, object]:
    """Return the registry's state, fit for JSON."""
    ledger, now = registry.ledger, registry.clock.wall()
    with registry.lock:
        used = dict(registry.policies)
    document = ledger.document
    return {
        "generation": ledger.generation,
        "revision": document.revision,
        "service": document.service,
        "metadata": dict(document.metadata),
        "sources": [_source(path, digest) for path, digest in document.files] or _named(registry),
        "last_reload_successful": not ledger.last_attempt_failed,
        "last_success_at": ledger.applied_at,
        "last_error": ledger.last_error,
        "on_fallback": ledger.on_fallback,
        "pinned": ledger.pinned,
        "config_age_seconds": max(0.0, now - ledger.applied_at),
        "reloads": dict(ledger.reloads),
        "watcher": watcher.status(),
        "overrides_active": [override.policy for override in document.overrides if override.active],
        "findings": [str(finding) for finding in document.findings],
        "pending_exceptions": list(document.pending),
        "policies": {name: _policy(document, name, used.get(name)) for name in sorted({*document.policies, *used})},
    }


def _source(path: str, digest: str) -> dict[str, object]:
    return {"path": os.path.abspath(path), "sha256": digest, "read_ok": os.access(path, os.R_OK)}


def _named(registry: Registry) -> list[dict[str, object]]:
    return [{"path": name, "sha256": None, "read_ok": True} for name in registry.source_names()]


def _policy(document: Document, name: str, policy: Policy | None) -> dict[str, object]:
    spec = document.policies.get(name)
    about = None if spec is None or spec.about is None else spec.about.model_dump(exclude_none=True)
    if policy is None:
        assert spec is not None  # the name is of the document where it is not of a policy in use
        return {"name": name, "used": False, "about": about, "patterns": {key: {} for key, _ in spec.patterns}}
    return policy.status() | {"used": True, "retired": spec is None, "about": about}
