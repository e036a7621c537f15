"""One call that did not simply succeed: what is known of it, and its further attempts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from types import TracebackType
from typing import TYPE_CHECKING

from aioresilience.calls import Call, Caller, Handler
from aioresilience.events import Decision, EventType
from aioresilience.exceptions import ResilienceError, RetryReason
from aioresilience.failures import FAILURE, Outcome, is_refusal
from aioresilience.retry.budget import Budget
from aioresilience.retry.config import RetryConfig
from aioresilience.retry.delays import Schedule, Stop
from aioresilience.retry.verdict import Verdict, retry_after_of
from aioresilience.scope import current_deadline, sleep

if TYPE_CHECKING:
    from aioresilience.retry.pattern import RetryPolicy


class RetryProgress(IntEnum):
    """Why a callback is told of a call that goes on or went well; the numbers follow those of RetryReason."""

    RETRYING = 2
    SUCCEEDED = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """What a call keeps until its end, whatever is retuned meanwhile."""

    config: RetryConfig
    verdict: Verdict
    budget: Budget | None
    enforced: Callable[[Caller], bool]


class Run:
    """The further attempts of one call.

    Afterwards `error` is what to raise and `context` what it was raised in; without one, `result` is what to return.
    """

    __slots__ = (
        "_attempt", "_call", "_done", "_plan", "_rejection", "_retry", "_schedule", "_started", "_trace", "_upstream",
        "context", "error", "outcome", "result",
    )  # fmt: skip

    def __init__(self, retry: RetryPolicy, plan: Plan, call: Call) -> None:
        self._retry = retry
        self._plan = plan
        self._call = call
        self._schedule = Schedule(plan.budget, retry.draw)
        self._attempt = 1
        self._done = self._upstream = False
        self._started: float | None = None
        self._rejection: Exception | None = None
        self._trace: TracebackType | None = None
        self.error: Exception | None = None
        self.context: BaseException | None = None
        self.result: object = None
        self.outcome: Outcome | None = None

    def failed(self, error: Exception) -> Run:
        """Note how an attempt ended; a rejection does not take the place of what the upstream said before."""
        refused = is_refusal(error, self._call.started)
        if refused and self._upstream:
            self._rejection = error
        else:
            self._note(error, None)
            self._upstream = not refused
        self._retry.tally.note_failure(error)
        return self

    def disappointed(self, result: object) -> Run:
        """Note a result that asks for another attempt."""
        self._note(None, result)
        self._upstream = True
        self._retry.tally.failed += 1
        return self

    def _note(self, error: Exception | None, result: object) -> None:
        if error is not None:
            if error is self.error:
                _cut(error.__traceback__, self._trace)
            self._trace = error.__traceback__
            self.context = error.__context__
        self.error, self.result = error, result
        self._rejection = None
        self._started = self._call.started

    def take(self) -> tuple[Exception | None, BaseException | None]:
        """Hand over the error and its context; the frames in their tracebacks lead here, and must not keep them."""
        final, context = self.error, self.context
        self.error = self.context = None
        return final, context

    async def finish(self, inner: Handler) -> Run:
        """Retry until an attempt succeeds or nothing speaks for another one; count how the call ended."""
        try:
            await self._repeat(inner)
        except BaseException as error:
            if self.outcome is None:
                self.outcome = self._plan.verdict.judge.of_error(error, self._call.started)
            self.take()
            raise
        finally:
            self._retry.counts.settle(self.outcome or FAILURE)
            self._rejection = self._trace = None
        return self

    async def _repeat(self, inner: Handler) -> None:
        if not self._plan.enforced(self._call.caller):
            return self._observe()
        while not self._done:
            step = self._next(charge=True)
            if step is None:
                return await self._refuse()
            if isinstance(step, Stop):
                return await self._exhaust(step)
            await self._pause(step)
            await self._again(inner)
        return await self._recovered()

    def _next(self, *, charge: bool) -> float | Stop | None:
        """Return the delay, why to stop, or None for what is not worth a retry."""
        latest, verdict, exchange = self._latest, self._plan.verdict, self._call.caller.exchange
        if exchange is not None and not exchange.can_send():
            return None
        if latest is not None and not verdict.retries(latest, self._call.started, exchange):
            return Stop.REJECTED if self._rejection is not None else None
        clock = self._retry.clock
        asked = retry_after_of(self.result if latest is None else latest, clock.wall)
        now, delays = clock.monotonic(), verdict.delays_for(latest)
        return self._schedule.after(self._attempt, delays, now, current_deadline(), asked, charge=charge)

    @property
    def _latest(self) -> Exception | None:
        return self.error if self._rejection is None else self._rejection

    @property
    def _attempts(self) -> int:
        return self._plan.verdict.delays_for(self._latest).max_attempts

    def _observe(self) -> None:
        step = self._next(charge=False)
        if isinstance(step, float):
            self._retry.counts.observed += 1
            self._retry.decide(self._call.noted(), "would_retry", _reason_of(self._latest), step)
        self._settle()

    def _settle(self) -> None:
        """Judge what the caller gets."""
        verdict = self._plan.verdict
        self.outcome = FAILURE if self.error is None else verdict.judge.of_error(self.error, self._started)

    async def _pause(self, delay: float) -> None:
        """Tell of the retry and wait; what the callback takes is part of the wait."""
        retry, call, latest = self._retry, self._call, self._latest
        until = retry.clock.monotonic() + delay
        retry.tally.note_retry(delay)
        self._trace_retry(latest, delay)
        retry.told(EventType.RETRY_ATTEMPT, self._attempt + 1, self._attempts, latest, delay)
        await retry.notify(
            self._plan.config.on_retry, RetryProgress.RETRYING, latest,
            attempt=self._attempt, max_attempts=self._attempts, delay=delay,
        )  # fmt: skip
        del latest
        call.started = None
        await sleep(until - retry.clock.monotonic(), retry.clock)

    def _trace_retry(self, latest: Exception | None, delay: float) -> None:
        trace = self._call.noted()
        if isinstance(latest, ResilienceError):
            trace.append(latest.trace[-1])
        trace.append(Decision(self._retry.type_name, self._retry.name, "retried", _reason_of(latest), delay))

    async def _again(self, inner: Handler) -> None:
        self._attempt += 1
        self._call.started = None
        verdict = self._plan.verdict
        try:
            result = await inner(self._call)
            if verdict.reads_results and await verdict.unwanted(result, self._call.caller.exchange):
                self.disappointed(result)
                return
        except Exception as error:
            self.failed(error)
            return
        self._done, self.error, self.result = True, None, result
        self.outcome = verdict.of_result(result)

    async def _recovered(self) -> None:
        retry = self._retry
        retry.told(EventType.RETRY_SUCCESS, self._attempt, self._attempts, None)
        await retry.notify(
            self._plan.config.on_success_after_retry, RetryProgress.SUCCEEDED, None,
            attempt=self._attempt, max_attempts=self._attempts,
        )  # fmt: skip

    async def _refuse(self) -> None:
        """Give up on what is not worth a retry."""
        self._settle()
        if self.error is not None and self._retry.handler is not None:
            await self._retry.hand_over(
                RetryReason.NON_RETRYABLE, self.error, text_of(self.error), attempts=self._attempt
            )

    async def _exhaust(self, stop: Stop) -> None:
        """Give up on what was worth a retry."""
        self._settle()
        retry, error, stopped_by = self._retry, self.error, stop.name.lower()
        retry.tally.stopped[stop] += 1
        self._join_rejection(error)
        if stop is Stop.BUDGET:
            retry.told(EventType.BUDGET_EXHAUSTED, self._attempt, self._attempts, error)
        trace = tuple(self._call.trace or ())
        retry.told(EventType.RETRY_EXHAUSTED, self._attempt, self._attempts, error, stopped_by=stopped_by, trace=trace)
        made = self._attempt
        about = {"attempt": made, "attempts": made, "max_attempts": self._attempts, "stopped_by": stopped_by}
        try:
            await retry.notify(self._plan.config.on_exhausted, RetryReason.EXHAUSTED, error, **about)
            if error is not None:
                await retry.replace(error, **about)
        finally:
            del error

    def _join_rejection(self, error: Exception | None) -> None:
        """Show the rejection that ended the retrying as the context of what the upstream said."""
        rejection = self._rejection
        if rejection is None:
            return
        self._call.started = self._started
        if error is not None and rejection.__context__ is not error:
            self.context = error.__context__ = rejection


def _cut(trace: TracebackType | None, old: TracebackType | None) -> None:
    """Cut off what an error that is raised again and again still carries of its last time."""
    while trace is not None:
        if trace.tb_next is old:
            trace.tb_next = None
        trace = trace.tb_next


def _reason_of(error: Exception | None) -> str:
    return "unwanted result" if error is None else type(error).__name__


def text_of(error: BaseException) -> str:
    """Return an error's text, its type's name where it has none."""
    try:
        return str(error) or type(error).__name__
    except Exception:
        return type(error).__name__
