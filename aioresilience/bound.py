"""The kind of pattern that limits a call in time, and the one path through it."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable
from enum import IntEnum
from typing import ClassVar

from aioresilience.calls import Call, Handler
from aioresilience.events import EventType, TimeoutEvent
from aioresilience.exceptions import OperationTimeoutError
from aioresilience.failures import NEUTRAL, Judge
from aioresilience.modes import enforcer
from aioresilience.pattern import ConfigT, Context, Pattern
from aioresilience.scope import Scope, Timeline


class Bound(Pattern[ConfigT]):
    """A pattern that limits how long a call may take; the room gives `limit`, `overrun` and `ended`."""

    is_deadline: ClassVar[bool] = False

    @abstractmethod
    def limit(self, config: ConfigT) -> float:
        """Return the seconds that a call which starts now is granted."""

    @abstractmethod
    def overrun(self, limit: float, elapsed: float) -> OperationTimeoutError:
        """Tell that a call was cut, and build its error."""

    @abstractmethod
    def ended(self, limit: float, elapsed: float) -> None:
        """Tell that a call ended within its time."""

    def answer(self, config: ConfigT, error: OperationTimeoutError, cut: BaseException | None) -> object:
        """Raise the error, or return what stands for it."""
        raise error from cut

    @functools.cached_property
    def timeline(self) -> Timeline:
        """What all scopes of this pattern share, whatever is retuned: one timer per loop."""
        return Timeline(clock=self.clock, is_deadline=self.is_deadline, on_stall=self.stalled)

    def opener(self) -> Callable[[float], Scope]:
        """Return what opens the scope of one call, `limit` seconds long; all of them share one timer per loop."""
        monotonic, line = self.clock.monotonic, self.timeline

        def open_scope(limit: float) -> Scope:
            scope = Scope(monotonic() + limit, limit, line)
            scope.enter()
            return scope

        return open_scope

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
        config, judge = self.config, Judge(context.classify, attempt_timeout=context.attempt_timeout)
        enforced, open_scope = enforcer(self.mode_in(context)), self.opener()

        async def bounded(call: Call) -> object:
            self.counts.started += 1
            limit = self.limit(config)
            if not enforced(call.caller):
                return await self.watch(inner, call, limit)
            if limit <= 0:
                return await self.refuse(config, limit)
            scope = open_scope(limit)
            try:
                result = await inner(call)
            except BaseException as error:
                return await self.failed(scope, limit, error, call.started, config, judge)
            scope.leave(None)
            self.counts.succeeded += 1
            self.ended(limit, self.clock.monotonic() - scope.when + limit)
            return result

        return bounded

    async def failed(
        self, scope: Scope, limit: float, error: BaseException, started: float | None, config: ConfigT, judge: Judge
    ) -> object:
        """Leave the scope of a call that raised: raise its error, or what became of a call that the scope cut."""
        try:
            if not scope.leave(error):
                self.counts.settle(judge.of_error(error, started))
                raise error
            timed_out = self.cut(scope, limit)
            timed_out.neutral = judge.of_cut(scope, started) is NEUTRAL
            timed_out.__cause__ = error  # a thread that runs on is found by it
            try:
                await self.report(timed_out)
                return self.answer(config, timed_out, error)
            finally:
                del timed_out
        finally:
            del error  # this frame is in its traceback, and must not keep it alive

    async def refuse(self, config: ConfigT, limit: float) -> object:
        """Cut a call before it starts: its time was over before."""
        self.counts.neutral += 1
        timed_out = self.overrun(limit, 0.0)
        timed_out.policy, timed_out.neutral = self.policy, True
        await self.report(timed_out)
        return self.answer(config, timed_out, None)

    async def report(self, timed_out: OperationTimeoutError) -> None:
        """Give the ExceptionConfig its say."""
        if isinstance(timed_out.reason, IntEnum):
            await self.hand_over(timed_out.reason, timed_out, str(timed_out), **timed_out.metadata)

    def cut(self, scope: Scope, limit: float) -> OperationTimeoutError:
        """Count a call that its scope cut, and build its error."""
        self.counts.failed += 1
        error = self.overrun(limit, self.clock.monotonic() - scope.when + limit)
        error.policy = self.policy
        return error

    def take(self) -> Scope:
        """Open a scope outside of `layer`, for admissions; raises where no time is left."""
        limit = self.limit(self.config)
        self.counts.started += 1
        if limit <= 0:
            self.counts.neutral += 1
            late = self.overrun(limit, 0.0)
            late.policy, late.neutral = self.policy, True
            raise late
        scope = Scope(self.clock.monotonic() + limit, limit, self.timeline)
        scope.enter()
        return scope

    def give(
        self, scope: Scope, error: BaseException | None, started: float | None, judge: Judge, result: object = None
    ) -> BaseException | None:
        """Close what `take` opened; return what to raise."""
        limit = scope.duration
        if scope.leave(error):
            timed_out = self.cut(scope, limit)
            timed_out.neutral = judge.of_cut(scope, started) is NEUTRAL
            timed_out.__cause__ = error  # a thread that runs on is found by it
            return timed_out
        self.counts.settle(judge.of_end(error, started, result))
        if error is None:
            self.ended(limit, self.clock.monotonic() - scope.when + limit)
        return error

    async def watch(self, inner: Handler, call: Call, limit: float) -> object:
        """Let a call run as long as it takes; report when enforcing would have cut it."""
        begun = self.clock.monotonic()
        try:
            result = await inner(call)
        except BaseException:
            self.counts.neutral += 1
            raise
        finally:
            elapsed = self.clock.monotonic() - begun
            if elapsed > limit:
                self.counts.observed += 1
                if self.listening():
                    self.decided("would_cut", waited=elapsed)
        self.counts.succeeded += 1
        return result
