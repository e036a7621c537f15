"""What one call runs under: patterns made into one callable, never changed afterwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

from aioresilience.calls import Call, Caller, Exit, Handler, invoker
from aioresilience.clock import Clock
from aioresilience.pattern import AnyPattern, Context, PatternConfig
from aioresilience.policy import passage
from aioresilience.policy.admission import Entrance
from aioresilience.policy.fused import AnyFunction, Run, code_of, fuse, fuse_around, prepare
from aioresilience.timeout import TimeoutConfig


def fold(patterns: Sequence[AnyPattern], context: Context, clock: Clock) -> Handler:
    """Wrap the patterns, outermost first in the list, around the call: the reference of what a policy means."""
    handler = invoker(clock)
    for pattern in reversed(patterns):
        handler = pattern.wrap(handler, context)
    return handler


def folded(patterns: Sequence[AnyPattern], context: Context, clock: Clock) -> Run:
    """Return the fold in the form in which policies call."""
    handler = fold(patterns, context, clock)

    def run(
        func: Callable[..., Awaitable[object]], args: tuple[object, ...], kwargs: Mapping[str, object], caller: Caller
    ) -> Awaitable[object]:
        return handler(Call(func, args, kwargs, caller))

    return run


class Unmade(Protocol):
    """Patterns that are made when they are first needed, under a lock that is everybody's who may need them."""

    @property
    def lock(self) -> AbstractContextManager[object]:
        """What is held while they are made; re-entrant."""

    def make(self) -> tuple[AnyPattern, ...]:
        """Make the instances, outermost first."""


class Snapshot:
    """Patterns, their context, and the callable made of them under their present configs."""

    __slots__ = (
        "_answers", "_block", "_lasting", "unmade", "clock", "context", "generation", "in_use", "made", "replaced",
        "run", "served",
    )  # fmt: skip

    def __init__(
        self, patterns: Sequence[AnyPattern] | Unmade, context: Context, clock: Clock, generation: int = 1
    ) -> None:
        self.unmade: Unmade | None = None if isinstance(patterns, Sequence) else patterns
        self.made: tuple[AnyPattern, ...] = tuple(patterns) if isinstance(patterns, Sequence) else ()
        """The patterns as far as anybody has needed them."""
        self.context = context
        self.generation = generation
        self.clock = clock
        self.replaced = False
        """Another snapshot is in effect: calls go by way of the policy."""
        self.in_use = False
        """Functions are called under it or decorated with it."""
        self._lasting: Run | None = None
        self._block: Entrance | None = None
        self._answers: Entrance | None = None
        self.served: Entrance | None = None
        """`answers`, once it is known that nothing is left out."""
        self.run: Run = self._first_run
        """Calls a function under the patterns; the callable is made when it is first needed."""

    @property
    def patterns(self) -> tuple[AnyPattern, ...]:
        """The instances, outermost first; made once, for whoever needs them first."""
        unmade = self.unmade
        if unmade is not None:
            with unmade.lock:
                if self.unmade is not None:
                    self.made, self.unmade = unmade.make(), None
        return self.made

    def succeed(self, before: Snapshot) -> None:
        """Compile at once, on the thread that reloads, what calls will need that went by way of the one before."""
        if before.in_use:
            self.in_use = True
            prepare(self.patterns, self.context, self.clock)
        if before.served is not None or before._block is not None:
            passage.prepare(self.patterns, self.context, self.clock)

    def code(self) -> str | None:
        """Return the text of the frame around a decorated function, None where there is none."""
        return code_of(self.patterns, self.context, self.clock)

    def around(self, func: AnyFunction, policy: object) -> AnyFunction | None:
        """Return a wrapper of one frame for a function of the policy, None where there is no fused form."""
        self.in_use = True
        return fuse_around(func, policy, self, self.patterns, self.context, self.clock, fold)

    def _first_run(
        self,
        func: Callable[..., Awaitable[object]],
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        caller: Caller,
    ) -> Awaitable[object]:
        patterns, context, clock = self.patterns, self.context, self.clock
        self.in_use = True
        self.run = fuse(patterns, context, clock, fold) or folded(patterns, context, clock)
        return self.run(func, args, kwargs, caller)

    def entered(self, caller: Caller) -> tuple[Snapshot, Exit | None]:
        """Return what this caller's call runs under, and what must hear of its end."""
        return self, None

    @property
    def block(self) -> Entrance:
        """What `async with` blocks go through."""
        entrance = self._block
        if entrance is None:
            entrance = self._block = self._entrance(self.context)
        return entrance

    @property
    def answers(self) -> Entrance:
        """What requests go through that come in, whose outcome is the status of our own answer."""
        entrance = self._answers
        if entrance is None:
            entrance = self._answers = self._entrance(
                replace(self.context, classify=self.context.classify.of_answers())
            )
        return entrance

    def _entrance(self, context: Context) -> Entrance:
        return Entrance(self.patterns, context, self.clock)

    def run_lasting(
        self, func: Callable[..., Awaitable[object]], args: tuple[object, ...], kwargs: Mapping[str, object],
        caller: Caller,
    ) -> Awaitable[object]:  # fmt: skip
        """Call as `run` does, but let the places that the call holds last until its result is closed."""
        if self._lasting is None:
            self._lasting = folded(self.patterns, replace(self.context, lasting=True), self.clock)
        return self._lasting(func, args, kwargs, caller)


def attempt_timeout(configs: Iterable[PatternConfig]) -> float | None:
    """Return the seconds that one attempt is granted, None where nothing bounds it."""
    return next((config.timeout for config in configs if isinstance(config, TimeoutConfig)), None)
