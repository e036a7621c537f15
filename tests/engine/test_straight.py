"""Critical sections are straight-line bytecode: no other thread of an interpreter with a GIL comes in between."""

import ctypes
import dis
import itertools
import signal

import pytest

from aioresilience.clock import SYSTEM_CLOCK
from aioresilience.pattern import Context
from aioresilience.policy import BUILTIN
from aioresilience.policy.fused import RUN, bind
from aioresilience.policy.shape import shape_of
from aioresilience.straight import STRAIGHT
from tests.contract.stacks import GUARDS, SMALL, key_of

CALLS = ("CALL", "CALL_KW", "CALL_FUNCTION_EX")
RISKY = ("BUILD_", "MAKE_", "FOR_ITER", "GET_ITER", "GET_AWAITABLE", "BEFORE_WITH", "SEND", "YIELD", "IMPORT_")
JUMPS = {*dis.hasjrel, *dis.hasjabs}
LEAVES = ("RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE")


def steps_of(code):
    return [step for step in dis.get_instructions(code) if step.opname not in ("PRECALL", "CACHE")]


def risks(function):
    steps = steps_of(function)
    found = [step.opname for step in steps if is_risk(step.opname) and step.opname not in CALLS]
    places = {step.offset: number for number, step in enumerate(steps)}
    for step, after in itertools.pairwise(steps):
        if after.opname == "JUMP_FORWARD":
            after = steps[places[after.argval]]
        if step.opname in CALLS and after.opname != "RETURN_VALUE":
            found.append(f"{step.opname}, and then {after.opname}")
    return found


@pytest.mark.parametrize("function", STRAIGHT, ids=lambda function: function.__qualname__)
def test_a_straight_section_calls_nothing_but_as_its_last_act(function):
    assert risks(function) == []


def test_what_could_be_interrupted_is_seen():
    def calls(self):
        self.free -= len(self.line)

    def calls_by_name(self):
        self.free -= self.line(key=1)

    def loops(self):
        while self.free:
            self.free -= 1

    async def waits(self):
        self.free = self.free - await self.line

    def branches(self):
        free = self.free
        for _ in self.line:
            pass
        self.free = free - 1

    assert risks(calls)
    assert risks(calls_by_name)
    assert risks(loops)
    for function in (calls, calls_by_name, waits, branches):
        assert [path for name, path in changes(function.__code__) if name == "free" and path], function


class Section:
    """Rings the alarm for itself, and notes at its end whether the interpreter has looked at it by then."""

    def __init__(self):
        self.rung = self.seen = False
        self.free, self.line, self.key = 1.5, {"key": 1}, "key"

    def ring(self, *_):
        self.rung = True

    def straight(self, alarm, number, when):
        nothing = alarm - number
        self.line[self.key] = when
        if self.key in self.line and nothing is not None:
            if NEVER or self.free < self.line[self.key]:
                self.free += 1
                now = when
            else:
                now = nothing
            self.line[self.key] = now + 2
        self.seen = self.rung

    def calling(self, alarm, number, when):
        alarm - number
        max(number, 1)
        self.seen = self.rung

    def looping(self, alarm, number, when):
        alarm - number
        while when:
            when = None
            if self.free:
                continue
        self.seen = self.rung


NEVER = None


class Alarm:
    """Subtract a signal from it, and it has come: in C, so that the interpreter has nowhere to look yet."""

    __sub__ = ctypes.pythonapi.PyErr_SetInterruptEx


@pytest.mark.parametrize(("section", "seen"), [("straight", False), ("calling", True), ("looping", True)])
def test_the_interpreter_looks_for_others_at_calls_and_backward_jumps_only(section, seen):
    """It looks for signals where it lets other threads in."""
    work = Section()
    before = signal.signal(signal.SIGINT, work.ring)
    try:
        for _ in range(50):  # specialized by then
            work.rung = False
            getattr(work, section)(Alarm(), signal.SIGINT, 2.5)
            assert work.seen is seen
        assert work.rung, "it was never looked for"
    finally:
        signal.signal(signal.SIGINT, before)


def test_straight_sections_consist_of_nothing_else():
    tried = {step.opname for step in steps_of(Section.straight)}
    used = {step.opname for function in STRAIGHT for step in steps_of(function)}
    assert {name for name in used - tried if "JUMP_IF" not in name} <= {*CALLS, *LEAVES, "LOAD_METHOD"}
    assert "JUMP_FORWARD" in used
    assert all("BACKWARD" not in name for name in used)


def test_every_machine_has_its_sections_marked():
    marked = {function.__qualname__ for function in STRAIGHT}
    assert {
        "BulkheadMachine.try_take", "BulkheadMachine.release", "LoadMachine.try_take", "LoadMachine.try_give",
        "BackpressureMachine.try_enter", "BackpressureMachine.leave", "AimdMachine.try_take", "AimdMachine.try_end",
        "Gcra.take", "Meter.take", "Budget.deposit", "TimerQueue.add",
    } <= marked  # fmt: skip


def frame_of(cls):
    pattern = cls(name="p", config=cls.config_type(**SMALL[cls.key]))
    shape = shape_of([pattern], Context(), SYSTEM_CLOCK)
    whole = bind(shape, RUN).__code__
    return next(code for code in whole.co_consts if getattr(code, "co_name", "") == "run")


def changes(code):
    """Return each attribute that is read and written back, with what the frame does on every path in between."""
    steps = steps_of(code)
    places = {step.offset: number for number, step in enumerate(steps)}
    for start, step in enumerate(steps):
        if step.opname == "LOAD_ATTR":
            for path in paths(steps, places, start + 1, step.argval):
                yield step.argval, path


def paths(steps, places, at, name):
    """Follow the code from a read of the attribute until it is written, leaving out what reads it anew or leaves."""
    todo, seen = [(at, ())], set()
    while todo:
        at, path = todo.pop()
        step = steps[at]
        if step.opname == "STORE_ATTR" and step.argval == name:
            yield path
            continue
        if (at, path) in seen or (step.argval == name and step.opname == "LOAD_ATTR") or step.opname in LEAVES:
            continue
        seen.add((at, path))
        then = (step.opname,) if is_risk(step.opname) and not path else path
        if step.opcode in JUMPS:
            todo.append((places[step.argval], then))
        if step.opname not in ("JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT"):
            todo.append((at + 1, then))


def is_risk(name):
    return name in CALLS or name.startswith(RISKY) or "BACKWARD" in name


@pytest.mark.parametrize("cls", GUARDS, ids=key_of)
def test_written_out_in_the_frame_of_a_policy_they_are_as_straight(cls):
    seen = list(changes(frame_of(cls)))
    assert {name for name, _ in seen} >= {"succeeded"}
    assert [(name, path) for name, path in seen if path] == []


def test_every_guard_of_this_library_goes_through_the_frame():
    for cls in BUILTIN:
        pattern = cls(name="p", config=cls.config_type(**SMALL[cls.key]))
        assert shape_of([pattern], Context(), SYSTEM_CLOCK) is not None, cls.key
