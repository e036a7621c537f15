"""What one call runs under: a list of patterns folded into one callable, never changed afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aioresilience.calls import Handler, invoker
from aioresilience.clock import Clock
from aioresilience.pattern import AnyPattern, Context, PatternConfig
from aioresilience.timeout import TimeoutConfig


def fold(patterns: Sequence[AnyPattern], context: Context, clock: Clock) -> Handler:
    """Wrap the patterns, outermost first in the list, around the call: the reference of what a policy means."""
    handler = invoker(clock)
    for pattern in reversed(patterns):
        handler = pattern.wrap(handler, context)
    return handler


class Snapshot:
    """Patterns, their context, and the callable folded from them under their present configs."""

    __slots__ = ("context", "generation", "patterns", "run")

    def __init__(self, patterns: Sequence[AnyPattern], context: Context, clock: Clock, generation: int = 1) -> None:
        self.patterns = tuple(patterns)
        self.context = context
        self.generation = generation
        self.run: Handler = fold(self.patterns, context, clock)


def attempt_timeout(configs: Iterable[PatternConfig]) -> float | None:
    """Return the seconds that one attempt is granted, None where nothing bounds it."""
    return next((config.timeout for config in configs if isinstance(config, TimeoutConfig)), None)
