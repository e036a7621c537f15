"""The fused form: a policy's patterns in one coroutine frame, written out once per shape.

What it means is what `fold` says; a property test holds the two equal. Only the path of a call that succeeds is written
out here, everything else is a call to the same methods that the layers use. A shape is what decides the text: the kinds
in order, and for each what its layer would look at when it is built. The compiled text is cached by shape.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from aioresilience.bound import Bound
from aioresilience.calls import Call, Caller, Handler
from aioresilience.clock import Clock
from aioresilience.events import global_bus
from aioresilience.failures import SUCCESS, Judge
from aioresilience.guard import Guard, moment_of
from aioresilience.pattern import AnyPattern, Context, Recovering

Run = Callable[[Callable[..., Awaitable[object]], tuple[object, ...], Mapping[str, object], Caller], Awaitable[object]]
Wrap = Callable[[Callable[..., Awaitable[object]], object, object, Caller], Callable[..., Awaitable[object]]]
Fused = tuple[Run, Wrap]
Lines = Iterator[str]
INDENT = "    "
DEEPEST = 15
"""Patterns in one frame; CPython nests no more than 20 blocks."""


@dataclass(frozen=True, slots=True)
class Part:
    """What the text of one pattern depends on."""

    kind: str
    key: str
    sure: bool = True
    """Guards: enforced, so that whoever passes `enter` has a ticket."""
    reads: bool = False
    """Results are judged, too."""
    handled: bool = False
    """An ExceptionConfig wants to know of failures."""


Shape = tuple[Part, ...]


def shape_of(patterns: Sequence[AnyPattern], context: Context) -> Shape | None:
    """Return the shape of a policy, None where a pattern of it brings a path of its own."""
    parts = [part_of(pattern, context) for pattern in patterns if pattern.mode_in(context) != "off"]
    return None if None in parts else tuple(part for part in parts if part is not None)


def part_of(pattern: AnyPattern, context: Context) -> Part | None:
    """Return what the pattern's text depends on, None where its layer is not the common one."""
    if not pattern.is_common:
        return None
    mode = pattern.mode_in(context)
    if isinstance(pattern, Guard):
        reads = pattern.judge(context).classify.reads_results
        return Part("guard", pattern.key, mode == "enforce", reads, pattern.handler is not None)
    if isinstance(pattern, Bound):
        return Part("bound", pattern.key) if mode == "enforce" else None
    if isinstance(pattern, Recovering):
        return Part("recovering", pattern.key, reads=pattern.reads_results(pattern.plan(context)))
    return None


def fuse(patterns: Sequence[AnyPattern], context: Context, clock: Clock, fold: Callable[..., Handler]) -> Fused | None:
    """Return the two callables for the patterns, None where they must be folded."""
    shape = shape_of(patterns, context)
    if shape is None or len(shape) > DEEPEST:
        return None
    active = [pattern for pattern in patterns if pattern.mode_in(context) != "off"]
    names: dict[str, object] = {"monotonic": clock.monotonic, "bus": global_bus, "SUCCESS": SUCCESS, "Call": Call}
    names["moment_of"] = moment_of
    for number, pattern in enumerate(active):
        names |= {f"{name}{number}": value for name, value in _values(pattern, context).items()}
        if isinstance(pattern, Recovering):
            names[f"inner{number}"] = _Later(fold, active[number + 1 :], context, clock)
    return bind(shape)(**names)


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


def _values(pattern: AnyPattern, context: Context) -> dict[str, object]:
    """Return what the pattern's text refers to: all that its layer would capture."""
    values: dict[str, object] = {"counts": pattern.counts, "events": pattern.events}
    if isinstance(pattern, Guard):
        judge, mode = pattern.judge(context), pattern.mode_in(context)
        return values | {
            "admit": pattern.admitting(mode), "settle": pattern.settle, "enter": pattern.entry(mode),
            "judge": judge, "of_result": judge.classify.of_result, "fail": pattern.settle_error,
            "tell": pattern.tell, "report": pattern.report_failure,
        }  # fmt: skip
    if isinstance(pattern, Bound):
        judge = Judge(context.classify, attempt_timeout=context.attempt_timeout)
        return values | {
            "config": pattern.config, "judge": judge, "limit": pattern.limit, "open": pattern.opener(),
            "cut": pattern.failed, "refuse": pattern.refuse, "ended": pattern.ended,
        }  # fmt: skip
    assert isinstance(pattern, Recovering)
    return values | {
        "plan": pattern.plan(context), "begin": pattern.begin, "recover": pattern.recover, "review": pattern.review,
    }  # fmt: skip


@functools.lru_cache(maxsize=1024)
def bind(shape: Shape) -> Callable[..., Fused]:
    """Compile the text of a shape into a function that takes the values and returns the callables."""
    text = source(shape)
    namespace: dict[str, Callable[..., Fused]] = {}
    exec(compile(text, f"<policy {' → '.join(part.key for part in shape) or 'empty'}>", "exec"), namespace)
    return namespace["bind"]


def source(shape: Shape) -> str:
    """Write out the text of a shape: `run` for any function, `wrap` for a decorated one."""
    body = ["started = trace = None", *_body(shape, 0), "return result"]
    run = ["async def run(func, args, kwargs, caller):", *_deeper(body)]
    wrap = [
        "def wrap(func, policy, snapshot, caller):",
        f"{INDENT}async def wrapper(*args, **kwargs):",
        f"{INDENT * 2}if policy.snapshot is not snapshot:",  # reloaded since: by way of the snapshot of today
        f"{INDENT * 3}return await policy.snapshot.run(func, args, kwargs, caller)",
        *_deeper(body, 2),
        f"{INDENT}return wrapper",
    ]
    names = ", ".join(["*", *sorted(_free_names("\n".join(run))), "**unused"])
    return "\n".join([f"def bind({names}):", *_deeper([*run, *wrap]), f"{INDENT}return run, wrap", ""])


def _free_names(text: str) -> set[str]:
    """Return the names that a function's text reads and does not set."""
    names = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)]
    ours = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    ours |= {"func", "args", "kwargs", "caller", "error"}
    return {node.id for node in names} - ours - {"BaseException"}


def _body(shape: Shape, number: int) -> Lines:
    if number == len(shape):
        yield "started = monotonic()"
        yield "result = await func(*args, **kwargs)"
        return
    inner = list(_body(shape, number + 1))
    yield from WRITERS[shape[number].kind](shape[number], str(number), inner)


def _guard(part: Part, n: str, inner: list[str]) -> Lines:
    yield f"ticket{n} = admit{n}(caller)"
    yield f"if ticket{n} is None:"
    yield f"{INDENT}if trace is None: trace = []"
    yield f"{INDENT}ticket{n} = await enter{n}(caller, trace)"
    charged = "" if part.sure else f"if ticket{n} is not None: "  # observed calls may go on without a ticket
    yield f"{charged}counts{n}.started += 1"
    heard = f"(events{n}.handlers or bus.handlers)"
    yield f"if {heard if part.sure else f'ticket{n} is not None and {heard}'}: tell{n}('admitted')"
    yield "try:"
    yield from _deeper(inner)
    yield "except BaseException as error:"
    failed = f"fail{n}(ticket{n}, error, started, judge{n})"
    yield f"{INDENT}{charged}" + (f"await report{n}({failed}, error)" if part.handled else failed)
    yield f"{INDENT}raise"
    if part.sure:
        yield from _settled(part, n)
    else:
        yield f"if ticket{n} is not None:"
        yield from _deeper(list(_settled(part, n)))


def _settled(part: Part, n: str) -> Lines:
    if part.reads:
        yield f"outcome{n} = of_result{n}(result)"
        yield f"counts{n}.settle(outcome{n})"
        yield f"settle{n}(ticket{n}, outcome{n}, started)"
        yield f"if events{n}.handlers or bus.handlers: tell{n}(moment_of(outcome{n}))"
    else:
        yield f"counts{n}.succeeded += 1"
        yield f"settle{n}(ticket{n}, SUCCESS, started)"
        yield f"if events{n}.handlers or bus.handlers: tell{n}('succeeded')"


def _bound(part: Part, n: str, inner: list[str]) -> Lines:
    yield f"counts{n}.started += 1"
    yield f"limit_{n} = limit{n}(config{n})"
    yield f"if limit_{n} <= 0:"
    yield f"{INDENT}result = await refuse{n}(config{n}, limit_{n}, trace)"
    yield "else:"
    yield f"{INDENT}scope{n} = open{n}(limit_{n})"
    yield f"{INDENT}try:"
    yield from _deeper(inner, 2)
    yield f"{INDENT}except BaseException as error:"
    yield f"{INDENT * 2}result = await cut{n}(scope{n}, limit_{n}, error, started, config{n}, judge{n}, trace)"
    yield f"{INDENT}else:"
    yield f"{INDENT * 2}scope{n}.leave(None)"
    yield f"{INDENT * 2}counts{n}.succeeded += 1"
    yield f"{INDENT * 2}ended{n}(limit_{n}, monotonic() - scope{n}.when + limit_{n})"


def _recovering(part: Part, n: str, inner: list[str]) -> Lines:
    yield f"begin{n}(plan{n})"
    yield f"error{n} = None"
    yield "try:"
    yield from _deeper(inner)
    yield "except BaseException as error:"
    yield f"{INDENT}error{n} = error"
    yield f"if error{n} is not None:"
    yield f"{INDENT}call{n} = Call(func, args, kwargs, caller)"
    yield f"{INDENT}call{n}.started, call{n}.trace = started, trace"
    yield f"{INDENT}try:"
    yield f"{INDENT * 2}result = await recover{n}(plan{n}, call{n}, error{n}, inner{n})"
    yield f"{INDENT}finally:"
    yield f"{INDENT * 2}error{n}, started, trace = None, call{n}.started, call{n}.trace"
    if part.reads:
        yield "else:"
        yield f"{INDENT}call{n} = Call(func, args, kwargs, caller)"
        yield f"{INDENT}call{n}.started, call{n}.trace = started, trace"
        yield f"{INDENT}try:"
        yield f"{INDENT * 2}result = await review{n}(plan{n}, call{n}, result, inner{n})"
        yield f"{INDENT}finally:"
        yield f"{INDENT * 2}started, trace = call{n}.started, call{n}.trace"
    else:
        yield "else:"
        yield f"{INDENT}counts{n}.succeeded += 1"


def _deeper(lines: Sequence[str], levels: int = 1) -> Lines:
    return (INDENT * levels + line for line in lines)


WRITERS = {"guard": _guard, "bound": _bound, "recovering": _recovering}
