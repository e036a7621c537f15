"""The retry around a call."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Self

from aioresilience.calls import Call, Handler
from aioresilience.clock import Clock
from aioresilience.events import EventType, PatternType, RetryEvent
from aioresilience.exceptions import ExceptionConfig, ExceptionContext, RetryReason
from aioresilience.exceptions.handling import run_callback
from aioresilience.logging import describe
from aioresilience.modes import enforcer
from aioresilience.pattern import Context
from aioresilience.recovering import Repeat
from aioresilience.retry.budget import Budget
from aioresilience.retry.config import RetryBudget, RetryConfig
from aioresilience.retry.delays import Stop
from aioresilience.retry.run import Plan, Run, text_of
from aioresilience.retry.verdict import Verdict


@dataclass
class RetryMetrics:
    """The counts of a retry, under the names of 0.2; `total_delay` in seconds, `last_error` its text."""

    total_attempts: int = 0
    successful_attempts: int = 0
    failed_attempts: int = 0
    total_delay: float = 0.0
    last_error: str | None = None
    retries_exhausted: int = 0

    def to_dict(self) -> dict[str, object]:
        """Return the metrics by name."""
        return asdict(self)


class Tally:
    """What the retries of all calls came to; of the last error only the text, so that nothing is kept alive."""

    __slots__ = ("delay", "failed", "last_error", "retries", "stopped")

    def __init__(self) -> None:
        self.failed = self.retries = 0
        self.delay = 0.0
        self.last_error: str | None = None
        self.stopped = [0] * len(Stop)

    def note_failure(self, error: Exception) -> None:
        """Count an attempt that raised."""
        self.failed += 1
        self.last_error = text_of(error)

    def note_retry(self, delay: float) -> None:
        """Count a retry that will be made after `delay` seconds."""
        self.retries += 1
        self.delay += delay


_STOPS = tuple(stop.name.lower() for stop in Stop)


class RetryPolicy(Repeat[RetryConfig]):
    """Calls again what failed, after a growing and jittered delay.

    The last error is raised as it is. Nothing is retried past a deadline, past the budget, or after a cancel; a
    rejection by a pattern further in only with `retry_on_rejections`.
    """

    key = "retry"
    config_type = RetryConfig
    pattern_type = PatternType.RETRY
    reasons = RetryReason
    splits = True

    def __init__(
        self,
        config: RetryConfig | None = None,
        exceptions: ExceptionConfig | None = None,
        *,
        name: str | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        super().__init__(name, config or RetryConfig(), exceptions=exceptions, clock=clock)
        self.draw: Callable[[], float] = random.random if rng is None else rng.random
        self.tally = Tally()
        self.machine: Budget | None = None
        self._set_budget(self.config.budget)

    def plan(self, context: Context) -> Plan:
        """Return what a call keeps until its end."""
        return Plan(self.config, self._verdict(context), self.machine, enforcer(self.mode_in(context)))

    def begin(self, plan: Plan) -> None:
        """Let a call earn its share of the budget."""
        if plan.budget is not None:
            plan.budget.deposit(self.clock.monotonic())

    def reads_results(self, plan: Plan) -> bool:
        """Tell whether a result may ask for another attempt."""
        return plan.verdict.reads_results

    async def recover(self, plan: Plan, call: Call, error: BaseException, inner: Handler) -> object:
        """Call again while that is worth it and allowed; what is no Exception passes."""
        try:
            if not isinstance(error, Exception):
                self.counts.settle(plan.verdict.judge.of_error(error, call.started))
                raise error
            run = Run(self, plan, call).failed(error)
        finally:
            del error  # this frame is in its traceback, and must not keep it alive
        return await self._finish(run, inner)

    async def review(self, plan: Plan, call: Call, result: object, inner: Handler) -> object:
        """Call again while the result asks for it."""
        verdict = plan.verdict
        try:
            wanted = not await verdict.unwanted(result, call.caller.exchange)
        except BaseException as error:
            self.counts.settle(verdict.judge.of_error(error, call.started))
            raise
        if wanted:
            self.counts.settle(verdict.of_result(result))
            return result
        return await self._finish(Run(self, plan, call).disappointed(result), inner)

    async def _finish(self, run: Run, inner: Handler) -> object:
        await run.finish(inner)
        final, context = run.take()
        if final is None:
            return run.result
        try:
            raise final
        finally:  # raised here, it would forget what it was raised in at first; and its frames must not keep it
            final.__context__ = context
            del final, context

    def twin(self, name: str) -> Self:
        """Return a retry with a budget of its own, which counts together with this one."""
        twin = super().twin(name)
        twin.tally = self.tally
        return twin

    def _verdict(self, context: Context) -> Verdict:
        return Verdict(self.config, context)

    def retune(self, config: RetryConfig) -> None:
        """Take a new config from the next call on; what the budget has counted stays counted."""
        super().retune(config)
        self._set_budget(config.budget)

    def _set_budget(self, limits: RetryBudget | None) -> None:
        now = self.clock.monotonic()
        if limits is None:
            self.machine = None
        elif self.machine is None:
            self.machine = Budget(limits.ratio, limits.min_per_second, limits.window, now)
        else:
            self.machine.retune(limits.ratio, limits.min_per_second, limits.window, now)

    def told(
        self, event_type: EventType, attempt: int, max_attempts: int, error: Exception | None, delay: float = 0.0,
        **metadata: object,
    ) -> None:  # fmt: skip
        """Publish an event where somebody listens."""
        if self.listening():
            event = RetryEvent(
                self.pattern_type, event_type, self.name, metadata=metadata, attempt=attempt,
                max_attempts=max_attempts, delay=delay, error=None if error is None else describe(error),
            )  # fmt: skip
            self.events.publish(event)

    async def notify(
        self, callback: Callable[..., object] | None, reason: IntEnum, error: Exception | None, **metadata: object
    ) -> None:
        """Run a callback; what it raises is logged."""
        if callback is not None:
            context = ExceptionContext(self.name, self.type_name, reason, error, metadata)
            await run_callback(callback, context, "retry callback")

    async def replace(self, error: Exception, **metadata: object) -> None:
        """Give the ExceptionConfig its say about an error that outlived all attempts; raise what it makes of it."""
        handler = self.handler
        if handler is None or not handler.should_handle_exception(error):
            return
        made = await handler.replacement(RetryReason.EXHAUSTED, error, text_of(error), **metadata)
        try:
            if made is not error:
                raise made from error
        finally:
            del made, error  # this frame is in its traceback, and must not keep it alive

    @property
    def metrics(self) -> RetryMetrics:
        """The counts under the names of 0.2."""
        counts, tally = self.counts, self.tally
        return RetryMetrics(
            counts.started + tally.retries, counts.succeeded, tally.failed, tally.delay, tally.last_error,
            sum(tally.stopped),
        )  # fmt: skip

    def get_metrics(self) -> dict[str, object]:
        """Return the counts, with `success_rate` as the share of attempts that succeeded."""
        metrics = self.metrics
        total = metrics.total_attempts
        return metrics.to_dict() | {"success_rate": metrics.successful_attempts / total if total else 0.0}

    def reset_metrics(self) -> None:
        """Start counting anew; the budget keeps what it has counted."""
        self.counts.reset()
        self.tally = Tally()

    def status(self) -> dict[str, object]:
        """Return the retries made, why others were not, and what is left of the budget."""
        tally, budget = self.tally, self.machine
        return super().status() | {
            "retries": tally.retries,
            "failed_attempts": tally.failed,
            "total_delay": tally.delay,
            "stopped": dict(zip(_STOPS, tally.stopped, strict=True)),
            "budget": None if budget is None else budget.status(self.clock.monotonic()),
        }
