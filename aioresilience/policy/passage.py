"""The guards around what is no function of its own, written out once per shape: a way in and a way out.

Beside the frame around a function: the text of each guard is again that of its own methods. Whatever makes a caller
wait, refuses it or fails stays with `Admission`.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Union

from aioresilience.calls import Caller
from aioresilience.clock import Clock
from aioresilience.counts import counted_by, row_of
from aioresilience.pattern import AnyPattern, Context
from aioresilience.policy.clocking import INSTANT, read_once
from aioresilience.policy.frame import deeper
from aioresilience.policy.fused import compiled, free_names, values_of, writer_of
from aioresilience.policy.shape import Part, active_of, part_of

LONGEST = 15
"""Guards in one passage."""

Held = tuple[Any, Any, Union["Held", None]]
"""A step and what it gave: a guard's ticket, or an Exit where the step is None; then what was taken before."""


@dataclass(frozen=True, slots=True)
class Passage:
    """The way through guards that let everybody in at once, and whose calls go well, while nobody listens."""

    enter: Callable[[Any, Caller], Any]
    """Leaves tickets at the admission's `held`; returns the step that does not let its caller in, None for no such."""
    leave: Callable[[Held, float | None], Held | None]
    """Gives the tickets back with a success; returns what was held before them."""


def passage(patterns: Sequence[AnyPattern], steps: Sequence[object], context: Context, clock: Clock) -> Passage | None:
    """Return the way through these patterns, each with its step; None where one is more than an enforced guard."""
    parts = _parts(patterns, context, clock)
    if not parts:
        return None
    row = row_of(*(one.counts for one in patterns))
    values: dict[str, object] = {"row": row, "monotonic": clock.monotonic}
    for n, (pattern, part, step) in enumerate(zip(patterns, parts, steps, strict=True)):
        values |= values_of(n, pattern, part) | {f"step{n}": step}
    enter, leave = _bind(parts)(**values)
    counted_by(leave, [row])
    return Passage(enter, leave)


def prepare(patterns: Sequence[AnyPattern], context: Context, clock: Clock) -> None:
    """Compile what `passage` will need, if it is not at hand yet."""
    parts = _parts(active_of(patterns, context), context, clock)
    if parts:
        _bind(parts)


def _parts(patterns: Sequence[AnyPattern], context: Context, clock: Clock) -> tuple[Part, ...]:
    """Return what the text depends on; nothing where one is more than an enforced guard on this clock."""
    parts = [part for pattern in patterns if (part := part_of(pattern, context)) is not None and pattern.clock is clock]
    plain = tuple(Part("guard", part.cls) for part in parts if part.kind == "guard" and part.sure)
    return plain if len(plain) == len(patterns) <= LONGEST else ()


@functools.lru_cache(maxsize=1024)
def _bind(parts: tuple[Part, ...]) -> Callable[..., tuple[Any, Any]]:
    """Compile the text of these guards into a function that takes the values and returns the two ways."""
    return compiled(f"passage {' → '.join(part.cls.key for part in parts)}", lambda: source(parts))


def source(parts: tuple[Part, ...]) -> tuple[str, dict[str, object]]:
    """Write out the text of both ways, and return it with what it refers to."""
    writer = writer_of(parts)
    ways = ["def enter(admission, caller):", "def leave(held, started):"]
    bodies = [
        read_once(writer.expand(ast.parse("\n".join(lines(len(parts)))).body), INSTANT) for lines in (_enter, _leave)
    ]
    text = []
    for head, body in zip(ways, bodies, strict=True):
        text += [head, *deeper(ast.unparse(ast.Module(body, [])).splitlines())]
    values = sorted(free_names([ast.parse("\n".join(text))]) - writer.constants.keys())
    lines = [f"def bind(*, {', '.join(values)}, **unused):", *deeper([*text, "return enter, leave"]), ""]
    return "\n".join(lines), writer.constants


def _enter(guards: int) -> Iterator[str]:
    for n in range(guards):
        yield f"ticket{n} = p{n}.admit(caller)"
        yield f"if ticket{n} is None: return step{n}"
        yield f"admission.held = (step{n}, ticket{n}, admission.held)"
    yield "return None"


def _leave(guards: int) -> Iterator[str]:
    for n in reversed(range(guards)):
        yield f"step, ticket{n}, held = held"
    yield "row.succeeded += 1"
    for n in reversed(range(guards)):
        yield f"p{n}.settle(ticket{n}, SUCCESS, started)"
    yield "return held"
