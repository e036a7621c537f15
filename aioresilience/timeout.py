"""Timeout and deadline: a bound on one attempt, and a bound on the whole call that nested calls inherit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import asdict, dataclass
from typing import ClassVar, Generic, ParamSpec, TypeVar

from pydantic import Field

from aioresilience import callables
from aioresilience.bound import Bound
from aioresilience.clock import SYSTEM_CLOCK, Clock
from aioresilience.events import EventType, PatternType, TimeoutEvent, audience
from aioresilience.exceptions import ExceptionConfig, ExceptionContext, OperationTimeoutError, TimeoutReason
from aioresilience.fields import PositiveSeconds
from aioresilience.pattern import PatternConfig
from aioresilience.scope import Timeline, current_deadline

P = ParamSpec("P")
T = TypeVar("T")
ConfigT = TypeVar("ConfigT", bound="TimeoutConfig | DeadlineConfig")


class TimeoutConfig(PatternConfig):
    """How long one attempt may take."""

    short: ClassVar[str | None] = "timeout"

    timeout: PositiveSeconds = Field(default=30.0, description="Longest time of one attempt, in seconds.")
    raise_on_timeout: bool = Field(default=True, description="Raise OperationTimeoutError; false: return None instead.")


class DeadlineConfig(PatternConfig):
    """How long a whole call may take, its waits and retries included."""

    short: ClassVar[str | None] = "timeout"

    timeout: PositiveSeconds = Field(default=60.0, description="Longest time of the whole call, in seconds.")


@dataclass
class TimeoutMetrics:
    """The counts of a timeout, under the names of 0.2; times in seconds."""

    total_executions: int = 0
    successful_executions: int = 0
    timed_out_executions: int = 0
    total_execution_time: float = 0.0
    average_execution_time: float = 0.0

    def to_dict(self) -> dict[str, object]:
        """Return the metrics by name."""
        return asdict(self)


class _Timed(Bound[ConfigT], Generic[ConfigT]):
    """What timeout and deadline share: the error, the events, the metrics."""

    reasons = TimeoutReason
    reason: ClassVar[TimeoutReason]
    what: ClassVar[str]

    def __init__(
        self, name: str | None, config: ConfigT, exceptions: ExceptionConfig | None, clock: Clock | None
    ) -> None:
        super().__init__(name, config, exceptions=exceptions, clock=clock)
        self._time = 0.0
        self._overruns = 0

    def granted(self, config: ConfigT) -> float:
        """Return the configured seconds."""
        return config.timeout

    def limit(self, granted: float) -> float:
        """Return the configured seconds."""
        return granted

    def overrun(self, limit: float, elapsed: float) -> OperationTimeoutError:
        """Count, tell and build the error of a call that took too long."""
        self._overruns += 1
        self._time += elapsed
        if self.listening():
            self._tell(EventType.TIMEOUT_OCCURRED, limit, elapsed)
        said = f"of {limit:g} s exceeded" if limit > 0 else f"passed {-limit:.3g} s before the call"
        return OperationTimeoutError(
            f"{self.what} {said} in {self.name!r}", self.name, self.type_name, self.reason,
            policy=self.policy, timeout=limit, elapsed=elapsed,
        )  # fmt: skip

    def ended(self, limit: float, elapsed: float) -> None:
        """Count the time and tell that the call ended."""
        self._time += elapsed
        if audience.steady and self.listening():
            self._tell(EventType.TIMEOUT_SUCCESS, limit, elapsed)

    def _tell(self, event_type: EventType, limit: float, elapsed: float) -> None:
        event = TimeoutEvent(self.pattern_type, event_type, self.name, timeout_value=limit, elapsed=elapsed)
        self.events.publish(event)

    @property
    def metrics(self) -> TimeoutMetrics:
        """The counts under the names of 0.2."""
        counts = self.counts
        average = self._time / counts.started if counts.started else 0.0
        return TimeoutMetrics(counts.started, counts.succeeded, self._overruns, self._time, average)

    def get_metrics(self) -> dict[str, object]:
        """Return the counts, with `timeout_rate` as a share from 0 to 1."""
        metrics = self.metrics
        total = metrics.total_executions
        return metrics.to_dict() | {"timeout_rate": metrics.timed_out_executions / total if total else 0.0}

    def reset_metrics(self) -> None:
        """Start counting anew."""
        self.counts.reset()
        self._time, self._overruns = 0.0, 0

    def status(self) -> dict[str, object]:
        """Return the bound in seconds and the counts."""
        return super().status() | {"timeout": self.config.timeout, "timed_out": self._overruns}


class TimeoutManager(_Timed[TimeoutConfig]):
    """Bounds one attempt: a function that takes longer is cancelled, and `OperationTimeoutError` raised."""

    key = "timeout"
    config_type = TimeoutConfig
    pattern_type = PatternType.TIMEOUT
    reason = TimeoutReason.TIMEOUT_EXCEEDED
    what = "timeout"

    def __init__(
        self,
        config: TimeoutConfig | None = None,
        exceptions: ExceptionConfig | None = None,
        *,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(name, config or TimeoutConfig(), exceptions, clock)

    @property
    def is_common(self) -> bool:
        """Whether calls go the path of every bound: not where outer patterns must learn of a thread that runs on."""
        return super().is_common and self.config.raise_on_timeout

    def raises(self, config: TimeoutConfig) -> bool:
        """Tell whether an overrun raises."""
        return config.raise_on_timeout

    def answer(self, config: TimeoutConfig, error: OperationTimeoutError, cut: BaseException | None) -> object:
        """Raise, or return None under `raise_on_timeout=False`."""
        if self.raises(config):
            raise error from cut
        return None


class Deadline(_Timed[DeadlineConfig]):
    """Bounds a whole call; code inside sees it as `current_deadline()`, and the nearest one wins."""

    key = "deadline"
    config_type = DeadlineConfig
    pattern_type = PatternType.DEADLINE
    reason = TimeoutReason.DEADLINE_EXCEEDED
    what = "deadline"
    is_deadline = True

    def __init__(
        self,
        config: DeadlineConfig | None = None,
        exceptions: ExceptionConfig | None = None,
        *,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(name, config or DeadlineConfig(), exceptions, clock)

    def limit(self, granted: float) -> float:
        """Return the configured seconds, or what an inherited deadline leaves of them."""
        inherited = current_deadline()
        return granted if inherited is None else min(granted, inherited - self.clock.monotonic())


class DeadlineManager(Deadline):
    """Bounds calls by an instant of `time.time()`, turned into a monotonic one once.

    `on_deadline_exceeded` gets an `ExceptionContext`; `raise_on_deadline=False` makes an overrun return None.
    """

    def __init__(
        self,
        deadline: float,
        raise_on_deadline: bool = True,
        exception_type: type[Exception] | None = None,
        exception_transformer: Callable[[BaseException | None, ExceptionContext], BaseException] | None = None,
        on_deadline_exceeded: Callable[[ExceptionContext], object] | None = None,
        *,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        exceptions = ExceptionConfig(
            exception_type=exception_type,
            exception_transformer=exception_transformer,
            on_exception=on_deadline_exceeded,
        )
        super().__init__(None, exceptions, name=name, clock=clock)
        self.deadline = deadline
        self.raise_on_deadline = raise_on_deadline
        self._when = self.clock.monotonic() + deadline - self.clock.wall()

    def time_remaining(self) -> float:
        """Return the seconds left, 0 when the deadline has passed."""
        return max(0.0, self._when - self.clock.monotonic())

    def is_expired(self) -> bool:
        """Tell whether the deadline has passed."""
        return self.time_remaining() == 0.0

    def limit(self, granted: float) -> float:
        """Return the seconds left until this deadline or an inherited one."""
        inherited = current_deadline()
        when = self._when if inherited is None else min(self._when, inherited)
        return when - self.clock.monotonic()

    def raises(self, config: DeadlineConfig) -> bool:
        """Tell whether an overrun raises."""
        return self.raise_on_deadline

    def answer(self, config: DeadlineConfig, error: OperationTimeoutError, cut: BaseException | None) -> object:
        """Raise, or return None under `raise_on_deadline=False`."""
        if self.raises(config):
            raise error from cut
        return None


def timeout(
    seconds: float, raise_on_timeout: bool = True
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[object, object, T]]]:
    """Bound every call of the decorated async function to `seconds`."""
    config = TimeoutConfig(timeout=seconds, raise_on_timeout=raise_on_timeout)

    def decorator(func: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[object, object, T]]:
        return with_timeout_manager(TimeoutManager(config, name=callables.name_of(func)))(func)

    return decorator


def with_timeout_manager(
    manager: TimeoutManager,
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[object, object, T]]]:
    """Send every call of the decorated async function through `manager`."""

    def decorator(func: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[object, object, T]]:
        return callables.decorate(func, manager.execute, "timeout")

    return decorator


_TIMEOUTS = Timeline(clock=SYSTEM_CLOCK)
_DEADLINES = Timeline(clock=SYSTEM_CLOCK, is_deadline=True)
"""The timers of the one-shot forms, shared so that none is left behind for each call."""


async def with_timeout(
    coro_or_func: Awaitable[T] | Callable[..., Awaitable[T]], timeout_seconds: float, *args: object, **kwargs: object
) -> T:
    """Await a coroutine, or call a function with the arguments, for at most `timeout_seconds`."""
    manager = TimeoutManager(TimeoutConfig(timeout=timeout_seconds), name="with_timeout")
    manager.timeline = _TIMEOUTS
    with callables.as_function(coro_or_func) as func:
        return await manager.execute(func, *args, **kwargs)


async def with_deadline(
    coro_or_func: Awaitable[T] | Callable[..., Awaitable[T]], deadline: float, *args: object, **kwargs: object
) -> T:
    """Await a coroutine, or call a function with the arguments, until `deadline`, an instant of `time.time()`."""
    manager = DeadlineManager(deadline, name="with_deadline")
    manager.timeline = _DEADLINES
    with callables.as_function(coro_or_func) as func:
        return await manager.execute(func, *args, **kwargs)
