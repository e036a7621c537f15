"""The kind of pattern that admits and settles, and the one path through it."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from enum import IntEnum
from typing import ClassVar

from aioresilience import callables
from aioresilience.calls import Call, Caller, Exit, Handler, Trace
from aioresilience.events import ResilienceEvent, audience
from aioresilience.exceptions import RejectionError
from aioresilience.failures import FAILURE, SUCCESS, Judge, Outcome
from aioresilience.forks import held_at_forks
from aioresilience.modes import Gradual, Mode
from aioresilience.pattern import ConfigT, Context, Pattern

_keeping = threading.RLock()
held_at_forks(_keeping)


class Guard(Pattern[ConfigT]):
    """A pattern that decides whether a call may start, and learns how it ended.

    A room gives `admit`, `refusal` and `settle`, all plain calls; `wait` where it can queue. `holds` says that a
    ticket stands for room that a function still occupies when only its caller is gone.
    """

    refuses = True
    holds: ClassVar[bool] = False
    admits_observed: ClassVar[bool] = True
    """Whether a call that may turn out to be observed is asked for by `admit` like any other."""
    told: ClassVar[frozenset[str]] = frozenset({"admitted", "succeeded"})
    """The moments of a call that goes well of which `fact` may make an event."""
    error_type: ClassVar[type[RejectionError]]
    kept: int = 0
    """Places of calls that are counted already, whose thread or result goes on."""

    @abstractmethod
    def admit(self, caller: Caller) -> object | None:
        """Return a ticket if the call may start now, else None and change nothing."""

    @abstractmethod
    def refusal(self, caller: Caller) -> RejectionError:
        """Say why a call is refused now."""

    @abstractmethod
    def settle(self, ticket: object, outcome: Outcome, started: float | None) -> IntEnum | None:
        """Take the ticket back; return why a failed call failed, for the callbacks. Must not raise."""

    def mode_in(self, context: Context) -> Mode:
        """Return the pattern's own mode, else the policy's."""
        return context.modes.get(self.key) or self.config.mode or context.mode

    def admitting(self, mode: Mode) -> Callable[[Caller], object | None]:
        """Return what is asked first in that mode."""
        return self.admit if mode == "enforce" or self.admits_observed else _nobody

    def was_delayed(self, ticket: object) -> bool:
        """Tell whether the call waited for its ticket, rather than for the decision."""
        return True

    def outlive(self, ticket: object) -> object:
        """Return the ticket under which a thread keeps its room when the caller is gone."""
        return ticket

    @property
    def reads_start(self) -> bool:
        """Whether `settle` makes something of the instant at which the function started."""
        return False

    @property
    def waits(self) -> bool:
        """Whether a call that is refused now may wait."""
        return False

    async def wait(self, caller: Caller) -> object:
        """Wait for a ticket, or raise the refusal; whatever cuts the wait leaves nothing behind."""
        raise self.refusal(caller)

    def judge(self, context: Context) -> Judge:
        """Return how this pattern tells failures from successes."""
        return context.judge()

    def bound(self, context: Context) -> Callable[[Caller, Trace], Exit] | None:
        """Return what limits an admitted call in time outside of `layer`, None where nothing does."""
        return None

    def fact(self, moment: str, error: BaseException | None = None) -> ResilienceEvent | None:
        """Build the event of a moment: admitted, succeeded, failed, neutral, rejected; None for no event."""
        return None

    def failure_details(self) -> Mapping[str, object]:
        """Return what callbacks get to know about a failed call."""
        return {}

    def layer(self, inner: Handler, context: Context) -> Handler:
        """Admit, call, settle: the one path through every guard."""
        settle, counts, mode = self.settle, self.counts, self.mode_in(context)
        judge, handler = self.judge(context), self.handler
        judge_result = judge.classify.of_result if judge.classify.reads_results else None
        admit, enter, holds = self.admitting(mode), self.entry(mode), self.holds
        lasting = holds and context.lasting

        async def guarded(call: Call) -> object:
            ticket = admit(call.caller)
            if ticket is None:
                ticket = await enter(call.caller, call.noted())
                if ticket is None:
                    return await inner(call)
            if audience.steady and self.listening():
                self.tell("admitted")
            try:
                result = await inner(call)
            except BaseException as error:
                reason = self.settle_error(ticket, error, call.started, judge)
                if handler is not None:
                    await self.report_failure(reason, error)
                raise
            if judge_result is None:
                outcome = SUCCESS
                counts.done += 1
            else:
                outcome = judge_result(result)
                counts.settle(outcome)
            if holds and call.worker is not None:
                self._keep(call.worker, ticket, outcome, call.started)
            elif not (lasting and self._lasts(call, result, ticket, outcome)):
                settle(ticket, outcome, call.started)
            if audience.steady and self.listening():
                self.tell(moment_of(outcome))
            return result

        return guarded

    def _keep(self, worker: callables.Worker, ticket: object, outcome: Outcome, started: float | None) -> None:
        """Settle at the end of a thread that still occupies the room."""
        worker.when_done(self._keeping(ticket, outcome, started))

    def _keeping(self, ticket: object, outcome: Outcome, started: float | None) -> Callable[[], None]:
        """Keep the room of a call that is counted already; return what settles it."""
        kept = self.outlive(ticket)
        with _keeping:
            self.kept += 1

        def end() -> None:
            with _keeping:
                self.kept -= 1
            self.settle(kept, outcome, started)

        return end

    def _lasts(self, call: Call, result: object, ticket: object, outcome: Outcome) -> bool:
        """Keep the room of a call whose result is still open until that is closed; False for any other."""
        exchange = call.caller.exchange
        if exchange is None:
            return False
        end = self._keeping(ticket, outcome, call.started)
        if not exchange.when_closed(result, end):
            end()
        return True

    async def take(self, caller: Caller, mode: Mode = "enforce", trace: Trace | None = None) -> object | None:
        """Admit a call outside of `layer`, for context managers; None lets it go on uncharged."""
        ticket = self.admitting(mode)(caller)
        if ticket is None:
            ticket = await self.entry(mode)(caller, [] if trace is None else trace)
        if ticket is not None:
            self.admitted()
        return ticket

    def admitted(self) -> None:
        """Tell that a call was let in."""
        if self.listening():
            self.tell("admitted")

    def give(self, ticket: object, error: BaseException | None, started: float | None, judge: Judge) -> IntEnum | None:
        """Settle what `take` admitted; return why it failed, for the callbacks."""
        if error is not None:
            return self.settle_error(ticket, error, started, judge)
        self.settled(ticket, SUCCESS, started)
        return None

    def settled(self, ticket: object, outcome: Outcome, started: float | None) -> None:
        """Settle a call that came back; count and tell how."""
        self.counts.settle(outcome)
        self.settle(ticket, outcome, started)
        if self.listening():
            self.tell(moment_of(outcome))

    def settle_error(self, ticket: object, error: BaseException, started: float | None, judge: Judge) -> IntEnum | None:
        """Settle a call that raised; room that a thread still occupies is kept until its end."""
        outcome = judge.of_error(error, started)
        self.counts.settle(outcome)
        worker = callables.unfinished_worker(error) if self.holds else None
        if worker is not None:
            self._keep(worker, ticket, outcome, started)
            reason = None
        else:
            reason = self.settle(ticket, outcome, started)
        if self.listening():
            self.tell(moment_of(outcome), error)
        return reason if outcome is FAILURE else None

    async def report_failure(self, reason: IntEnum | None, error: BaseException) -> None:
        """Give the ExceptionConfig its say about a failed call."""
        if reason is not None:
            await self.hand_over(reason, error, str(error), **self.failure_details())

    @property
    def is_common(self) -> bool:
        """Whether calls go the path of every guard."""
        return type(self).layer is Guard.layer

    def entry(self, mode: Mode) -> Callable[[Caller, Trace], Awaitable[object | None]]:
        """Return what happens to a call that is not admitted at once."""
        if not isinstance(mode, Gradual):
            return self.enter if mode == "enforce" else self.observe
        enforced = self.enforcing(mode)
        return lambda caller, trace: (self.enter if enforced(caller) else self.observe)(caller, trace)

    async def enter(self, caller: Caller, trace: Trace) -> object:
        """Wait for a ticket, or raise the refusal, counted and told."""
        if self.turns_away:
            raise self.turned_away(caller, trace)
        before = self.clock.monotonic()
        try:
            ticket = await self.wait(caller)
        except RejectionError as error:
            error.waited = self.clock.monotonic() - before
            self._refused(*self._signed(error), trace)
            if self.handler is not None and isinstance(error.reason, IntEnum):
                await self.hand_over(error.reason, error, str(error), **error.metadata)
            raise
        if self.was_delayed(ticket):
            self.counts.delayed += 1
            self.decide(trace, "delayed", waited=self.clock.monotonic() - before)
        return ticket

    async def observe(self, caller: Caller, trace: Trace) -> object | None:
        """Count and tell what enforcing would have refused or delayed; the call goes on uncharged."""
        self.counts.observed += 1
        _, reason = self.refused(caller)
        self.decide(trace, "would_reject", None if reason is None else reason.name)
        return None

    @property
    def turns_away(self) -> bool:
        """Whether a call that is not admitted is refused at once, with nothing to await."""
        cls = type(self)
        return cls.wait is Guard.wait and cls.enter is Guard.enter and self.handler is None

    def turned_away(self, caller: Caller, trace: Trace | None) -> RejectionError:
        """Return the refusal of a call that cannot wait, counted and told."""
        return self.told_away(caller, trace)

    def told_away(self, caller: Caller, trace: Trace | None) -> RejectionError:
        """Return a refusal, counted and told to whoever listens."""
        error, reason = self.refused(caller)
        self._refused(error, reason, trace)
        return error

    def refused(self, caller: Caller) -> tuple[RejectionError, IntEnum | None]:
        """Return the refusal of now, and its reason, for which an error may have to say all that it puts off."""
        return self._signed(self.refusal(caller))

    def _signed(self, error: RejectionError) -> tuple[RejectionError, IntEnum | None]:
        if error.policy is None:
            error.policy = self.policy
        return error, error.reason

    def _refused(self, error: RejectionError, reason: IntEnum | None, trace: Trace | None) -> None:
        """Count and tell a refusal."""
        if trace:
            error.earlier = tuple(trace)
        if reason is not None:
            self.counts.rejected[reason._name_] += 1  # `name` is a property, at ten times the price
        if audience.size and self.listening():
            self.tell("rejected", error)
            self.publish_decision(error.trace)

    def tell(self, moment: str, error: BaseException | None = None) -> None:
        """Publish the event of a moment, where the room has one."""
        event = self.fact(moment, error)
        if event is not None:
            self.events.publish(event)

    def reject(
        self, reason: IntEnum, message: str, retry_after: float | None = None, **metadata: object
    ) -> RejectionError:
        """Build this pattern's rejection."""
        return self.error_type(
            message, self.name, self.type_name, reason, policy=self.policy, retry_after=retry_after, **metadata
        )


def _nobody(caller: Caller) -> None:
    """Admit nobody at once."""


def moment_of(outcome: Outcome) -> str:
    """Name the moment of a call that ended."""
    if outcome is SUCCESS:
        return "succeeded"
    return "failed" if outcome is FAILURE else "neutral"
