"""What a call costs in steps of the interpreter, which no busy machine changes; `make bench` has the nanoseconds."""

from __future__ import annotations

import asyncio
import gc
import runpy
import sys
from pathlib import Path
from types import FrameType

import pytest

from aioresilience import Registry
from benchmarks.call import YAML, rejected

OURS = Path(__file__).parents[2] / "benchmarks" / "requests" / "ours.py"

STEPS = {
    "none": 23, "circuit-breaker": 79, "consecutive": 64, "retry": 69, "timeout": 196, "deadline": 221, "bulkhead": 89,
    "fallback": 39, "rate-limiter": 98, "load-shedder": 86, "backpressure": 94, "adaptive-concurrency": 99,
    "five": 418, "open": 96,
}  # fmt: skip
"""At most so many bytecodes more than the bare call: what it takes today on CPython 3.11 to 3.13, and about a fifth."""

CALLS = {"deadline": 1}
"""Python functions called beside the wrapper and the function itself: none where it does not say so."""


def steps(make) -> tuple[int, int]:
    """Count the bytecodes and the calls of Python functions in one warm call."""
    seen = {"opcode": 0, "call": 0}

    def trace(frame: FrameType, event: str, arg: object):
        frame.f_trace_opcodes = True
        if event in seen:
            seen[event] += 1
        return trace

    async def run() -> None:
        for _ in range(3):
            await make()
        coroutine = make()
        before = sys.gettrace()
        gc.disable()  # it may call functions of others, such as hypothesis's, in the middle of ours
        sys.settrace(trace)
        try:
            coroutine.send(None)
        except StopIteration:
            pass
        finally:
            sys.settrace(before)
            gc.enable()

    asyncio.run(run())
    return seen["opcode"], seen["call"]


async def bare() -> int:
    return 1


REQUESTS = {"bulkhead": 620, "circuit breaker": 600, "load shedder": 665, "breaker and shedder": 710}
"""At most so many bytecodes more than the bare app, for a request through a middleware."""


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_takes_few_steps(name):
    subjects = runpy.run_path(str(OURS))["subjects"](bare)
    alone, _ = steps(subjects["app"])
    taken, _ = steps(subjects[name])
    assert taken - alone <= REQUESTS[name]


@pytest.mark.parametrize("name", STEPS)
def test_a_call_takes_few_steps_and_calls_nothing(name):
    alone, _ = steps(bare)
    registry = Registry.from_text(YAML)
    taken, calls = steps(rejected(registry) if name == "open" else registry.get(name)(bare))
    assert taken - alone <= STEPS[name]
    assert calls - 2 <= CALLS.get(name, 0)
