"""What a call costs in steps of the interpreter, which no busy machine changes; `make bench` has the nanoseconds."""

from __future__ import annotations

import asyncio
import sys
from types import FrameType

import pytest

from aioresilience import Registry
from benchmarks.call import YAML

STEPS = {
    "none": 23, "circuit-breaker": 90, "consecutive": 75, "retry": 76, "timeout": 200, "deadline": 225, "bulkhead": 98,
    "fallback": 47, "rate-limiter": 140, "load-shedder": 95, "backpressure": 102, "adaptive-concurrency": 108,
    "five": 450,
}  # fmt: skip
"""At most so many bytecodes more than the bare call: what it takes today and about a fifth."""

CALLS = {"rate-limiter": 1, "deadline": 2, "five": 1}
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
        sys.settrace(trace)
        try:
            coroutine.send(None)
        except StopIteration:
            pass
        finally:
            sys.settrace(before)

    asyncio.run(run())
    return seen["opcode"], seen["call"]


async def bare() -> int:
    return 1


@pytest.mark.parametrize("name", STEPS)
def test_a_call_takes_few_steps_and_calls_nothing(name):
    alone, _ = steps(bare)
    taken, calls = steps(Registry.from_text(YAML).get(name)(bare))
    slack = 1.0 if sys.version_info[:2] == (3, 11) else 1.5  # what was counted is CPython 3.11
    assert taken - alone <= STEPS[name] * slack
    assert calls - 2 <= CALLS.get(name, 0)
