"""Admissions: entries into a policy's guards and bounds around something that is no function of its own.

`async with policy.admit():` is one; a request that comes in is another, whose outcome is the status of its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import IntEnum
from types import TracebackType
from typing import Any

from aioresilience.bound import Bound
from aioresilience.calls import Caller, Exit, Trace
from aioresilience.clock import Clock
from aioresilience.events import audience
from aioresilience.failures import SUCCESS
from aioresilience.guard import Guard
from aioresilience.pattern import AnyPattern, Context
from aioresilience.policy.frame import SOMETIME
from aioresilience.policy.passage import Held, passage
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

    __slots__ = ("clock", "judged", "leads_on", "passage", "skipped", "steps", "timed")

    def __init__(self, patterns: Sequence[AnyPattern], context: Context, clock: Clock) -> None:
        self.clock = clock
        self.leads_on = False
        """Whether each caller has another entrance of its own."""
        active = [pattern for pattern in patterns if pattern.mode_in(context) != "off"]
        self.steps = tuple(step for pattern in active for step in _steps(pattern, context))
        guards = [step for step in self.steps if isinstance(step, _GuardStep)]
        self.judged = frozenset(status for step in guards for status in step.outcomes)
        """The statuses that are not a success to every guard."""
        self.timed = context.attempt_timeout is not None or any(
            step.pattern.reads_start or step.judge.attempt_timeout is not None for step in guards
        )
        """Whether somebody makes something of the instant at which the last guard was passed."""
        self.passage = passage(active, guards, context, clock) if guards == [*self.steps] else None
        self.skipped = tuple(pattern for pattern in patterns if isinstance(pattern, (Repeat, Replace)))
        """What can only run a function again, or answer in its place."""

    def entered(self, caller: Caller) -> tuple[Entrance, Exit | None]:
        """Return where this caller goes in, and what must hear of its end, where `leads_on`."""
        return self, None

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

    `enter` and `leave` are for what begins and ends in different functions; `begin` is `enter` as far as nobody waits,
    `wait` the rest of it. After an error `report` gives an ExceptionConfig its say.
    """

    __slots__ = ("_caller", "_entrance", "_failed", "_started", "_trace", "_waits_at", "held")

    _waits_at: _GuardStep | None

    def __init__(self, entrance: Entrance, caller: Caller) -> None:
        self._entrance = entrance
        self._caller = caller
        self.held: Held | None = None
        self._trace: Trace | None = None
        self._started: float | None = None
        self._failed: tuple[_Failure, ...] = ()

    async def enter(self) -> None:
        """Pass every guard, waiting where one makes us wait, or raise the refusal and hold nothing."""
        if not self.begin():
            await self.wait()

    async def wait(self) -> None:
        """Wait at the guard where `begin` stopped, and pass the rest; or raise the refusal and hold nothing."""
        steps, stop = self._entrance.steps, self._waits_at
        try:
            while stop is not None:
                ticket = await stop.wait(self._caller, self._noted())
                if ticket is not None:
                    self.held = stop, ticket, self.held
                    stop.pattern.admitted()
                stop = self._pass(steps[steps.index(stop) + 1 :])
        except BaseException as error:
            _raise(error, self.leave(error))
            raise
        self._started = self._entrance.clock.monotonic()

    def begin(self) -> bool:
        """Pass the guards that let us in at once; False where one does not, and `wait` has to follow."""
        entrance = self._entrance
        try:
            if entrance.leads_on:
                entrance = self._lead_on()
            passage = None if audience.steady else entrance.passage
            stop = self._pass(entrance.steps) if passage is None else passage.enter(self, self._caller)
        except BaseException as error:
            _raise(error, self.leave(error))
            raise
        if stop is not None:
            self._waits_at = stop
            return False
        self._started = entrance.clock.monotonic() if entrance.timed else SOMETIME
        return True

    def _pass(self, steps: Iterable[_Step]) -> _GuardStep | None:
        """Take one step after the other; return the guard that does not let us in."""
        for step in steps:
            if not isinstance(step, _GuardStep):
                self.held = None, self._open(step), self.held
                continue
            ticket = step.admit(self._caller)
            if ticket is None:
                return step
            self.held = step, ticket, self.held
            if audience.steady and step.pattern.listening():
                step.pattern.tell("admitted")
        return None

    def _lead_on(self) -> Entrance:
        """Find this caller's own entrance, which it goes through from now on."""
        self._entrance, leave = self._entrance.entered(self._caller)
        if leave is not None:
            self.held = None, leave, self.held
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
        while self.held is not None:
            step, ticket, self.held = self.held
            if step is None:
                error = ticket(error)
                continue
            reason = step.pattern.give(ticket, error, self._started, step.judge)
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
        entrance, held = self._entrance, self.held
        plain = not audience.steady and status not in entrance.judged
        if plain and entrance.passage is not None and held is not None:
            self.held = entrance.passage.leave(held, self._started)
        while self.held is not None:
            step, ticket, self.held = self.held
            if step is None:
                ticket(None)
            elif plain:
                step.counts.done += 1
                step.settle(ticket, SUCCESS, self._started)
            else:
                step.pattern.settled(ticket, step.outcomes.get(status, SUCCESS), self._started)

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
