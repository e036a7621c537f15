"""Telling people and machines what the registry did: log lines, events, the status."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from aioresilience.collector import collector_paused
from aioresilience.config import ConfigError, Diagnostic, Document, OverrideSpec, PolicySpec
from aioresilience.events import RegistryEvent, global_bus
from aioresilience.logging import describe, log_event
from aioresilience.pattern import AnyPattern
from aioresilience.policy import Policy
from aioresilience.registry.loading import pace
from aioresilience.registry.names import declared_names, unknown
from aioresilience.registry.results import Change, ReloadResult

if TYPE_CHECKING:
    from aioresilience.registry.registry import Registry
    from aioresilience.registry.watch import Watcher

Reloading: TypeAlias = "dict[str, object] | None"
"""What is under way: who began it, and how many seconds ago; None for nothing."""
LOGGER: Final = "aioresilience.registry"
SHOWN: Final = 20
"""Changes in a log line; the event has them all."""
LINES: Final = 100
"""Lines of one message in the log."""


def tell(registry: Registry, name: str, message: str, level: int = logging.INFO, **details: object) -> None:
    """Log the message, a record for each of its lines, and publish one event."""
    for line in message.split("\n")[:LINES]:
        log_event(LOGGER, level, f"{name}: {line}", urgent=level >= logging.ERROR)
    if registry.events.handlers or global_bus.handlers:
        ledger = registry.ledger
        registry.events.publish(
            RegistryEvent(
                name, generation=ledger.generation, revision=ledger.document.revision, details=details, message=message
            )
        )


def accepted(registry: Registry, result: ReloadResult, before: Document) -> None:
    """Tell of a document that is in effect instead of the one before."""
    if result.outcome == "applied":
        changes = [str(change) for change in result.changes]
        head = f"generation {result.generation}, revision {result.revision[:12]}, by {result.trigger}"
        more = f"; and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
        text = "; ".join(changes[:SHOWN]) or "no policy changed"
        tell(
            registry, "reload_applied", f"{head}: {text}{more}",
            changes=changes, trigger=result.trigger, outcome=result.outcome,
        )  # fmt: skip
        retired(registry, result.changes)
        restart_required(registry, before)
    findings(registry, before.findings)


def recovered(registry: Registry, result: ReloadResult) -> None:
    """Tell that the registry's own sources are good again."""
    if registry.ledger.recover():
        message = f"the sources are good again, revision {result.revision[:12]}, by {result.trigger}"
        tell(registry, "reload_recovered", message, trigger=result.trigger)


def rejected(registry: Registry, result: ReloadResult) -> None:
    """Tell of a document that was refused whole."""
    count = len(result.diagnostics)
    head = f"{count} error{'s' if count != 1 else ''}, by {result.trigger}; generation {result.generation} stays"
    diagnostics = [str(diagnostic) for diagnostic in result.diagnostics]
    tell(
        registry, "reload_rejected", f"{head}\n{result.message}", logging.ERROR,
        diagnostics=diagnostics, trigger=result.trigger, outcome=result.outcome,
    )  # fmt: skip


def findings(registry: Registry, known: Iterable[Diagnostic] = ()) -> None:
    """Tell of what lint found and was not known before; it refuses nothing."""
    told = {(finding.id, finding.path, finding.message) for finding in known}
    for finding in registry.document.findings:
        if (finding.id, finding.path, finding.message) not in told:
            tell(registry, "config_lint", str(finding), logging.WARNING, id=finding.id)


def started_on_fallback(registry: Registry, error: ConfigError) -> None:
    """Say loudly that the configuration in effect is the fallback."""
    broken = ", ".join(registry.source_names())
    message = f"{broken} cannot be used, so AIORESILIENCE_FALLBACK_CONFIG is in effect\n{error}"
    tell(registry, "fallback_config_used", message, logging.CRITICAL)


def retired(registry: Registry, changes: Iterable[Change]) -> None:
    """Tell of policies that the document has no more and that the process goes on with, because it uses them."""
    gone = [change.policy for change in changes if change.kind == "removed" and change.policy in registry.policies]
    if gone:
        message = f"{', '.join(gone)}: removed from the sources, and goes on where it is used"
        tell(registry, "policy_retired", message, logging.WARNING, policies=gone)


def restart_required(registry: Registry, before: Document) -> None:
    """Name what has changed and holds only from the next start on."""
    now = registry.document
    if before.service != now.service:
        message = f"service: {before.service} → {now.service} holds from the next start on"
        tell(registry, "restart_required", message, logging.WARNING, settings=["service"])


def described(override: OverrideSpec) -> dict[str, object]:
    """Return an override as events and the status show it; `expires` is in seconds since the epoch."""
    return {"policy": override.policy, "expires": override.expires, "reason": override.reason, "by": override.by}


def ready(registry: Registry, *, default: bool) -> None:
    """Make the patterns of the policies that code names: what cannot be made fails the start and not the first call."""
    for name in sorted(declared_names(registry, default=default)):
        _ = registry.get(name).patterns


def verify(registry: Registry) -> None:
    """Raise UnknownPolicyError for names in code that lead nowhere, or what keeps their patterns from being made."""
    ready(registry, default=registry.is_default)
    pending = registry.document.pending
    if pending:
        message = f"exceptions not found yet: {', '.join(pending)}"
        tell(registry, "name_unresolved", message, logging.WARNING, names=list(pending))


def status(registry: Registry, watcher: Watcher, reloading: Reloading, names: Collection[str]) -> dict[str, object]:
    """Return the registry's state and that of its policies, or of the named ones, fit for JSON."""
    document, breathe, policies = registry.ledger.document, pace(), {}
    shared: dict[int, tuple[AnyPattern, dict[str, object]]] = {}
    with registry.lock:
        used, specs = dict(registry.policies), dict(registry.specs)
    with collector_paused():  # which would go through all of them again and again
        state = overview(registry, watcher, reloading)
        gone = set(cast("list[str]", state["policies_retired"]))
        for name in sorted(names or {*document.policies, *used}):
            breathe()
            if name not in document.policies and name not in used:
                raise unknown(name, document.policies)
            spec = document.policies.get(name) or specs[name]
            policies[name] = _policy(spec, name, used.get(name), shared, retired=name in gone)
        return state | {"policies": policies}


def _retired(registry: Registry) -> set[str]:
    """Return the policies in use that the document has no more; those that its defaults serve are none of them."""
    with registry.lock:
        own = [name for name, spec in registry.specs.items() if spec.name == name]
    return set(own) - registry.document.policies.keys()


def overview(registry: Registry, watcher: Watcher, reloading: Reloading) -> dict[str, object]:
    """Return the registry's state without its policies."""
    ledger, now = registry.ledger, registry.clock.wall()
    document = ledger.document
    return {
        "generation": ledger.generation,
        "revision": document.revision,
        "service": document.service,
        "metadata": dict(document.metadata),
        "sources": _sources(registry) or _named(registry),
        "last_reload_successful": not ledger.last_attempt_failed,
        "last_success_at": ledger.applied_at,
        "last_error": ledger.last_error,
        "on_fallback": ledger.on_fallback,
        "pinned": ledger.pinned,
        "config_age_seconds": max(0.0, now - ledger.applied_at),
        "reloads": dict(ledger.reloads),
        "reloads_by_trigger": {trigger: dict(counts) for trigger, counts in list(ledger.triggers.items())},
        "reloading": reloading,
        "watcher": watcher.status(),
        "backends": registry.builder.backends.status(),
        "overrides_active": [override.policy for override in document.overrides if override.active],
        "overrides": [described(override) for override in document.overrides if override.active],
        "policies_retired": sorted(_retired(registry)),
        "findings": ledger.findings(),
        "pending_exceptions": list(document.pending),
    }


def _sources(registry: Registry) -> list[dict[str, object]]:
    """Return every file of the sources: its hash as last read, and whether it can be read now."""
    digests = dict(registry.ledger.seen)
    return [
        {"path": os.path.abspath(path), "sha256": digests.get(path), "read_ok": os.access(path, os.R_OK)}
        for path in registry.loader.looked
    ]


def _named(registry: Registry) -> list[dict[str, object]]:
    return [{"path": name, "sha256": None, "read_ok": True} for name in registry.source_names()]


def _policy(
    spec: PolicySpec,
    name: str,
    policy: Policy | None,
    shared: dict[int, tuple[AnyPattern, dict[str, object]]],
    *,
    retired: bool,
) -> dict[str, object]:
    """Return the state of one policy, or the error where it has none: that of the others is told all the same."""
    about = None if spec.about is None else spec.about.model_dump(exclude_none=True)
    unknown_state: dict[str, object] = {"name": name, "patterns": {key: {} for key, _ in spec.patterns}}
    if policy is None:
        return unknown_state | {"used": False, "about": about}
    try:
        state = policy.status_beside(shared)
    except Exception as error:  # of a pattern of somebody else's class, which may not even let itself be made
        mode = policy.mode
        state = unknown_state | {
            "mode": mode if isinstance(mode, str) else {"enforce": mode.enforce},
            "generation": policy.generation,
            "error": describe(error),
        }
    return state | {"used": True, "retired": retired, "about": about}
