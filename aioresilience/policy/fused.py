"""The fused form: a policy's patterns in one coroutine frame, written out once per shape.

What it means is what `fold` says; a property test holds the two equal. The frame is written out here; what a pattern
does in it is the text of its own methods, written out by `inline`. All that is not the path of a call that succeeds is
a call to the methods that the layers use. A shape is what decides the text: the kinds in order, and for each what its
layer would look at when it is built. The compiled text is cached by shape.
"""

from __future__ import annotations

import ast
import builtins
import functools
import itertools
import linecache
import math
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MethodType, NoneType
from typing import Final

from aioresilience.bound import Bound
from aioresilience.calls import Call, Caller, Handler, Trace
from aioresilience.clock import Clock
from aioresilience.counts import row_of
from aioresilience.events import audience
from aioresilience.failures import SUCCESS, Judge, Outcome
from aioresilience.guard import Guard, moment_of
from aioresilience.pattern import AnyPattern, Context, PatternConfig, Recovering
from aioresilience.policy.clocking import read_once
from aioresilience.policy.inline import Writer, finals
from aioresilience.scope import Scope, Timeline, TimerQueue
from aioresilience.straight import STRAIGHT

Run = Callable[[Callable[..., Awaitable[object]], tuple[object, ...], Mapping[str, object], Caller], Awaitable[object]]
Wrap = Callable[[Callable[..., Awaitable[object]], object, object, Caller], Callable[..., Awaitable[object]]]
Fused = tuple[Run, Wrap]
Lines = Iterator[str]
INDENT = "    "
DEEPEST = 15
"""Patterns in one frame; CPython nests no more than 20 blocks."""

SOMETIME: Final = math.inf
"""When the function started, where nobody wants to know the instant."""

OF_THE_FRAME: Final[dict[str, object]] = {
    "SOMETIME": SOMETIME, "SUCCESS": SUCCESS, "Call": Call, "audience": audience, "moment_of": moment_of,
}  # fmt: skip
"""What the frame refers to beside the values of one policy."""

OF_A_PATTERN: Final = frozenset({"admit", "settle", "limit", "ended", "begin"})
"""The methods of a pattern whose text is to stand in the frame."""

OF_A_SCOPE: Final = (Timeline.open, TimerQueue.task, TimerQueue.remove, Scope.leave)
"""The same of the timer; beside these, all that is straight."""


@dataclass(frozen=True, slots=True)
class Part:
    """What the text of one pattern depends on."""

    kind: str
    cls: type[AnyPattern]
    sure: bool = True
    """Guards: enforced, so that whoever passes `enter` has a ticket."""
    at_once: bool = True
    """Guards: `admit` comes first."""
    reads: bool = False
    """Results are judged, too."""
    handled: bool = False
    """An ExceptionConfig wants to know of failures."""
    late: bool = False
    """Bounds: the time may be over before the call starts."""
    plan: type = NoneType
    """The class of what the room keeps for a call."""

    @property
    def fixed(self) -> dict[str, type]:
        """The attributes of the pattern that are the same objects for ever, and their classes."""
        return dict(finals(self.cls))

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

    def row(self, end: int) -> tuple[int, ...]:
        """Return those of the first `end` parts whose calls are counted in a row: what passes one passes all.

        A part that may object to a result, or let a call go on uncharged, counts its calls itself.
        """
        if any(part.reads and part.kind == "recovering" for part in self.parts):
            return ()
        return tuple(n for n, part in enumerate(self.parts[:end]) if part.sure and not part.reads)

    @property
    def mark(self) -> str:
        """The variable that is None until the call has been counted as started in a row."""
        again = any(part.kind == "recovering" and self.row(n) for n, part in enumerate(self.parts))
        return "begun" if again else "started"


def shape_of(patterns: Sequence[AnyPattern], context: Context, clock: Clock) -> Shape | None:
    """Return the shape of a policy, None where a pattern of it brings a path of its own."""
    active = _active(patterns, context)
    parts = [part_of(pattern, context) for pattern in active]
    known = tuple(part for part in parts if part is not None)
    if len(known) < len(parts) or len(parts) > DEEPEST:
        return None
    timed = context.attempt_timeout is not None or any(isinstance(p, Guard) and p.reads_start for p in active)
    return Shape(known, timed, all(pattern.clock is clock for pattern in active))


def _active(patterns: Sequence[AnyPattern], context: Context) -> list[AnyPattern]:
    return [pattern for pattern in patterns if pattern.mode_in(context) != "off"]


def part_of(pattern: AnyPattern, context: Context) -> Part | None:
    """Return what the pattern's text depends on, None where its layer is not the common one."""
    mode, cls = pattern.mode_in(context), type(pattern)
    if not pattern.is_common or any(_is_own(getattr(pattern, name, None)) for name in OF_A_PATTERN):
        return None
    if isinstance(pattern, Guard):
        reads = pattern.judge(context).classify.reads_results
        sure, handled = mode == "enforce", pattern.handler is not None
        at_once = sure or pattern.admits_observed
        return Part("guard", cls, sure=sure, at_once=at_once, reads=reads, handled=handled)
    if isinstance(pattern, Bound):
        if mode != "enforce" or not pattern.raises(pattern.config):
            return None
        return Part("bound", cls, late=pattern.is_deadline)
    if isinstance(pattern, Recovering):
        plan = pattern.plan(context)
        return Part("recovering", cls, plan=type(plan), reads=pattern.reads_results(plan))
    return None


def _is_own(method: object) -> bool:
    """Tell whether an instance has something else in place of a method."""
    return method is not None and not isinstance(method, MethodType)


def fuse(patterns: Sequence[AnyPattern], context: Context, clock: Clock, fold: Callable[..., Handler]) -> Fused | None:
    """Return the two callables for the patterns, None where they must be folded."""
    shape = shape_of(patterns, context, clock)
    if shape is None:
        return None
    active = _active(patterns, context)
    names: dict[str, object] = {"monotonic": clock.monotonic}
    for number, (pattern, part) in enumerate(zip(active, shape.parts, strict=True)):
        kept = _kept(pattern, context)
        if isinstance(pattern, Recovering):
            kept.inner = _Later(fold, active[number + 1 :], context, clock)
        values = {"p": pattern, "counts": pattern.counts, "k": kept, "plan": kept.plan, "granted": kept.granted}
        values |= {name.strip("_"): getattr(pattern, name) for name in part.fixed}
        if isinstance(pattern, Bound):
            values["line"] = pattern.timeline
        names |= {f"{name}{number}": value for name, value in values.items()}
    for number in range(len(active) + 1):
        names[f"row{number}"] = row_of(*(active[member].counts for member in shape.row(number)))
    return bind(shape)(**names)


@dataclass(slots=True)
class Kept:
    """What a layer captures when it is built, for the rest of its calls."""

    judge: Judge | None = None
    of_result: Callable[[object], Outcome] | None = None
    enter: Callable[[Caller, Trace], Awaitable[object | None]] | None = None
    config: PatternConfig | None = None
    granted: float | None = None
    plan: object = None
    inner: Handler | None = None


def _kept(pattern: AnyPattern, context: Context) -> Kept:
    if isinstance(pattern, Guard):
        judge = pattern.judge(context)
        return Kept(judge, judge.classify.of_result, pattern.entry(pattern.mode_in(context)))
    if isinstance(pattern, Bound):
        judge = Judge(context.classify, attempt_timeout=context.attempt_timeout)
        return Kept(judge, config=pattern.config, granted=pattern.granted(pattern.config))
    assert isinstance(pattern, Recovering)
    return Kept(plan=pattern.plan(context))


class _Later:
    """Folds the patterns further in when the first attempt has failed, since most never do."""

    __slots__ = ("_handler", "_make")

    def __init__(
        self, fold: Callable[..., Handler], patterns: Sequence[AnyPattern], context: Context, clock: Clock
    ) -> None:
        self._make: Callable[[], Handler] = functools.partial(fold, patterns, context, clock)
        self._handler: Handler | None = None

    def __call__(self, call: Call) -> Awaitable[object]:
        handler = self._handler
        if handler is None:
            handler = self._handler = self._make()
        return handler(call)


_numbers = itertools.count(1)
_compiling = threading.RLock()
"""CPython 3.11 parses in one thread at a time, or raises SystemError (https://github.com/python/cpython/issues/106905)."""


@functools.lru_cache(maxsize=1024)
def bind(shape: Shape) -> Callable[..., Fused]:
    """Compile the text of a shape into a function that takes the values and returns the callables."""
    with _compiling:
        return _bind(shape)


def _bind(shape: Shape) -> Callable[..., Fused]:
    text, names = source(shape)
    file = f"<policy {shape} #{next(_numbers)}>"
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file  # for tracebacks and debuggers
    exec(compile(text, file, "exec"), names)
    made: Callable[..., Fused] = names["bind"]  # type: ignore[assignment]  # just defined
    return made


def source(shape: Shape) -> tuple[str, dict[str, object]]:
    """Write out the text of a shape, `run` for any function, `wrap` for a decorated one; and what it refers to."""
    numbered = list(enumerate(shape.parts))
    types = {f"{name}{n}": cls for n, part in numbered for name, cls in part.types().items()}
    fixed = {(f"p{n}", name): f"{name.strip('_')}{n}" for n, part in numbered for name in part.fixed}
    asked = {getattr(part.cls, name) for part in shape.parts for name in OF_A_PATTERN if hasattr(part.cls, name)}
    writer = Writer(types, [*STRAIGHT, *OF_A_SCOPE, *asked], fixed)
    body = writer.expand(ast.parse("\n".join(_frame(shape))).body)
    if shape.one_clock:
        body = read_once(body)
    names = writer.constants | OF_THE_FRAME
    return _written(ast.unparse(ast.fix_missing_locations(ast.Module(body, []))).splitlines(), names), names


def _written(body: Sequence[str], names: Mapping[str, object]) -> str:
    run = ["async def run(func, args, kwargs, caller):", *_deeper(body)]
    wrap = [
        "def wrap(func, policy, snapshot, caller):",
        f"{INDENT}async def wrapper(*args, **kwargs):",
        f"{INDENT * 2}if snapshot.replaced:",  # reloaded since: by way of the snapshot of today
        f"{INDENT * 3}return await policy.snapshot.run(func, args, kwargs, caller)",
        *_deeper(body, 2),
        f"{INDENT}return wrapper",
    ]
    values = sorted(_free_names("\n".join(run)) - names.keys())
    given = ", ".join(["*", *values, "**unused"] if values else ["**unused"])
    return "\n".join([f"def bind({given}):", *_deeper([*run, *wrap]), f"{INDENT}return run, wrap", ""])


def _free_names(text: str) -> set[str]:
    """Return the names that a function's text reads and does not set."""
    names = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)]
    ours = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    ours |= {"func", "args", "kwargs", "caller", "error"}
    return {node.id for node in names} - ours - vars(builtins).keys()


def _frame(shape: Shape) -> Lines:
    yield f"started = trace = {'begun = ' if shape.mark == 'begun' else ''}None"
    yield from _body(shape, 0)
    yield "return result"


def _body(shape: Shape, n: int) -> Lines:
    if n < len(shape.parts):
        yield from WRITERS[shape.parts[n].kind](shape, n, list(_body(shape, n + 1)))
        return
    row = f"row{n}" if shape.row(n) else None
    if row is not None:
        yield f"{row}.started += 1"
    if shape.mark == "begun":
        yield "begun = True"
    yield "started = monotonic()" if shape.timed else "started = SOMETIME"
    yield "result = await func(*args, **kwargs)"
    if row is not None:
        yield f"{row}.succeeded += 1"


def _guard(shape: Shape, n: int, inner: list[str]) -> Lines:
    part, alone = shape.parts[n], n not in shape.row(n + 1)
    charged = "" if part.sure else f"if ticket{n} is not None: "  # observed calls may go on without a ticket
    yield f"ticket{n} = p{n}.admit(caller)" if part.at_once else f"ticket{n} = None"
    yield f"if ticket{n} is None:"
    yield f"{INDENT}if trace is None: trace = []"
    yield f"{INDENT}ticket{n} = await k{n}.enter(caller, trace)"
    if alone:
        yield f"{charged}counts{n}.begun += 1"
    yield f"if {'' if part.sure else f'ticket{n} is not None and '}{_heard(n)}: p{n}.tell('admitted')"
    yield "try:"
    yield from _deeper(inner)
    yield "except BaseException as error:"
    yield from _deeper(_begun(shape, n))
    failed = f"p{n}.settle_error(ticket{n}, error, started, k{n}.judge)"
    yield f"{INDENT}{charged}" + (f"await p{n}.report_failure({failed}, error)" if part.handled else failed)
    yield f"{INDENT}raise"
    if part.sure:
        yield from _settled(part, n, alone)
    else:
        yield f"if ticket{n} is not None:"
        yield from _deeper(_settled(part, n, alone))


def _heard(n: int) -> str:
    """Return the test whether to tell; one look at the audience answers it for most processes."""
    return f"audience.size and p{n}.listening()"


def _settled(part: Part, n: int, alone: bool) -> Lines:
    if part.reads:
        yield f"outcome{n} = k{n}.of_result(result)"
        yield f"counts{n}.settle(outcome{n})"
        yield f"p{n}.settle(ticket{n}, outcome{n}, started)"
        yield f"if {_heard(n)}: p{n}.tell(moment_of(outcome{n}))"
        return
    if alone:
        yield f"counts{n}.done += 1"
    yield f"p{n}.settle(ticket{n}, SUCCESS, started)"
    yield f"if {_heard(n)}: p{n}.tell('succeeded')"


def _begun(shape: Shape, n: int) -> Lines:
    """Count the start of a call that ended before the row had counted it."""
    if n in shape.row(n + 1) and n + 1 < len(shape.parts):
        yield f"if {shape.mark} is None: counts{n}.begun += 1"


def _answered(shape: Shape, n: int) -> Lines:
    """Count, for the parts further out, a call that something else than the function has answered."""
    if shape.row(n):
        yield f"if {shape.mark} is None:"
        yield f"{INDENT}{shape.mark} = {'True' if shape.mark == 'begun' else 'SOMETIME'}"
        yield f"{INDENT}row{n}.started += 1"
        yield f"row{n}.succeeded += 1"


def _bound(shape: Shape, n: int, inner: list[str]) -> Lines:
    alone = n not in shape.row(n + 1)
    if alone:
        yield f"counts{n}.begun += 1"
    yield f"limit{n} = p{n}.limit(granted{n})"
    if not shape.parts[n].late:
        yield from _within(shape, n, inner, alone)
        return
    yield f"if limit{n} <= 0:"
    if not alone:
        yield f"{INDENT}counts{n}.begun += 1"
    yield f"{INDENT}await p{n}.refuse(k{n}.config, limit{n}, trace)"
    yield f"{INDENT}raise AssertionError('it has raised')"
    yield from _within(shape, n, inner, alone)


def _within(shape: Shape, n: int, inner: list[str], alone: bool) -> Lines:
    yield f"scope{n} = line{n}.open(limit{n})"
    yield "try:"
    yield from _deeper(inner)
    yield "except BaseException as error:"
    yield from _deeper(_begun(shape, n))
    yield f"{INDENT}await p{n}.failed(scope{n}, limit{n}, error, started, k{n}.config, k{n}.judge, trace)"
    yield f"{INDENT}raise"
    yield f"scope{n}.leave(None)"
    if alone:
        yield f"counts{n}.done += 1"
    yield f"p{n}.ended(limit{n}, monotonic() - scope{n}.when + limit{n})"


def _recovering(shape: Shape, n: int, inner: list[str]) -> Lines:
    part, alone = shape.parts[n], n not in shape.row(n + 1)
    if alone:
        yield f"counts{n}.begun += 1"
    yield f"p{n}.begin(plan{n})"
    yield f"error{n} = None"
    yield "try:"
    yield from _deeper(inner)
    yield "except BaseException as error:"
    yield f"{INDENT}error{n} = error"
    yield f"if error{n} is not None:"
    yield from _deeper(_begun(shape, n))
    yield from _deeper(_again(n, f"p{n}.recover(plan{n}, call{n}, error{n}, k{n}.inner)", f"error{n} = None"))
    yield from _deeper(_answered(shape, n))
    if part.reads or alone:
        yield "else:"
        again = _again(n, f"p{n}.review(plan{n}, call{n}, result, k{n}.inner)", "pass")
        yield from _deeper(again if part.reads else [f"counts{n}.done += 1"])


def _again(n: int, what: str, after: str) -> Lines:
    """Let the room decide what becomes of a call, which may call again."""
    yield f"call{n} = Call(func, args, kwargs, caller)"
    yield f"call{n}.started, call{n}.trace = started, trace"
    yield "try:"
    yield f"{INDENT}result = await {what}"
    yield "finally:"
    yield f"{INDENT}{after}"
    yield f"{INDENT}started, trace = call{n}.started, call{n}.trace"


def _deeper(lines: Iterable[str], levels: int = 1) -> Lines:
    return (INDENT * levels + line for line in lines)


WRITERS = {"guard": _guard, "bound": _bound, "recovering": _recovering}
