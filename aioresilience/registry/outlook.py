"""What a change would meet: the live state of the patterns that it concerns, as they are now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from aioresilience.policy import Policy
from aioresilience.registry.results import Change

SHOWN: Final = {
    "circuit_breaker": ("state", "retry_after", "failures_in_row", "window", "half_open_calls"),
    "bulkhead": ("active", "waiting", "limit"),
    "rate_limiter": ("remaining", "burst", "live_keys", "waiting"),
    "adaptive_concurrency": ("limit", "active"),
    "load_shedder": ("active", "queue_depth"),
    "backpressure": ("pending", "waiting"),
    "retry": ("budget",),
}
"""What is worth knowing of a pattern's status before it changes."""


def with_live_state(changes: Iterable[Change], policies: Mapping[str, Policy]) -> tuple[Change, ...]:
    """Add to each change of a policy in use what it would meet there."""
    return tuple(_with_live_state(change, policies.get(change.policy)) for change in changes)


def _with_live_state(change: Change, policy: Policy | None) -> Change:
    key = change.path.partition(".")[0]
    pattern = next((one for one in policy.settled.made if one.key == key), None) if policy is not None else None
    if pattern is None:
        return change
    status = pattern.status()
    live = {name: status[name] for name in SHOWN.get(key, ()) if status.get(name) is not None}
    return replace(change, live=live)
