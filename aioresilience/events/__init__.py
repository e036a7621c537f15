"""Events: frozen facts about what patterns and the registry did, for whoever listens.

Publishing never waits and never raises; a handler that is slow, raises or hangs troubles nobody but itself.
"""

from aioresilience.events.emitter import EventBus, EventEmitter, audience, global_bus
from aioresilience.events.facts import (
    BulkheadEvent,
    CircuitBreakerEvent,
    Decision,
    DecisionEvent,
    FallbackEvent,
    LoadShedderEvent,
    RateLimitEvent,
    RegistryEvent,
    ResilienceEvent,
    RetryEvent,
    TimeoutEvent,
)
from aioresilience.events.types import EventType, PatternType

__all__ = [
    "BulkheadEvent",
    "CircuitBreakerEvent",
    "Decision",
    "DecisionEvent",
    "EventBus",
    "EventEmitter",
    "EventType",
    "FallbackEvent",
    "LoadShedderEvent",
    "PatternType",
    "RateLimitEvent",
    "RegistryEvent",
    "ResilienceEvent",
    "RetryEvent",
    "TimeoutEvent",
    "audience",
    "global_bus",
]
