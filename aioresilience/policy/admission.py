"""`async with policy.admit():` for code that is no function of its own: guards and bounds only."""

from __future__ import annotations

from types import TracebackType

from aioresilience.bound import Bound, Exit
from aioresilience.calls import Caller, Trace
from aioresilience.clock import Clock
from aioresilience.failures import Judge
from aioresilience.guard import Guard
from aioresilience.pattern import AnyPattern
from aioresilience.policy.snapshot import Snapshot


class Admission:
    """One entry into a policy: takes a ticket of every guard, opens every bound, and undoes all of it at the end."""

    __slots__ = ("_caller", "_clock", "_exits", "_snapshot", "_started", "_trace")

    def __init__(self, snapshot: Snapshot, caller: Caller, clock: Clock) -> None:
        self._snapshot = snapshot
        self._caller = caller
        self._clock = clock
        self._exits: list[Exit] = []
        self._started: float | None = None
        self._trace: Trace = []

    async def __aenter__(self) -> None:
        try:
            self._snapshot, leave = self._snapshot.entered(self._caller)
            if leave is not None:
                self._exits.append(leave)
            for pattern in self._snapshot.patterns:
                await self._enter(pattern)
        except BaseException as error:
            self._raise(error, self._leave(error))
            raise
        self._started = self._clock.monotonic()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._raise(error, self._leave(error))

    async def _enter(self, pattern: AnyPattern) -> None:
        mode = pattern.mode_in(self._snapshot.context)
        if mode == "off":
            return
        if isinstance(pattern, Guard):
            ticket = await pattern.take(self._caller, mode, self._trace)
            if ticket is not None:
                self._exits.append(self._exit_guard(pattern, ticket))
        elif isinstance(pattern, Bound):
            judge = self._judge(pattern)
            self._exits.append(pattern.enter(self._caller, mode, judge, lambda: self._started, self._trace))

    def _judge(self, pattern: AnyPattern) -> Judge:
        context = self._snapshot.context
        if isinstance(pattern, Guard):
            return pattern.judge(context)
        return Judge(context.classify, attempt_timeout=context.attempt_timeout)

    def _exit_guard(self, pattern: Guard, ticket: object) -> Exit:  # type: ignore[type-arg]  # of any config
        judge = self._judge(pattern)

        def leave(error: BaseException | None) -> BaseException | None:
            pattern.give(ticket, error, self._started, judge)
            return error

        return leave

    def _leave(self, error: BaseException | None) -> BaseException | None:
        while self._exits:
            error = self._exits.pop()(error)
        return error

    @staticmethod
    def _raise(before: BaseException | None, after: BaseException | None) -> None:
        if after is not None and after is not before:
            raise after from before
