"""Shapes: what decides the text of a policy's frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MethodType, NoneType
from typing import Final

from aioresilience.bound import Bound
from aioresilience.clock import Clock
from aioresilience.guard import Guard
from aioresilience.pattern import AnyPattern, Context
from aioresilience.policy.notes import finals
from aioresilience.recovering import Recovering
from aioresilience.scope import Scope, Timeline

DEEPEST: Final = 15
"""Patterns in one frame; CPython nests no more than 20 blocks."""

OF_A_PATTERN: Final = frozenset({"admit", "turned_away", "settle", "limit", "ended", "begin"})
"""The methods of a pattern whose text is to stand in the frame."""


@dataclass(frozen=True, slots=True)
class Part:
    """What the text of one pattern depends on."""

    kind: str
    cls: type[AnyPattern]
    sure: bool = True
    """Guards: enforced, so that whoever passes `enter` has a ticket."""
    turns_away: bool = False
    """Guards: enforced, and whoever is not admitted is refused at once."""
    at_once: bool = True
    """Guards: `admit` comes first."""
    reads: bool = False
    """Results are judged, too."""
    handled: bool = False
    """An ExceptionConfig wants to know of failures."""
    late: bool = False
    """Bounds: the time may be over before the call starts."""
    told: frozenset[str] = frozenset()
    """Guards: the moments of a call that goes well of which the room makes events."""
    plan: type = NoneType
    """The class of what the room keeps for a call."""

    @property
    def fixed(self) -> dict[str, type]:
        """The attributes of the pattern that are the same objects for ever, and their classes."""
        return finals(self.cls)  # type: ignore[arg-type]  # every class can be hashed

    def types(self) -> dict[str, type]:
        """Return the classes of the objects that the text calls."""
        bound = {"line": Timeline, "scope": Scope} if self.kind == "bound" else {}
        fixed = {name.strip("_"): cls for name, cls in self.fixed.items()}
        return {"p": self.cls, "plan": self.plan, **bound, **fixed}


@dataclass(frozen=True, slots=True)
class Shape:
    """What the text of a policy depends on."""

    parts: tuple[Part, ...]
    timed: bool = False
    """Somebody wants to know the instant at which the function started."""
    one_clock: bool = True
    """The patterns go by the policy's clock, so that one reading may serve them all."""

    def __str__(self) -> str:
        return " → ".join(part.cls.key for part in self.parts) or "empty"

    @property
    def is_one_guard(self) -> bool:
        """Whether there is nothing but a guard, inside of which the function has surely started."""
        return [part.kind for part in self.parts] == ["guard"]

    def row(self, end: int) -> tuple[int, ...]:
        """Return those of the first `end` parts whose calls are counted in a row: what passes one passes all.

        A part that may object to a result, or let a call go on uncharged, counts its calls itself.
        """
        if any(part.reads and part.kind == "recovering" for part in self.parts):
            return ()
        return tuple(n for n, part in enumerate(self.parts[:end]) if part.sure and not part.reads)


def shape_of(patterns: Sequence[AnyPattern], context: Context, clock: Clock) -> Shape | None:
    """Return the shape of a policy, None where a pattern of it brings a path of its own."""
    active = active_of(patterns, context)
    parts = [part_of(pattern, context) for pattern in active]
    known = tuple(part for part in parts if part is not None)
    if len(known) < len(parts) or len(parts) > DEEPEST:
        return None
    timed = context.attempt_timeout is not None or any(isinstance(p, Guard) and p.reads_start for p in active)
    return Shape(known, timed, all(pattern.clock is clock for pattern in active))


def active_of(patterns: Sequence[AnyPattern], context: Context) -> tuple[AnyPattern, ...]:
    """Return the patterns that are not off."""
    return tuple(pattern for pattern in patterns if pattern.mode_in(context) != "off")


def part_of(pattern: AnyPattern, context: Context) -> Part | None:
    """Return what the pattern's text depends on, None where its layer is not the common one."""
    mode, cls = pattern.mode_in(context), type(pattern)
    if not is_ours(cls) or not pattern.is_common or any(_is_own(getattr(pattern, name, None)) for name in OF_A_PATTERN):
        return None
    if isinstance(pattern, Guard):
        reads = pattern.judge(context).classify.reads_results
        sure, handled = mode == "enforce", pattern.handler is not None
        at_once = sure or pattern.admits_observed
        away = sure and pattern.turns_away
        return Part("guard", cls, sure, away, at_once, reads, handled, told=pattern.told)
    if isinstance(pattern, Bound):
        if mode != "enforce" or not pattern.raises(pattern.config):
            return None
        return Part("bound", cls, late=pattern.is_deadline)
    if isinstance(pattern, Recovering):
        plan = pattern.plan(context)
        return Part("recovering", cls, plan=type(plan), reads=pattern.reads_results(plan))
    return None


def is_ours(cls: type) -> bool:
    """Tell whether a pattern is of this library: what others write may change what its methods mean at any time."""
    return cls.__module__.partition(".")[0] == __name__.partition(".")[0]


def _is_own(method: object) -> bool:
    """Tell whether an instance has something else in place of a method."""
    return method is not None and not isinstance(method, MethodType)
