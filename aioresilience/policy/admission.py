"""Admissions: entries into a policy's guards and bounds around something that is no function of its own.

`async with policy.admit():` is one; a request that comes in is another, whose outcome is the status of its answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from aioresilience.bound import Bound
from aioresilience.calls import Caller
from aioresilience.clock import Clock
from aioresilience.events import DecisionEvent, EventType
from aioresilience.failures import Judge
from aioresilience.guard import Guard
from aioresilience.modes import enforcer
from aioresilience.pattern import AnyPattern, Context, Repeat, Replace
from aioresilience.scope import Scope


class _GuardStep:
    """A guard on the way in and out."""

    __slots__ = ("admit", "config", "judge", "note", "pattern", "wait")

    def __init__(self, pattern: Guard, context: Context) -> None:  # type: ignore[type-arg]  # of any config
        self.pattern = pattern
        self.config = pattern.config
        self.judge = pattern.judge(context)
        self.admit = pattern.admit
        self.wait = pattern.entry(pattern.mode_in(context))
        self.note = pattern.admitted

    def leave(
        self, ticket: object, error: BaseException | None, started: float | None, result: object
    ) -> BaseException | None:
        self.pattern.give(ticket, error, started, self.judge, result)
        return error


class _BoundStep:
    """A bound on the way in and out."""

    __slots__ = ("_enforced", "config", "judge", "pattern")

    def __init__(self, pattern: Bound, context: Context) -> None:  # type: ignore[type-arg]  # of any config
        self.pattern = pattern
        self.config = pattern.config
        self.judge = Judge(context.classify, attempt_timeout=context.attempt_timeout)
        self._enforced = enforcer(pattern.mode_in(context))

    def admit(self, caller: Caller) -> object | None:
        return self.pattern.take() if self._enforced(caller) else None

    async def wait(self, caller: Caller) -> None:
        """Go on without a bound, which is not enforced."""

    def note(self) -> None:
        """Say nothing: the pattern has counted the call."""

    def leave(
        self, ticket: object, error: BaseException | None, started: float | None, result: object
    ) -> BaseException | None:
        assert isinstance(ticket, Scope)
        return self.pattern.give(ticket, error, started, self.judge, result)


_Step = _GuardStep | _BoundStep


class Entrance:
    """What all admissions under the same patterns have in common, made once."""

    __slots__ = ("clock", "skipped", "steps")

    def __init__(self, patterns: Sequence[AnyPattern], context: Context, clock: Clock) -> None:
        self.clock = clock
        active = [pattern for pattern in patterns if pattern.mode_in(context) != "off"]
        self.steps = tuple(step for pattern in active if (step := _step(pattern, context)) is not None)
        self.skipped = tuple(pattern for pattern in patterns if isinstance(pattern, (Repeat, Replace)))
        """What can only run a function again, or answer in its place."""

    @property
    def is_current(self) -> bool:
        """Whether no pattern has been retuned since."""
        for step in self.steps:  # noqa: SIM110  # asked for every request, and a generator costs as much as an admission
            if step.pattern.config is not step.config:
                return False
        return True

    def tell_skipped(self) -> None:
        """Publish which patterns of the policy do nothing here."""
        for pattern in self.skipped:
            if pattern.listening():
                event = DecisionEvent(
                    pattern.pattern_type, EventType.PATTERN_SKIPPED, pattern.name,
                    policy=pattern.policy, action="skipped",
                )  # fmt: skip
                pattern.events.publish(event)


def _step(pattern: AnyPattern, context: Context) -> _Step | None:
    if isinstance(pattern, Guard):
        return _GuardStep(pattern, context)
    return _BoundStep(pattern, context) if isinstance(pattern, Bound) else None


class Admission:
    """One entry: takes a ticket of every guard, opens every bound, and undoes all of it at the end.

    `enter` and `leave` are for what begins and ends in different functions; both on one task, as far as bounds go.
    """

    __slots__ = ("_caller", "_entered", "_entrance", "started")

    def __init__(self, entrance: Entrance, caller: Caller) -> None:
        self._entrance = entrance
        self._caller = caller
        self._entered: list[tuple[_Step, object]] = []
        self.started: float | None = None
        """When all guards had let it in, on the monotonic clock."""

    async def enter(self) -> None:
        """Pass every guard, waiting where one makes us wait, or raise the refusal and hold nothing."""
        caller, entered = self._caller, self._entered
        try:
            for step in self._entrance.steps:
                ticket = step.admit(caller)
                if ticket is None:
                    ticket = await step.wait(caller)
                    if ticket is None:
                        continue
                entered.append((step, ticket))
                step.note()
        except BaseException as error:
            _raise(error, self.leave(error))
            raise
        self.started = self._entrance.clock.monotonic()

    def leave(self, error: BaseException | None = None, result: object = None) -> BaseException | None:
        """Give everything back, once; return the error to raise, which is another one where a bound cut us short.

        A `result` is judged by its status, as `classify` says.
        """
        entered = self._entered
        while entered:
            step, ticket = entered.pop()
            error = step.leave(ticket, error, self.started, result)
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
