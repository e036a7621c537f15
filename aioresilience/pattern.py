"""The contract: what a pattern is.

A pattern has a frozen config, a machine that decides without awaiting, and one of four kinds: a `Guard` admits and
settles, a `Bound` limits a call in time, a `Repeat` calls again, a `Replace` answers instead. Each makes a layer around
the next one; folding the layers, innermost first, is what a policy means.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, NamedTuple, ParamSpec, Self, TypeVar, overload

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from aioresilience import callables
from aioresilience.calls import ANYONE, Call, Caller, Handler, Trace, invoker
from aioresilience.clock import SYSTEM_CLOCK, Clock
from aioresilience.counts import Counts
from aioresilience.events import Decision, DecisionEvent, EventEmitter, EventType, PatternType, global_bus
from aioresilience.exceptions import (
    ExceptionConfig,
    ExceptionHandler,
    OperationTimeoutError,
    RejectionError,
    ResilienceError,
)
from aioresilience.failures import EVERY_EXCEPTION, Classifier, Judge, judge_of
from aioresilience.modes import Gradual, Mode, enforcer

P = ParamSpec("P")
T = TypeVar("T")
ConfigT = TypeVar("ConfigT", bound="PatternConfig")


class Futile(NamedTuple):
    """A field that can never do what it is for beside the other fields of its config."""

    field: str
    why: str
    hint: str


_standing: Final[ContextVar[frozenset[str]]] = ContextVar("standing", default=frozenset())
"""The fields that are futile already in the config of which the new one is made."""


class PatternConfig(BaseModel):
    """What every pattern's config has in common: frozen, strict, no unknown fields, no NaN or infinity."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True
    )

    short: ClassVar[str | None] = None
    """The field that a bare value in a file stands for."""

    mode: Mode | None = Field(default=None, description="How this pattern acts; unset: as the policy says.")

    @property
    def needs(self) -> str | None:
        """The extra without which a pattern under this config cannot be used, None where it needs none."""
        return None

    @classmethod
    def file_defaults(cls, given: Mapping[str, object]) -> Mapping[str, object]:
        """Return what a file's block means where it says nothing; `given` are the fields that it does set."""
        return {}

    def futile(self) -> Iterator[Futile]:
        """Yield the fields that can never do what they are for: Python refuses them, of a file lint tells."""
        return iter(())

    @model_validator(mode="after")
    def _refuse_the_futile(self, info: ValidationInfo) -> Self:
        for one in self.futile() if info.context is None else ():
            if one.field not in _standing.get():
                raise ValueError(f"{one.field}: {one.why}; {one.hint}")
        return self


NO_MODES: Final[Mapping[str, Mode]] = {}


@dataclass(frozen=True, slots=True)
class Context:
    """What a layer knows of the policy around it."""

    policy: str | None = None
    classify: Classifier = EVERY_EXCEPTION
    mode: Mode = "enforce"
    attempt_timeout: float | None = None
    idempotent: bool | None = None
    modes: Mapping[str, Mode] = field(default_factory=lambda: NO_MODES)
    """The modes that this policy gives single patterns; one instance may be shared by policies that differ in it."""
    lasting: bool = False
    """Whether what a call holds lasts until its result is closed, as a streamed response is long after."""

    def judge(self) -> Judge:
        """Return how a pattern without a rule of its own tells failures from successes."""
        return judge_of(self.classify, self.attempt_timeout)


ALONE: Final = Context()


_numbers: dict[str, itertools.count[int]] = {}


def _default_name(key: str) -> str:
    return f"{key}-{next(_numbers.setdefault(key, itertools.count(1)))}"


class _ConfigField:
    """Reads a field of the config; setting it retunes the pattern, as assigning to an attribute did in 0.2."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, pattern: AnyPattern | None, owner: type[AnyPattern]) -> object:
        return self if pattern is None else getattr(pattern.config, self._name)

    def __set__(self, pattern: AnyPattern, value: object) -> None:
        given = {name: getattr(pattern.config, name) for name in pattern.config.model_fields_set}
        futile = {one.field for one in pattern.config.futile()} - {self._name}  # of a file they are told, not refused
        token = _standing.set(frozenset(futile))
        try:
            config = type(pattern.config)(**{**given, self._name: value})
        finally:
            _standing.reset(token)
        pattern.retune(config)


class Pattern(Generic[ConfigT]):
    """One mechanism with its config, its live state, its counters and its events.

    `retune` changes the config in place and keeps the state; layers built before go on with the values they captured.
    """

    key: ClassVar[str]
    """The pattern's key in a file, in `order` and in metric labels."""
    config_type: ClassVar[type[PatternConfig]]
    pattern_type: ClassVar[PatternType]
    reasons: ClassVar[type[IntEnum] | None] = None
    """The closed set of reasons for which it refuses, or fails a call."""
    refuses: ClassVar[bool] = False
    """Whether it may keep a call from starting."""
    splits: ClassVar[bool] = False
    """Whether a partitioned policy has an instance for each host or key: what it learns is about them, not about us."""

    def __init__(
        self,
        name: str | None,
        config: ConfigT,
        *,
        exceptions: ExceptionConfig | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.name = name if name is not None else _default_name(self.key)
        self.config = config
        self.policy: str | None = None
        self.clock: Clock = clock or SYSTEM_CLOCK
        self.events = EventEmitter(self.name)
        self.counts = Counts(self.reasons, refuses=self.refuses)
        self.handler = None if exceptions is None else ExceptionHandler.of(exceptions, self.name, self.type_name)
        self._alone: Handler | None = None

    @property
    def type_name(self) -> str:
        """The `pattern_type` string of errors and contexts."""
        return self.key

    if TYPE_CHECKING:  # at run time it would make every attribute of every pattern slow to read

        def __getattr__(self, name: str) -> object: ...

    def __init_subclass__(cls) -> None:
        """Let config fields be read on the instance, as 0.2 did."""
        for name in getattr(cls, "config_type", PatternConfig).model_fields:
            if not hasattr(cls, name):
                setattr(cls, name, _ConfigField(name))

    def mode_in(self, context: Context) -> Mode:
        """Return how this pattern acts in a policy: only guards follow the policy's own mode."""
        return context.modes.get(self.key) or self.config.mode or "enforce"

    def wrap(self, inner: Handler, context: Context) -> Handler:
        """Wrap `inner` unless this pattern is off."""
        return inner if self.mode_in(context) == "off" else self.layer(inner, context)

    @property
    def is_common(self) -> bool:
        """Whether calls go the path of every pattern of its kind, which may be written out in one frame."""
        return False

    @abstractmethod
    def layer(self, inner: Handler, context: Context) -> Handler:
        """Wrap `inner`; capture what a call must keep until its end, whatever is retuned meanwhile."""

    def enforcing(self, mode: Mode) -> Callable[[Caller], bool]:
        """Return what tells whether a call is enforced; one for each mode, so that a gradual one keeps its share."""
        if not isinstance(mode, Gradual):
            return enforcer(mode)
        return vars(self).setdefault("_enforcers", {}).setdefault(mode, enforcer(mode))  # type: ignore[no-any-return]

    def retune(self, config: ConfigT) -> None:
        """Take a new config and keep the live state; called with no await in between."""
        self.config = config
        self._alone = None

    def twin(self, name: str) -> Self:
        """Return an instance with a state of its own under the same config, for one partition; counts are shared."""
        twin = type(self)(name=name, config=self.config, clock=self.clock)
        twin.policy, twin.handler = self.policy, self.handler
        twin.events, twin.counts = self.events, self.counts
        return twin

    def brought_in(self, before: AnyPattern | None) -> None:
        """Take note that a reload put this instance into a policy that had `before` in its place, or nothing."""

    def follow(self, whole: Self) -> None:
        """Take over what people did by hand to the instance that this one is a twin of."""

    def holds_back(self, now: float) -> bool:
        """Tell whether this instance refuses what a new one in its place would let pass."""
        return False

    def status(self) -> dict[str, object]:
        """Return the live state and the counts, fit for JSON."""
        return self.counts.beside(self.name)

    def listening(self) -> bool:
        """Tell whether anybody wants this pattern's events."""
        return bool(self.events.handlers or global_bus.handlers)

    def decide(self, trace: Trace, action: str, reason: str | None = None, waited: float = 0.0) -> None:
        """Note what this pattern did to a call, or would have done, and tell who listens."""
        trace.append(Decision(self.type_name, self.name, action, reason, waited))
        if self.listening():
            self.publish_decision(tuple(trace))

    def decided(self, error: ResilienceError) -> None:
        """Tell who listens what an error of this pattern says."""
        if self.listening():
            self.publish_decision(error.trace)

    def publish_decision(self, trace: tuple[Decision, ...]) -> None:
        """Publish the last decision of a trace; the caller has checked `listening`."""
        last = trace[-1]
        event = DecisionEvent(
            self.pattern_type, EventType.DECISION, self.name,
            policy=self.policy, action=last.action, reason=last.reason, waited=last.waited, trace=trace,
        )  # fmt: skip
        self.events.publish(event)

    @overload
    async def execute(self, func: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    async def execute(self, func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    async def execute(self, func: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> object:
        """Call `func` through this pattern alone; a plain function runs in a worker thread."""
        layer = self._alone
        if layer is None:
            layer = self._alone = self.wrap(invoker(self.clock), ALONE)
        call = Call(callables.awaitable(func), args, kwargs, ANYONE)
        return await layer(call)

    async def hand_over(self, reason: IntEnum, error: BaseException, message: str, **metadata: object) -> None:
        """Run the ExceptionConfig's callback, then raise what it makes of the error where that is another one.

        Only what this library decides is replaced; the errors of the user's function stay as they are.
        """
        handler = self.handler
        if handler is None:
            return
        decided_here = isinstance(error, (RejectionError, OperationTimeoutError))
        if not decided_here and not handler.should_handle_exception(error):
            return
        context = handler.context(reason, None if decided_here else error, **metadata)
        await handler.notify(context)
        if decided_here:
            made = handler.build(context, None, message=message, default=error)
            if made is not error:
                raise made from error


AnyPattern = Pattern[Any]
"""A pattern of any config: what lists of patterns hold, since retuning makes the config's type invariant."""
