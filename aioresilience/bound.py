"""The kind of pattern that limits a call in time, and the one path through it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from enum import IntEnum
from typing import ClassVar

from aioresilience import callables
from aioresilience.calls import Call, Caller, Exit, Handler, Trace
from aioresilience.events import EventType, TimeoutEvent
from aioresilience.exceptions import OperationTimeoutError
from aioresilience.failures import NEUTRAL, SUCCESS, Judge
from aioresilience.modes import Mode
from aioresilience.pattern import ConfigT, Context, Pattern
from aioresilience.scope import Scope, Timeline


class Bound(Pattern[ConfigT]):
    """A pattern that limits how long a call may take; the room gives `granted`, `limit`, `overrun` and `ended`."""

    is_deadline: ClassVar[bool] = False

    @abstractmethod
    def granted(self, config: ConfigT) -> float:
        """Return the seconds that the config grants a call."""

    @abstractmethod
    def limit(self, granted: float) -> float:
        """Return the seconds that a call which starts now has of those granted."""

    @abstractmethod
    def overrun(self, limit: float, elapsed: float) -> OperationTimeoutError:
        """Tell that a call was cut, and build its error."""

    @abstractmethod
    def ended(self, limit: float, elapsed: float) -> None:
        """Tell that a call ended within its time."""

    def raises(self, config: ConfigT) -> bool:
        """Tell whether `answer` always raises."""
        return True

    def answer(self, config: ConfigT, error: OperationTimeoutError, cut: BaseException | None) -> object:
        """Raise the error, or return what stands for it."""
        raise error from cut

    _timeline: Timeline | None = None

    @property
    def timeline(self) -> Timeline:
        """What all scopes of this pattern share, whatever is retuned: one timer per loop."""
        if self._timeline is None:
            self._timeline = Timeline(clock=self.clock, is_deadline=self.is_deadline, on_stall=self.stalled)
        return self._timeline

    @timeline.setter
    def timeline(self, timeline: Timeline) -> None:
        self._timeline = timeline

    @property
    def is_common(self) -> bool:
        """Whether calls go the path of every bound."""
        return type(self).layer is Bound.layer

    def stalled(self, late: float) -> None:
        """Tell that the loop stood still, so that the timer was `late` seconds late."""
        if self.listening():
            event = TimeoutEvent(self.pattern_type, EventType.LOOP_STALLED, self.name, elapsed=late)
            self.events.publish(event)

    def layer(self, inner: Handler, context: Context) -> Handler:
        """Open a scope, call, leave it: the one path through every bound."""
        config, judge = self.config, context.judge()
        enforced, granted, line = self.enforcing(self.mode_in(context)), self.granted(config), self.timeline

        async def bounded(call: Call) -> object:
            limit = self.limit(granted)
            if not enforced(call.caller):
                return await self.watch(inner, call, limit)
            if limit <= 0:
                return await self.refuse(config, limit, call.trace)
            scope = line.open(limit)
            try:
                result = await inner(call)
            except BaseException as error:
                if not self.was_cut(scope, error, call.started, judge):
                    raise
                answer = await self.failed(scope, limit, error, call.started, config, judge, call.trace)
                call.worker = callables.unfinished_worker(error)
                return answer
            scope.leave(None)
            self.counts.done += 1
            self.ended(limit, self.clock.monotonic() - scope.opened)
            return result

        return bounded

    def was_cut(self, scope: Scope, error: BaseException, started: float | None, judge: Judge) -> bool:
        """Leave the scope of a call that raised; tell whether the scope cut it, else count how it ended."""
        if scope.leave(error):
            return True
        self.counts.settle(judge.of_error(error, started))
        return False

    async def failed(
        self, scope: Scope, limit: float, error: BaseException, started: float | None, config: ConfigT, judge: Judge,
        trace: Trace | None,
    ) -> object:  # fmt: skip
        """Raise what became of a call that its scope cut, or return what stands for it."""
        try:
            timed_out = self.cut(scope, limit, judge.of_cut(scope, started) is NEUTRAL, trace)
            timed_out.__cause__ = error  # a thread that runs on is found by it
            try:
                await self.report(timed_out)
                return self.answer(config, timed_out, error)
            finally:
                del timed_out
        finally:
            del error  # this frame is in its traceback, and must not keep it alive

    async def refuse(self, config: ConfigT, limit: float, trace: Trace | None) -> object:
        """Cut a call before it starts: its time was over before."""
        timed_out = self.late(limit, trace)
        await self.report(timed_out)
        return self.answer(config, timed_out, None)

    async def report(self, timed_out: OperationTimeoutError) -> None:
        """Give the ExceptionConfig its say."""
        if isinstance(timed_out.reason, IntEnum):
            await self.hand_over(timed_out.reason, timed_out, str(timed_out), **timed_out.metadata)

    def late(self, limit: float, trace: Trace | None) -> OperationTimeoutError:
        """Count a call whose time was over before it started, and build its error."""
        self.counts.neutral += 1
        return self._overrun(limit, 0.0, True, trace)

    def cut(self, scope: Scope, limit: float, neutral: bool, trace: Trace | None) -> OperationTimeoutError:
        """Count a call that its scope cut, and build its error."""
        self.counts.failed += 1
        return self._overrun(limit, self.clock.monotonic() - scope.opened, neutral, trace)

    def _overrun(self, limit: float, elapsed: float, neutral: bool, trace: Trace | None) -> OperationTimeoutError:
        error = self.overrun(limit, elapsed)
        error.policy, error.neutral, error.waited = self.policy, neutral, elapsed
        if trace:
            error.earlier = tuple(trace)
        self.decided(error)
        return error

    def enter(
        self, caller: Caller, mode: Mode, judge: Judge, started: Callable[[], float | None], trace: Trace
    ) -> Exit:
        """Open a scope outside of `layer`, for context managers; what is returned closes it and says what to raise."""
        limit = self.limit(self.granted(self.config))
        if not self.enforcing(mode)(caller):
            return self._watched(limit, trace)
        if limit <= 0:
            raise self.late(limit, trace)
        scope = self.timeline.open(limit)

        def leave(error: BaseException | None) -> BaseException | None:
            if scope.leave(error):
                timed_out = self.cut(scope, limit, judge.of_cut(scope, started()) is NEUTRAL, trace)
                timed_out.__cause__ = error  # a thread that runs on is found by it
                return timed_out
            self.counts.settle(SUCCESS if error is None else judge.of_error(error, started()))
            return error

        return leave

    async def watch(self, inner: Handler, call: Call, limit: float) -> object:
        """Let a call run as long as it takes; report when enforcing would have cut it."""
        leave = self._watched(limit, call.noted())
        try:
            result = await inner(call)
        except BaseException as error:
            leave(error)
            raise
        leave(None)
        return result

    def _watched(self, limit: float, trace: Trace) -> Exit:
        begun = self.clock.monotonic()

        def leave(error: BaseException | None) -> BaseException | None:
            elapsed = self.clock.monotonic() - begun
            if elapsed > limit:
                self.counts.observed += 1
                self.decide(trace, "would_cut", waited=elapsed)
            self.counts.settle(SUCCESS if error is None else NEUTRAL)
            return error

        return leave
