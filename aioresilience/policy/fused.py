"""The fused form: a policy's patterns in one coroutine frame, written out once per shape.

What it means is what `fold` says; a property test holds the two equal. The frame is the text of `frame`; what a pattern
does in it is the text of its own methods, written out by `inline`. The compiled text is cached by shape.
"""

from __future__ import annotations

import ast
import builtins
import functools
import itertools
import linecache
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Final

from aioresilience.bound import Bound
from aioresilience.calls import ANYONE, Call, Caller, Handler, Trace
from aioresilience.clock import Clock
from aioresilience.collector import collector_paused
from aioresilience.counts import Row, counted_by, row_of
from aioresilience.failures import Judge, Outcome
from aioresilience.forks import held_at_forks
from aioresilience.guard import Guard
from aioresilience.pattern import AnyPattern, Context, PatternConfig
from aioresilience.policy.clocking import AUDIENCE, INSTANT, read_once
from aioresilience.policy.frame import INDENT, NAMES, deeper, frame
from aioresilience.policy.inline import Writer
from aioresilience.policy.passing import ANYHOW, Passing, passing_of
from aioresilience.policy.shape import OF_A_PATTERN, Part, Shape, active_of, shape_of
from aioresilience.policy.trees import nodes, stored
from aioresilience.recovering import Recovering
from aioresilience.scope import Scope, Timeline
from aioresilience.straight import STRAIGHT
from aioresilience.timers import TimerQueue

AnyFunction = Callable[..., Awaitable[object]]
Run = Callable[[AnyFunction, tuple[object, ...], Mapping[str, object], Caller], Awaitable[object]]
Fold = Callable[[Sequence[AnyPattern], Context, Clock], Handler]

OF_A_SCOPE: Final = (Timeline.open, TimerQueue.task, TimerQueue.remove, Scope.leave)
"""The methods of timers whose text is to stand in the frame; beside these, all that is straight."""

RUN: Final = Passing("func, args, kwargs, caller", "*args, **kwargs", "args", "kwargs")


def fuse(patterns: Sequence[AnyPattern], context: Context, clock: Clock, fold: Fold) -> Run | None:
    """Return the one callable for any function, None where the patterns must be folded."""
    shape = shape_of(patterns, context, clock)
    if shape is None:
        return None
    made = bind(shape, RUN)
    values = _values(made, shape, patterns, context, clock, fold)
    run = made(**values)
    counted_by(run, (value for value in values.values() if isinstance(value, Row)))
    return run  # type: ignore[no-any-return]  # by exec


def fuse_around(
    func: AnyFunction, policy: object, snapshot: object,
    patterns: Sequence[AnyPattern], context: Context, clock: Clock, fold: Fold,
) -> AnyFunction | None:  # fmt: skip
    """Return the patterns around one function, None where they must be folded.

    Once the snapshot is `replaced` its calls go by way of the policy.
    """
    shape = shape_of(patterns, context, clock)
    if shape is None:
        return None
    made = bind(shape, passing_of(func))
    values = _values(made, shape, patterns, context, clock, fold)
    wrapper = made(**values, func=func, policy=policy, snapshot=snapshot)
    counted_by(wrapper, (value for value in values.values() if isinstance(value, Row)))
    wrapper.__defaults__, wrapper.__kwdefaults__ = (
        getattr(func, "__defaults__", None),
        getattr(func, "__kwdefaults__", None),
    )
    return wrapper  # type: ignore[no-any-return]  # by exec


def prepare(patterns: Sequence[AnyPattern], context: Context, clock: Clock) -> None:
    """Compile what `fuse` will need, if it is not at hand yet."""
    shape = shape_of(patterns, context, clock)
    if shape is not None:
        bind(shape, RUN)


def code_of(patterns: Sequence[AnyPattern], context: Context, clock: Clock) -> str | None:
    """Return the text that runs around a decorated function, None where the patterns are folded."""
    shape = shape_of(patterns, context, clock)
    return None if shape is None else source(shape)[0]


def _values(
    made: FunctionType, shape: Shape, patterns: Sequence[AnyPattern], context: Context, clock: Clock, fold: Fold
) -> dict[str, object]:
    """Return what the text refers to, by name; a row only where it does."""
    active, wanted = active_of(patterns, context), made.__code__.co_varnames[: made.__code__.co_kwonlyargcount]
    names: dict[str, object] = {"monotonic": clock.monotonic}
    for number, (pattern, part) in enumerate(zip(active, shape.parts, strict=True)):
        inner = _Later(fold, active, number + 1, context, clock)
        names |= values_of(number, pattern, part)
        names |= {f"{name}{number}": value for name, value in _kept(pattern, part, context, inner).items()}
    for number in range(len(active) + 1):
        if f"row{number}" in wanted:
            names[f"row{number}"] = row_of(*(active[member].counts for member in shape.row(number)))
    return names


def _kept(pattern: AnyPattern, part: Part, context: Context, inner: Handler) -> dict[str, object]:
    """Return what a layer captures when it is built, for the rest of its calls."""
    if isinstance(pattern, Guard):
        judge, enter = pattern.judge(context), None if part.turns_away else pattern.entry(pattern.mode_in(context))
        return {"k": KeptByGuard(judge, judge.classify.of_result if part.reads else None, enter)}
    if isinstance(pattern, Bound):
        config = pattern.config
        kept = KeptByBound(context.judge(), config)
        return {"k": kept, "granted": pattern.granted(config), "line": pattern.timeline}
    assert isinstance(pattern, Recovering)
    return {"k": KeptByRecovering(inner), "plan": pattern.plan(context)}


@dataclass(frozen=True, slots=True)
class KeptByGuard:
    """What a guard captures: how it judges, and where a call goes that is not admitted at once."""

    judge: Judge
    of_result: Callable[[object], Outcome] | None
    enter: Callable[[Caller, Trace], Awaitable[object | None]] | None


@dataclass(frozen=True, slots=True)
class KeptByBound:
    """What a bound captures: how it judges, and its config."""

    judge: Judge
    config: PatternConfig


@dataclass(frozen=True, slots=True)
class KeptByRecovering:
    """What retry and fallback capture: the patterns further in."""

    inner: Handler


class _Later:
    """Folds the patterns from `start` on when the first attempt has failed, since most never do."""

    __slots__ = ("_clock", "_context", "_fold", "_handler", "_patterns", "_start")

    def __init__(self, fold: Fold, patterns: Sequence[AnyPattern], start: int, context: Context, clock: Clock) -> None:
        self._fold = fold
        self._patterns = patterns
        self._start = start
        self._context = context
        self._clock = clock
        self._handler: Handler | None = None

    def __call__(self, call: Call) -> Awaitable[object]:
        handler = self._handler
        if handler is None:
            handler = self._handler = self._fold(self._patterns[self._start :], self._context, self._clock)
        return handler(call)


_numbers = itertools.count(1)
_compiling = threading.RLock()
"""CPython 3.11 parses in one thread at a time, or raises SystemError (https://github.com/python/cpython/issues/106905)."""
held_at_forks(_compiling)


@functools.lru_cache(maxsize=1024)
def bind(shape: Shape, passing: Passing) -> FunctionType:
    """Compile the text of a shape into a function that takes the values and returns the callable."""
    return compiled(str(shape), lambda: source(shape, passing))


def compiled(title: str, write: Callable[[], tuple[str, dict[str, object]]]) -> FunctionType:
    """Compile the text that `write` gives with what it refers to, and return its function `bind`."""
    with _compiling, collector_paused():  # its trees have no cycles, and looking through all else costs more
        text, names = write()
        file = f"<policy {title} #{next(_numbers)}>"
        linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file  # for tracebacks and debuggers
        exec(compile(text, file, "exec"), names)
        return names["bind"]  # type: ignore[return-value]  # just defined


def source(shape: Shape, passing: Passing = ANYHOW) -> tuple[str, dict[str, object]]:
    """Write out the text of a shape, and return it with what it refers to.

    For `RUN` it is one function that calls any other, else the wrapper of one with these parameters.
    """
    body, names = _body(shape, passing)
    if _clashes(passing.names, {*stored(body), "error", *names, *OWN}, shape):
        return source(shape)
    lines = ast.unparse(ast.Module(body, [])).splitlines()
    head = _head(passing)
    values = sorted(free_names([ast.parse("\n".join(head)), *body]) - names.keys())
    given = ", ".join(["*", *values, "**unused"] if values else ["**unused"])
    made = [*head, *deeper(lines), f"return {'run' if passing == RUN else 'wrapper'}"]
    return "\n".join([f"def bind({given}):", *deeper(made), ""]), names


def _clashes(parameters: frozenset[str], taken: set[str], shape: Shape) -> bool:
    """Tell whether a parameter has a name that the text has for something else, a builtin's included."""
    if not parameters.isdisjoint(taken) or any(name[-1].isdigit() for name in parameters):
        return True
    builtin = parameters & vars(builtins).keys()
    return bool(builtin) and not builtin.isdisjoint(
        node.id for node in nodes(_body(shape, ANYHOW)[0]) if isinstance(node, ast.Name)
    )


def _head(passing: Passing) -> list[str]:
    if passing == RUN:
        return ["async def run(func, args, kwargs, caller):", f"{INDENT}pass"]
    return [
        f"async def wrapper({passing.parameters}):",
        f"{INDENT}if snapshot.replaced:",  # reloaded since: by way of the snapshot of today
        f"{INDENT * 2}return await policy.snapshot.run(func, {passing.args}, {passing.kwargs}, caller)",
    ]


OWN: Final = frozenset({"func", "policy", "snapshot", "caller", "monotonic"})


def _body(shape: Shape, passing: Passing) -> tuple[list[ast.stmt], dict[str, object]]:
    """Return the statements of the frame, and what they refer to."""
    writer = writer_of(shape.parts)
    body = writer.expand(ast.parse("\n".join(frame(shape, passing))).body)
    caller = {} if passing == RUN else {"caller": ANYONE}
    if not shape.is_one_guard:  # which looks once before its call and once after
        body = read_once(body, AUDIENCE)
    return read_once(body, INSTANT) if shape.one_clock else body, writer.constants | caller


def writer_of(parts: Sequence[Part]) -> Writer:
    """Return what writes out the methods of patterns, which go by the names of their place: `p0` for the first."""
    numbered = list(enumerate(parts))
    types = {f"{name}{n}": cls for n, part in numbered for name, cls in part.types().items()}
    fixed = {(f"p{n}", name): f"{name.strip('_')}{n}" for n, part in numbered for name in part.fixed}
    fixed |= {(f"p{n}", "counts"): f"counts{n}" for n, _ in numbered}
    asked = {getattr(part.cls, name) for part in parts for name in OF_A_PATTERN if hasattr(part.cls, name)}
    return Writer(types, [*STRAIGHT, *OF_A_SCOPE, *asked], fixed, NAMES)


def values_of(n: int, pattern: AnyPattern, part: Part) -> dict[str, object]:
    """Return what the names of a pattern's place stand for."""
    fixed = {f"{name.strip('_')}{n}": getattr(pattern, name) for name in part.fixed}
    return {f"p{n}": pattern, f"counts{n}": pattern.counts, **fixed}


def free_names(parts: Iterable[ast.AST]) -> set[str]:
    """Return the names that the parts of a function read and do not set."""
    within = nodes(parts)
    names = [node for node in within if isinstance(node, ast.Name)]
    ours = {node.id for node in names if isinstance(node.ctx, ast.Store)} | {"error"}
    ours |= {node.arg for node in within if isinstance(node, ast.arg)}
    return {node.id for node in names} - ours - vars(builtins).keys()
