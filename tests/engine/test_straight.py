"""Critical sections are straight-line bytecode: no other thread of an interpreter with a GIL comes in between."""

import dis
import itertools

import pytest

from aioresilience.clock import SYSTEM_CLOCK
from aioresilience.pattern import Context
from aioresilience.policy import BUILTIN
from aioresilience.policy.fused import RUN, bind
from aioresilience.policy.shape import shape_of
from aioresilience.straight import STRAIGHT
from tests.contract.stacks import GUARDS, SMALL, key_of

CALLS = ("CALL", "CALL_FUNCTION_EX")
RISKY = ("BUILD_", "MAKE_", "FOR_ITER", "GET_ITER", "BEFORE_WITH", "YIELD", "IMPORT_")


def risks(function):
    steps = [step for step in dis.get_instructions(function) if step.opname not in ("PRECALL", "CACHE")]
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

    def loops(self):
        while self.free:
            self.free -= 1

    assert risks(calls)
    assert risks(loops)


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
    steps = [step for step in dis.get_instructions(code) if step.opname not in ("PRECALL", "CACHE")]
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
        if "JUMP" in step.opname:
            todo.append((places[step.argval], then))
        if step.opname not in ("JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT"):
            todo.append((at + 1, then))


LEAVES = ("RETURN_VALUE", "RAISE_VARARGS", "RERAISE")


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
