"""The differences between two documents, each with what becomes of live state."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from aioresilience.backends import BackendConfig
from aioresilience.config import Document, PolicySpec
from aioresilience.fields import written
from aioresilience.pattern import PatternConfig
from aioresilience.registry.results import Change

NEXT_CALL = "from the next call on"
WRITTEN = {"rules": "classify", "shared": "use"}
"""How a file writes what a specification calls otherwise."""
EFFECTS = {
    ("circuit_breaker", "recovery_timeout"): "an open breaker stays open from its own opened-at, with the new wait",
    ("circuit_breaker", "half_open_max_calls"): "probes left = new − issued, never below 0",
    ("circuit_breaker", "window"): "the newest samples are kept; count ↔ time starts a new window",
    ("bulkhead", "max_concurrent"): "a shrink is a debt paid by releases, growth wakes waiters at once",
    ("bulkhead", "timeout"): "waiters keep their own deadline",
    ("rate_limiter", "rate"): "the spent share is kept, rescaled to the new rate",
    ("rate_limiter", "burst"): "the spent share is kept",
    ("rate_limiter", "algorithm"): "new state, charged with the old spent share",
    ("rate_limiter", "scope"): "new state, charged with the old spent share",
    ("rate_limiter", "backend"): "new state, charged with the old spent share",
    ("adaptive_concurrency", "*"): "the estimate is kept, clamped to the new bounds",
    ("circuit_breaker", "*"): "at the next evaluation; stored outcomes keep their class",
}


def effect_of(pattern: str, name: str) -> str:
    """Say what a change of that field does to live state."""
    return EFFECTS.get((pattern, name)) or EFFECTS.get((pattern, "*")) or NEXT_CALL


def differences(old: Document, new: Document, breathe: Callable[[], None] = lambda: None) -> tuple[Change, ...]:
    """Return every change: the document's first, then policies in alphabetical order.

    `breathe` is called between policies, of which there may be thousands.
    """
    return (*_document_changes(old, new), *_policies_changes(old, new, breathe))


def _document_changes(old: Document, new: Document) -> Iterator[Change]:
    for field in type(new.settings).model_fields:
        before, after = getattr(old.settings, field), getattr(new.settings, field)
        if before != after:
            yield Change("", "changed", f"settings.{field}", before, after)
    if old.service != new.service:
        yield Change("", "changed", "service", old.service, new.service)
    for name in sorted(old.backends.keys() | new.backends.keys()):
        if old.backends.get(name) != new.backends.get(name):
            before, after = (_presence(document.backends.get(name)) for document in (old, new))
            effect = _backend_effect(old.backends.get(name), new.backends.get(name))
            yield Change("", "changed", f"backends.{name}", before, after, effect)
    if old.routes != new.routes:
        yield Change(
            "", "changed", "routes", old.routes, new.routes, NEXT_CALL, old_text=_routes(old), new_text=_routes(new)
        )


def _presence(backend: object) -> str:
    """Say only whether there is a backend: what is in it may be secret."""
    return "absent" if backend is None else "present"


def _backend_effect(old: BackendConfig | None, new: BackendConfig | None) -> str:
    """Name the fields that change, without their values."""
    if old is None or new is None:
        return ""
    fields = [name for name in type(new).model_fields if getattr(old, name) != getattr(new, name)]
    counts = "" if old.place() == new.place() else "; counts anew, charged with this process's part but for keys"
    return f"{', '.join(fields)}, from the next check on{counts}"


def _policies_changes(old: Document, new: Document, breathe: Callable[[], None]) -> Iterator[Change]:
    for name in sorted(old.policies.keys() | new.policies.keys()):
        breathe()
        before, after = old.policies.get(name), new.policies.get(name)
        if before is None:
            yield Change(name, "added")
        elif after is None:
            yield Change(name, "removed", effect="processes that use it go on with it" if _keeps(new) else "")
        elif before is not after and before != after:
            yield from _policy_changes(name, before, after)


def _routes(document: Document) -> str:
    return f"{len(document.routes)} routes"


def _keeps(document: Document) -> bool:
    return document.settings.on_removed == "keep"


def _policy_changes(name: str, old: PolicySpec, new: PolicySpec) -> Iterator[Change]:
    before, after = dict(old.patterns), dict(new.patterns)
    for key in [*before, *(key for key in after if key not in before)]:
        if key not in after:
            yield Change(name, "changed", key, "present", "absent", "its state is gone")
        elif key not in before:
            yield Change(name, "changed", key, "absent", "present", "starts with new state")
        else:
            yield from _field_changes(name, key, before[key], after[key])
    yield from _settings_changes(name, old, new)


def _field_changes(name: str, key: str, old: PatternConfig, new: PatternConfig) -> Iterator[Change]:
    if old == new:
        return
    for field in type(new).model_fields:
        before, after = getattr(old, field), getattr(new, field)
        if before != after:
            old_text, new_text = written(type(new), field, before), written(type(new), field, after)
            yield Change(name, "changed", f"{key}.{field}", before, after, effect_of(key, field), old_text, new_text)


def _splits_anew(old: PolicySpec, new: PolicySpec) -> bool:
    return old.partition is None or new.partition is None or old.partition.by != new.partition.by


def _settings_changes(name: str, old: PolicySpec, new: PolicySpec) -> Iterator[Change]:
    for field in ("mode", "idempotent", "rules", "shared", "partition"):
        before, after = getattr(old, field), getattr(new, field)
        if before != after:
            effect = (
                "new state" if field == "shared" or (field == "partition" and _splits_anew(old, new)) else NEXT_CALL
            )
            yield Change(name, "changed", WRITTEN.get(field, field), before, after, effect)
    orders = [key for key, _ in old.patterns], [key for key, _ in new.patterns]
    if orders[0] != orders[1] and set(orders[0]) == set(orders[1]):
        yield Change(name, "changed", "order", ", ".join(orders[0]), ", ".join(orders[1]), NEXT_CALL)
