"""Admissions: entries into a policy's guards and bounds around something that is no function of its own.

`async with policy.admit():` is one; a request that comes in is another, whose outcome is the status of its answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

from aioresilience.bound import Bound, Exit
from aioresilience.calls import Caller, Trace
from aioresilience.clock import Clock
from aioresilience.failures import Judge
from aioresilience.guard import Guard
from aioresilience.pattern import AnyPattern, Context, Repeat, Replace


class _GuardStep:
    """A guard on the way in and out."""

    __slots__ = ("admit", "config", "judge", "note", "pattern", "wait")

    def __init__(self, pattern: Guard, context: Context) -> None:  # type: ignore[type-arg]  # of any config
        self.pattern = pattern
        self.config = pattern.config
        self.judge = pattern.judge(context)
        mode = pattern.mode_in(context)
        self.admit = pattern.admitting(mode)
        self.wait = pattern.entry(mode)
        self.note = pattern.admitted


class _BoundStep:
    """A bound on the way in and out."""

    __slots__ = ("config", "judge", "mode", "pattern")

    def __init__(self, pattern: Bound, context: Context) -> None:  # type: ignore[type-arg]  # of any config
        self.pattern = pattern
        self.config = pattern.config
        self.judge = Judge(context.classify, attempt_timeout=context.attempt_timeout)
        self.mode = pattern.mode_in(context)


class Entrance:
    """What all admissions under the same patterns have in common, made once."""

    __slots__ = ("clock", "skipped", "steps")

    def __init__(self, patterns: Sequence[AnyPattern], context: Context, clock: Clock) -> None:
        self.clock = clock
        active = [pattern for pattern in patterns if pattern.mode_in(context) != "off"]
        self.steps = tuple(step for pattern in active if (step := _step(pattern, context)) is not None)
        self.skipped = tuple(pattern for pattern in patterns if isinstance(pattern, (Repeat, Replace)))
        """What can only run a function again, or answer in its place."""

    def entered(self, caller: Caller) -> tuple[Entrance, Exit | None]:
        """Return where this caller goes in, and what must hear of its end."""
        return self, None

    @property
    def is_current(self) -> bool:
        """Whether no pattern has been retuned since."""
        for step in self.steps:  # noqa: SIM110  # asked for every request; a generator costs as much as an admission
            if step.pattern.config is not step.config:
                return False
        return True


def _step(pattern: AnyPattern, context: Context) -> _GuardStep | _BoundStep | None:
    if isinstance(pattern, Guard):
        return _GuardStep(pattern, context)
    return _BoundStep(pattern, context) if isinstance(pattern, Bound) else None


class Admission:
    """One entry: takes a ticket of every guard, opens every bound, and undoes all of it at the end.

    `enter` and `leave` are for what begins and ends in different functions.
    """

    __slots__ = ("_caller", "_entrance", "_exits", "_started", "_tickets", "_trace")

    def __init__(self, entrance: Entrance, caller: Caller) -> None:
        self._entrance = entrance
        self._caller = caller
        self._tickets: list[tuple[_GuardStep | None, Any]] = []  # without a guard, an Exit
        self._started: float | None = None
        self._trace: Trace = []

    async def enter(self) -> None:
        """Pass every guard, waiting where one makes us wait, or raise the refusal and hold nothing."""
        caller, tickets, trace = self._caller, self._tickets, self._trace
        try:
            entrance, leave = self._entrance.entered(caller)
            if leave is not None:
                tickets.append((None, leave))
            for step in entrance.steps:
                if step.__class__ is _GuardStep:
                    ticket = step.admit(caller)
                    if ticket is None:
                        ticket = await step.wait(caller, trace)
                    if ticket is not None:
                        tickets.append((step, ticket))
                        step.note()
                else:
                    assert isinstance(step, _BoundStep)
                    tickets.append((None, step.pattern.enter(caller, step.mode, step.judge, self._when, trace)))
        except BaseException as error:
            _raise(error, self.leave(error))
            raise
        self._started = entrance.clock.monotonic()

    def _when(self) -> float | None:
        return self._started

    def leave(self, error: BaseException | None = None, result: object = None) -> BaseException | None:
        """Give everything back, once; return the error to raise, which is another one where a bound cut us short.

        A `result` is judged by its status, as `classify` says.
        """
        tickets, started = self._tickets, self._started
        while tickets:
            step, ticket = tickets.pop()
            if step is None:
                error = ticket(error)
            else:
                step.pattern.give(ticket, error, started, step.judge, result)
        return error

    async def __aenter__(self) -> None:
        await self.enter()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _raise(error, self.leave(error))


def _raise(before: BaseException | None, after: BaseException | None) -> None:
    if after is not None and after is not before:
        raise after from before
