"""Admissions: entries into a policy's guards and bounds around something that is no function of its own.

`async with policy.admit():` is one; a request that comes in is another, whose outcome is the status of its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from types import TracebackType
from typing import Any, ClassVar

from aioresilience.bound import Bound
from aioresilience.calls import Caller, Exit, Trace
from aioresilience.clock import Clock
from aioresilience.events import audience
from aioresilience.failures import SUCCESS
from aioresilience.guard import Guard
from aioresilience.pattern import AnyPattern, Context
from aioresilience.recovering import Repeat, Replace


class _GuardStep:
    """A guard on the way in and out; what is asked of it for every call is looked up once."""

    __slots__ = ("admit", "config", "counts", "judge", "outcomes", "pattern", "settle", "wait")

    def __init__(self, pattern: Guard, context: Context) -> None:  # type: ignore[type-arg]  # of any config
        self.pattern = pattern
        self.config = pattern.config
        self.judge = pattern.judge(context)
        classify = self.judge.classify
        self.outcomes = {status: classify.of_status(status) for status in classify.statuses}
        mode = pattern.mode_in(context)
        self.admit = pattern.admitting(mode)
        self.settle = pattern.settle
        self.counts = pattern.counts
        self.wait = pattern.entry(mode)


class _BoundStep:
    """A bound on the way in and out."""

    __slots__ = ("config", "judge", "mode", "pattern")

    def __init__(self, pattern: Bound, context: Context) -> None:  # type: ignore[type-arg]  # of any config
        self.pattern = pattern
        self.config = pattern.config
        self.judge = context.judge()
        self.mode = pattern.mode_in(context)


class _LimitStep:
    """The bound in time that a guard sets itself to what it has admitted."""

    __slots__ = ("config", "open", "pattern")

    def __init__(self, pattern: Guard, limit: Callable[[Caller, Trace], Exit]) -> None:  # type: ignore[type-arg]
        self.pattern = pattern
        self.config = pattern.config
        self.open = limit


_Failure = tuple[Guard[Any], IntEnum, BaseException]
_Step = _GuardStep | _BoundStep | _LimitStep


class Entrance:
    """What all admissions under the same patterns have in common, made once."""

    __slots__ = ("clock", "skipped", "steps")

    leads_on: ClassVar[bool] = False
    """Whether each caller has another entrance of its own."""

    def __init__(self, patterns: Sequence[AnyPattern], context: Context, clock: Clock) -> None:
        self.clock = clock
        active = [pattern for pattern in patterns if pattern.mode_in(context) != "off"]
        self.steps = tuple(step for pattern in active for step in _steps(pattern, context))
        self.skipped = tuple(pattern for pattern in patterns if isinstance(pattern, (Repeat, Replace)))
        """What can only run a function again, or answer in its place."""

    def entered(self, caller: Caller) -> tuple[Entrance, Exit | None]:
        """Return where this caller goes in, and what must hear of its end, where `leads_on`."""
        return self, None

    @property
    def is_current(self) -> bool:
        """Whether no pattern has been retuned since."""
        for step in self.steps:  # noqa: SIM110  # asked for every request; a generator costs as much as an admission
            if step.pattern.config is not step.config:
                return False
        return True


def _steps(pattern: AnyPattern, context: Context) -> Iterator[_Step]:
    if isinstance(pattern, Bound):
        yield _BoundStep(pattern, context)
    if isinstance(pattern, Guard):
        yield _GuardStep(pattern, context)
        limit = pattern.bound(context)
        if limit is not None:
            yield _LimitStep(pattern, limit)


class Admission:
    """One entry: takes a ticket of every guard, opens every bound, and undoes all of it at the end.

    `enter` and `leave` are for what begins and ends in different functions; `begin` is `enter` as far as nobody waits.
    After an error `report` gives an ExceptionConfig its say.
    """

    __slots__ = ("_caller", "_entrance", "_failed", "_rest", "_started", "_tickets", "_trace", "_waits_at")

    def __init__(self, entrance: Entrance, caller: Caller) -> None:
        self._entrance = entrance
        self._caller = caller
        self._tickets: list[tuple[_GuardStep | None, Any]] = []  # without a guard, an Exit
        self._rest: Iterator[_Step] | None = None
        self._waits_at: _GuardStep | None = None
        self._trace: Trace | None = None
        self._started: float | None = None
        self._failed: tuple[_Failure, ...] = ()

    async def enter(self) -> None:
        """Pass every guard, waiting where one makes us wait, or raise the refusal and hold nothing."""
        while not self.begin():
            step, self._waits_at = self._waits_at, None
            assert step is not None
            try:
                ticket = await step.wait(self._caller, self._noted())
            except BaseException as error:
                _raise(error, self.leave(error))
                raise
            if ticket is not None:
                self._tickets.append((step, ticket))
                step.pattern.admitted()

    def begin(self) -> bool:
        """Pass the guards that let us in at once; False where one does not, and `enter` has to wait or to refuse."""
        entrance, caller, tickets, rest = self._entrance, self._caller, self._tickets, self._rest
        if self._waits_at is not None:
            return False
        try:
            if rest is None:
                if entrance.leads_on:
                    entrance = self._lead_on()
                rest = iter(entrance.steps)
            for step in rest:
                if not isinstance(step, _GuardStep):
                    tickets.append((None, self._open(step)))
                    continue
                ticket = step.admit(caller)
                if ticket is None:
                    self._rest, self._waits_at = rest, step
                    return False
                tickets.append((step, ticket))
                if audience.steady and step.pattern.listening():
                    step.pattern.tell("admitted")
        except BaseException as error:
            _raise(error, self.leave(error))
            raise
        self._started = entrance.clock.monotonic()
        return True

    def _lead_on(self) -> Entrance:
        """Return this caller's own entrance, which it goes through from now on."""
        self._entrance, leave = self._entrance.entered(self._caller)
        if leave is not None:
            self._tickets.append((None, leave))
        return self._entrance

    def _open(self, step: _BoundStep | _LimitStep) -> Exit:
        if isinstance(step, _LimitStep):
            return step.open(self._caller, self._noted())
        return step.pattern.enter(self._caller, step.mode, step.judge, self._when, self._noted())

    def _noted(self) -> Trace:
        if self._trace is None:
            self._trace = []
        return self._trace

    def _when(self) -> float | None:
        return self._started

    def leave(self, error: BaseException | None = None) -> BaseException | None:
        """Give everything back, once; return the error to raise, which is another one where a bound cut us short."""
        tickets, started = self._tickets, self._started
        while tickets:
            step, ticket = tickets.pop()
            if step is None:
                error = ticket(error)
                continue
            reason = step.pattern.give(ticket, error, started, step.judge)
            if error is not None and reason is not None and step.pattern.handler is not None:
                self._failed += ((step.pattern, reason, error),)
        return error

    async def report(self) -> None:
        """Give the guards' ExceptionConfigs their say about what `leave` was told; raise what they make of it."""
        failed, self._failed = self._failed, ()
        for pattern, reason, error in failed:
            await pattern.report_failure(reason, error)

    def answered(self, status: int) -> None:
        """Give everything back, once; the outcome is the status of what was answered, as `classify` says."""
        tickets, started = self._tickets, self._started
        while tickets:
            step, ticket = tickets.pop()
            if step is None:
                ticket(None)
                continue
            outcome = step.outcomes.get(status, SUCCESS)
            if outcome is not SUCCESS or (audience.steady and step.pattern.listening()):
                step.pattern.settled(ticket, outcome, started)
            else:
                step.counts.done += 1
                step.settle(ticket, SUCCESS, started)

    async def __aenter__(self) -> None:
        await self.enter()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        left = self.leave(error)
        await self.report()
        _raise(error, left)


def _raise(before: BaseException | None, after: BaseException | None) -> None:
    if after is not None and after is not before:
        raise after from before
