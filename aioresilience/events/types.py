"""The names of what can happen, and to which pattern."""

from __future__ import annotations

import re
from enum import Enum, IntEnum
from typing import Final


class PatternType(IntEnum):
    """Which pattern an event comes from."""

    CIRCUIT_BREAKER = 0
    BULKHEAD = 1
    TIMEOUT = 2
    RETRY = 3
    RATE_LIMITER = 4
    LOAD_SHEDDER = 5
    BACKPRESSURE = 6
    FALLBACK = 7
    ADAPTIVE_CONCURRENCY = 8
    DEADLINE = 9


class EventType(IntEnum):
    """What happened; 71 to 90 come from calls under a policy, from 91 on from the registry."""

    INITIALIZED = 0
    STATE_CHANGE = 1
    CALL_SUCCESS = 2
    CALL_FAILURE = 3
    CIRCUIT_RESET = 4
    HALF_OPEN_PROBE = 5
    SLOT_ACQUIRED = 11
    SLOT_RELEASED = 12
    BULKHEAD_FULL = 13
    QUEUE_FULL = 14
    TIMEOUT_OCCURRED = 21
    TIMEOUT_SUCCESS = 22
    RETRY_ATTEMPT = 31
    RETRY_EXHAUSTED = 32
    RETRY_SUCCESS = 33
    REQUEST_ALLOWED = 41
    REQUEST_REJECTED = 42
    LIMIT_UPDATED = 43
    WINDOW_RESET = 44
    REQUEST_SHED = 51
    REQUEST_ACCEPTED = 52
    LOAD_LEVEL_CHANGE = 53
    THRESHOLD_EXCEEDED = 54
    FALLBACK_EXECUTED = 61
    PRIMARY_FAILED = 62

    DECISION = 71
    LOOP_STALLED = 75
    PATTERN_SKIPPED = 77
    PROBE_ABANDONED = 78
    CIRCUIT_FORCED = 79
    CIRCUIT_RELEASED = 80
    BUDGET_EXHAUSTED = 81
    KEY_OVERFLOW = 82
    KEY_MISSING = 83
    BACKEND_DEGRADED = 84
    BACKEND_RECOVERED = 85
    BACKPRESSURE_APPLIED = 86
    BACKPRESSURE_RELIEVED = 87
    STATE_RESTARTED = 88

    RELOAD_APPLIED = 91
    RELOAD_REJECTED = 92
    RELOAD_RECOVERED = 93
    OVERRIDE_EXPIRING = 94
    OVERRIDE_EXPIRED = 95
    POLICY_RETIRED = 96
    CONFIG_LINT = 97
    FALLBACK_CONFIG_USED = 98
    WATCHER_DEGRADED = 99
    WATCHER_RECOVERED = 100
    RESTART_REQUIRED = 101
    NAME_UNRESOLVED = 102


OCCASIONAL: Final = frozenset(
    {
        *(EventType.DECISION, EventType.STATE_CHANGE, EventType.CIRCUIT_FORCED, EventType.CIRCUIT_RELEASED),
        *(EventType.RETRY_ATTEMPT, EventType.RETRY_EXHAUSTED, EventType.BUDGET_EXHAUSTED),
        *(EventType.FALLBACK_EXECUTED, EventType.PRIMARY_FAILED, EventType.TIMEOUT_OCCURRED),
        *(EventType.LOOP_STALLED, EventType.KEY_OVERFLOW, EventType.BACKEND_DEGRADED, EventType.BACKEND_RECOVERED),
        *(member for member in EventType if member >= EventType.RELOAD_APPLIED),
    }
)
"""What no call brings that simply starts and succeeds: who listens for nothing else makes such calls build no event."""

EVERY = "*"
"""Registers a handler for all events."""

EventKey = int | str
"""How events are filed: the number of one of ours, the name of another's, or `EVERY`."""

_BY_NAME: dict[str, int] = {member.name.lower(): member.value for member in EventType}
_BY_NUMBER: dict[int, EventType] = {member.value: member for member in EventType}
_FOREIGN = re.compile(r"[a-z_][a-z0-9_-]*(\.[a-z0-9_-]+)+")


def event_named(event_type: EventType | int | str) -> EventType | int | str:
    """Return our member of this name or number; what is none of ours is returned as it is."""
    key = filed_under(event_type)
    return _BY_NUMBER.get(key, key) if isinstance(key, int) else key


def filed_under(event_type: EventType | int | str) -> EventKey:
    """Return what an event of this type is filed under; a string with one of our names is ours."""
    if isinstance(event_type, Enum):
        event_type = event_type.value
    return _BY_NAME.get(event_type, event_type) if isinstance(event_type, str) else event_type


def registered_as(event_type: EventType | int | str) -> EventKey:
    """Check what a handler asks for, and return what it is filed under.

    Other libraries' events carry a dot in their name ("acme.cache_hit"): only so can a misspelt name of ours be told
    from a name of theirs. Raises ValueError with near names, TypeError for what cannot be an event type.
    """
    if isinstance(event_type, bool) or not isinstance(event_type, int | str):
        raise TypeError(f"an event type is an EventType, its value or its name, not {event_type!r}")
    key = filed_under(event_type)
    if isinstance(key, int):
        return EventType(key).value
    if key == EVERY or _FOREIGN.fullmatch(key):
        return key
    if key.lower() in _BY_NAME:
        return _BY_NAME[key.lower()]
    raise ValueError(f"unknown event type {key!r}{_near(key)}; another library's has a dot, as in 'acme.cache_hit'")


def _near(name: str) -> str:
    from difflib import get_close_matches  # slow to import, and only a mistake needs it

    names = get_close_matches(name.lower(), _BY_NAME, n=3, cutoff=0.5)
    return f", did you mean {' or '.join(map(repr, names))}?" if names else ""
