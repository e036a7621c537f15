"""The fallback around a call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Final

from aioresilience.calls import Call, Caller, Handler
from aioresilience.clock import Clock
from aioresilience.events import Decision, EventType, FallbackEvent, PatternType
from aioresilience.exceptions import ExceptionConfig, FallbackFailedError, FallbackReason, ResilienceError
from aioresilience.failures import FAILURE, NEUTRAL, SUCCESS, Judge, Matcher
from aioresilience.fallback.config import FallbackConfig
from aioresilience.fallback.sources import Source, sources
from aioresilience.logging import describe
from aioresilience.modes import enforcer
from aioresilience.pattern import Context
from aioresilience.recovering import Replace
from aioresilience.scope import current_deadline, cut_by


@dataclass
class FallbackMetrics:
    """The counts of a fallback, under the names of 0.2.

    `successful_executions` went well by themselves; in `fallback_executions` a fallback was tried; in
    `failed_executions` the caller got an error.
    """

    total_executions: int = 0
    successful_executions: int = 0
    fallback_executions: int = 0
    failed_executions: int = 0

    def to_dict(self) -> dict[str, object]:
        """Return the metrics by name."""
        return asdict(self)


class _Nothing(Enum):
    """What stands for "no answer", since None is one, and for a failure that is kept quiet."""

    NOTHING = 0
    QUIET = 1


NOTHING: Final = _Nothing.NOTHING
QUIET: Final = _Nothing.QUIET


@dataclass(frozen=True, slots=True)
class Plan:
    """What a call keeps until its end, whatever is retuned meanwhile."""

    sources: tuple[Source, ...]
    matcher: Matcher | None
    judge: Judge
    reraise: bool
    enforced: Callable[[Caller], bool]


class FallbackHandler(Replace[FallbackConfig]):
    """Answers in the place of a call that failed, with a value or with what a function returns.

    A cancelled call is not answered, nor one whose deadline, inherited from the caller, has passed. When the fallback
    fails too, `FallbackFailedError` has its error as the cause and the call's own as the context.
    """

    key = "fallback"
    config_type = FallbackConfig
    pattern_type = PatternType.FALLBACK
    reasons = FallbackReason
    error_type = FallbackFailedError

    def __init__(
        self,
        config: FallbackConfig | None = None,
        exceptions: ExceptionConfig | None = None,
        *,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(name, config or FallbackConfig(), exceptions=exceptions, clock=clock)
        self._tried = self._answered = 0

    async def recover(self, plan: Plan, call: Call, error: BaseException, inner: Handler) -> object:
        """Answer for what failed; what is no Exception passes."""
        try:
            if not isinstance(error, Exception):
                self.counts.settle(plan.judge.of_error(error, call.started))
                raise error
            return await self._recover(plan, call, error)
        finally:
            del error  # this frame is in its traceback, and must not keep it alive

    async def _recover(self, plan: Plan, call: Call, primary: Exception) -> object:
        context = primary.__context__
        try:
            raise primary  # so that what a fallback raises has it as its context
        except Exception:
            primary.__context__ = context  # raised here, it would forget what it was raised in at first
            answer = await self._answer(plan, call, primary, plan.enforced(call.caller))
            if answer is NOTHING:
                raise
            return answer
        finally:
            del primary, context

    def plan(self, context: Context) -> Plan:
        """Return what a call keeps until its end."""
        config = self.config
        kinds = config.fallback_on_exceptions
        return Plan(
            sources(config, self.name, self.clock),
            None if kinds is None else Matcher(kinds),
            context.judge(),
            config.reraise_on_fallback_failure,
            enforcer(self.mode_in(context)),
        )

    async def _answer(self, plan: Plan, call: Call, primary: Exception, enforced: bool) -> object:
        """Return what stands in for the result, NOTHING where the call's own error is to be raised."""
        outcome, tried = plan.judge.of_error(primary, call.started), False
        try:
            if (plan.matcher is not None and not plan.matcher.matches(primary)) or not self._acts(call, enforced):
                return NOTHING
            outcome, tried = NEUTRAL, True  # unless it comes to an end
            self._told(EventType.PRIMARY_FAILED, primary)
            answer = await self._try(plan, call, primary)
            outcome = FAILURE if answer is QUIET else SUCCESS
        except Exception:
            outcome = FAILURE
            raise
        finally:
            self.counts.settle(outcome)
            self._tried += tried  # with the call, of which it is to be a share
            if outcome is SUCCESS:
                self._answered += 1
        if answer is QUIET:
            return None
        self._told(EventType.FALLBACK_EXECUTED, primary, answer)
        return answer

    def _acts(self, call: Call, enforced: bool) -> bool:
        """Tell whether to answer; where not, say so."""
        late = self._is_late()
        if enforced and not late:
            return True
        if not enforced:
            self.counts.observed += 1
        self.decide(call.noted(), "skipped" if late else "would_answer")
        return False

    def _is_late(self) -> bool:
        """Tell whether the caller no longer waits: a time bound around us is over."""
        deadline = current_deadline()
        return cut_by() is not None or (deadline is not None and self.clock.monotonic() >= deadline)

    async def _try(self, plan: Plan, call: Call, primary: Exception) -> object:
        """Ask one source after the other, until one answers or the caller's time is over."""
        last: Exception | None = None
        try:
            for source in plan.sources:
                if last is not None and self._is_late():
                    break
                try:
                    return await source(call)
                except Exception as error:
                    last = error
            assert last is not None
            return await self._fail(plan, call, primary, last)
        finally:
            del last, primary  # this frame is in their tracebacks, and must not keep them alive

    async def _fail(self, plan: Plan, call: Call, primary: Exception, last: Exception) -> object:
        """Raise what tells of both errors, unless the fallback's failure is to be kept quiet."""
        about = {"primary_error": describe(primary), "original_error": str(primary), "fallback_error": describe(last)}
        message = f"fallback {self.name!r} failed ({about['fallback_error']}) after {about['primary_error']}"
        try:
            await self._replace(FallbackReason.ALL_FALLBACKS_FAILED, primary, message, about)
            if plan.reraise:
                if last is not primary and last.__context__ is None:
                    last.__context__ = primary  # what a thread raised knows nothing of it
                earlier = primary.trace if isinstance(primary, ResilienceError) else tuple(call.trace or ())
                raise self._failure(FallbackReason.ALL_FALLBACKS_FAILED, message, about, earlier) from last
            return QUIET
        finally:
            del primary, last

    def _failure(
        self, reason: FallbackReason, message: str, about: dict[str, str], earlier: tuple[Decision, ...]
    ) -> FallbackFailedError:
        error = FallbackFailedError(
            message, self.name, self.type_name, reason, policy=self.policy, retry_after=None, **about
        )
        error.earlier = earlier
        return error

    async def _replace(self, reason: FallbackReason, primary: Exception, message: str, about: dict[str, str]) -> None:
        """Give the ExceptionConfig its say; raise what it makes of the call's own error."""
        handler = self.handler
        if handler is None or not handler.should_handle_exception(primary):
            return
        made = await handler.replacement(reason, primary, message, **about)
        try:
            if made is not primary:
                raise made from primary
        finally:
            del made, primary

    def _told(self, event_type: EventType, primary: Exception, value: object = None) -> None:
        if self.listening():
            event = FallbackEvent(
                self.pattern_type, event_type, self.name, primary_error=describe(primary), fallback_value=value
            )
            self.events.publish(event)

    @property
    def metrics(self) -> FallbackMetrics:
        """The counts under the names of 0.2."""
        counts = self.counts
        return FallbackMetrics(counts.started, counts.succeeded - self._answered, self._tried, counts.failed)

    def get_metrics(self) -> dict[str, object]:
        """Return the counts, with `fallback_rate` and `failure_rate` as shares of all calls."""
        metrics = self.metrics
        total = metrics.total_executions
        return metrics.to_dict() | {
            "fallback_rate": metrics.fallback_executions / total if total else 0.0,
            "failure_rate": metrics.failed_executions / total if total else 0.0,
        }

    def reset_metrics(self) -> None:
        """Start counting anew."""
        self.counts.reset()
        self._tried = self._answered = 0

    def status(self) -> dict[str, object]:
        """Return how often a fallback was tried, and how often it answered."""
        return super().status() | {"tried": self._tried, "answered": self._answered}
