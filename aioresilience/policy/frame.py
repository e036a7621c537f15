"""The text of a policy's frame: the layers of its patterns in one coroutine function.

Only the path of a call that succeeds is written out; all else is a call to the methods that the layers use. Names end
in the number of their pattern: `p0` is the outermost, `k0` what its layer has captured. `row3` counts the calls of the
first three.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final

from aioresilience.calls import Call
from aioresilience.events import audience
from aioresilience.failures import SUCCESS
from aioresilience.guard import moment_of
from aioresilience.policy.passing import Passing
from aioresilience.policy.shape import Shape

Lines = Iterator[str]
INDENT: Final = "    "

SOMETIME: Final = math.inf
"""When the function started, where nobody wants to know the instant."""

NAMES: Final[dict[str, object]] = {
    "SOMETIME": SOMETIME, "SUCCESS": SUCCESS, "Call": Call, "audience": audience, "moment_of": moment_of,
}  # fmt: skip
"""What the text refers to beside the values of one policy."""


def frame(shape: Shape, passing: Passing) -> Lines:
    """Write out the body of the function for a shape, which hands the call's arguments on as `passing` says."""
    if not shape.is_one_guard:
        yield "started = trace = None"
    yield from _body(shape, 0, passing)
    yield "return result"


def _body(shape: Shape, n: int, passing: Passing) -> Lines:
    if n < len(shape.parts):
        yield from WRITERS[shape.parts[n].kind](shape, n, list(_body(shape, n + 1, passing)), passing)
        return
    row = f"row{n}" if shape.row(n) else None
    if shape.timed or not shape.is_one_guard:
        yield "started = monotonic()" if shape.timed else "started = SOMETIME"
    yield f"result = await func({passing.handed})"
    if row is not None:
        yield f"{row}.succeeded += 1"


def _guard(shape: Shape, n: int, inner: list[str], passing: Passing) -> Lines:
    part, alone = shape.parts[n], n not in shape.row(n + 1)
    charged = "" if part.sure else f"if ticket{n} is not None: "  # observed calls may go on without a ticket
    yield f"ticket{n} = p{n}.admit(caller)" if part.at_once else f"ticket{n} = None"
    yield f"if ticket{n} is None:"
    if part.turns_away:
        yield f"{INDENT}raise p{n}.turned_away(caller, {'trace' if n else 'None'})"
    else:
        yield f"{INDENT}{'if trace is None: ' if n else ''}trace = []"
        yield f"{INDENT}ticket{n} = await k{n}.enter(caller, trace)"
    if "admitted" in part.told:
        yield f"if {'' if part.sure else f'ticket{n} is not None and '}{_heard(n)}: p{n}.tell('admitted')"
    yield "try:"
    yield from deeper(inner)
    yield "except BaseException as error:"
    failed = f"p{n}.settle_error(ticket{n}, error, {_started(shape)}, k{n}.judge)"
    yield f"{INDENT}{charged}" + (f"await p{n}.report_failure({failed}, error)" if part.handled else failed)
    yield f"{INDENT}raise"
    if part.sure:
        yield from _settled(shape, n, alone)
    else:
        yield f"if ticket{n} is not None:"
        yield from deeper(_settled(shape, n, alone))


def _started(shape: Shape) -> str:
    """Return the variable that says when the function started, None before."""
    return "SOMETIME" if shape.is_one_guard and not shape.timed else "started"


def _heard(n: int) -> str:
    """Return the test whether to tell; one look at the audience answers it for most processes."""
    return f"audience.steady and p{n}.listening()"


def _settled(shape: Shape, n: int, alone: bool) -> Lines:
    if shape.parts[n].reads:
        yield f"outcome{n} = k{n}.of_result(result)"
        yield f"counts{n}.settle(outcome{n})"
        yield f"p{n}.settle(ticket{n}, outcome{n}, {_started(shape)})"
        yield f"if {_heard(n)}: p{n}.tell(moment_of(outcome{n}))"
        return
    if alone:
        yield f"counts{n}.done += 1"
    yield f"p{n}.settle(ticket{n}, SUCCESS, {'started' if shape.timed else 'None'})"
    if "succeeded" in shape.parts[n].told:
        yield f"if {_heard(n)}: p{n}.tell('succeeded')"


def _answered(shape: Shape, n: int) -> Lines:
    """Count, for the parts further out, a call that something else than the function has answered."""
    if shape.row(n):
        yield f"row{n}.succeeded += 1"


def _bound(shape: Shape, n: int, inner: list[str], passing: Passing) -> Lines:
    alone = n not in shape.row(n + 1)
    yield f"limit{n} = p{n}.limit(granted{n})"
    if not shape.parts[n].late:
        yield from _within(shape, n, inner, alone)
        return
    yield f"if limit{n} <= 0:"
    yield f"{INDENT}await p{n}.refuse(k{n}.config, limit{n}, trace)"
    yield f"{INDENT}raise AssertionError('it has raised')"
    yield from _within(shape, n, inner, alone)


def _within(shape: Shape, n: int, inner: list[str], alone: bool) -> Lines:
    yield f"scope{n} = line{n}.open(limit{n})"
    yield "try:"
    yield from deeper(inner)
    yield "except BaseException as error:"
    yield f"{INDENT}if not p{n}.was_cut(scope{n}, error, started, k{n}.judge): raise"
    yield f"{INDENT}await p{n}.failed(scope{n}, limit{n}, error, started, k{n}.config, k{n}.judge, trace)"
    yield f"{INDENT}raise"
    yield f"scope{n}.leave(None)"
    if alone:
        yield f"counts{n}.done += 1"
    yield f"p{n}.ended(limit{n}, monotonic() - scope{n}.opened)"


def _recovering(shape: Shape, n: int, inner: list[str], passing: Passing) -> Lines:
    part, alone = shape.parts[n], n not in shape.row(n + 1)
    yield f"p{n}.begin(plan{n})"
    yield f"error{n} = None"
    yield "try:"
    yield from deeper(inner)
    yield "except BaseException as error:"
    yield f"{INDENT}error{n} = error"
    yield f"if error{n} is not None:"
    yield from deeper(_again(n, f"p{n}.recover(plan{n}, call{n}, error{n}, k{n}.inner)", f"error{n} = None", passing))
    yield from deeper(_answered(shape, n))
    if part.reads or alone:
        yield "else:"
        again = _again(n, f"p{n}.review(plan{n}, call{n}, result, k{n}.inner)", "pass", passing)
        yield from deeper(again if part.reads else [f"counts{n}.done += 1"])


def _again(n: int, what: str, after: str, passing: Passing) -> Lines:
    """Let the room decide what becomes of a call, which may call again."""
    yield f"call{n} = Call(func, {passing.args}, {passing.kwargs}, caller)"
    yield f"call{n}.started, call{n}.trace = started, trace"
    yield "try:"
    yield f"{INDENT}result = await {what}"
    yield "finally:"
    yield f"{INDENT}{after}"
    yield f"{INDENT}started, trace = call{n}.started, call{n}.trace"


def deeper(lines: Iterable[str], levels: int = 1) -> Lines:
    """Indent lines."""
    return (INDENT * levels + line for line in lines)


WRITERS = {"guard": _guard, "bound": _bound, "recovering": _recovering}
