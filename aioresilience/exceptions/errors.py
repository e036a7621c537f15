"""Every error the library raises.

Exception
└── ResilienceError
    ├── RejectionError                  the call was refused and never started
    │   ├── CircuitBreakerOpenError
    │   ├── BulkheadFullError
    │   ├── RateLimitExceededError
    │   ├── LoadSheddingError
    │   ├── BackpressureError
    │   └── ConcurrencyLimitError       also a RuntimeError
    ├── OperationTimeoutError           also a TimeoutError
    ├── FallbackFailedError
    ├── UnknownPolicyError              also a KeyError
    └── RevisionConflictError
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import ClassVar, Final

from aioresilience.events import Decision


class ResilienceError(Exception):
    """Say what a pattern or the registry decided, and for whom.

    `retry_after` is in seconds, None where nobody knows; further keywords become `metadata`. Pickles with all of it.
    """

    pattern_type: str | None = None

    action: ClassVar[str] = "failed"
    """What the pattern did to the call, as the trace says it."""

    earlier: tuple[Decision, ...] = ()
    """What was decided about the same call before."""

    started: bool = False
    """True once the user's own function had begun when this error arose."""

    waited: float = 0.0
    """Seconds that a call had waited before it was refused, or had run before it was cut."""

    neutral: bool = False
    """True where the error tells nothing about the dependency: a stalled loop, a deadline that left no time."""

    def __init__(
        self,
        /,
        message: str = "",
        pattern_name: str | None = None,
        pattern_type: str | None = None,
        reason: IntEnum | None = None,
        *,
        policy: str | None = None,
        retry_after: float | None = None,
        **metadata: object,
    ) -> None:
        self.args = (message,)  # what Exception.__init__ does; calling it costs a rejection a tenth more
        self.pattern_name = pattern_name
        if pattern_type is not None:
            self.pattern_type = pattern_type
        self.reason = reason
        self.policy = policy
        self.retry_after = retry_after
        self.metadata = metadata

    @property
    def message(self) -> str:
        """What happened, in one sentence; the same as `str(error)`."""
        return str(self.args[0]) if self.args else ""

    @message.setter
    def message(self, text: str) -> None:
        self.args = (text,)

    @property
    def trace(self) -> tuple[Decision, ...]:
        """What patterns did to this call, in order: earlier delays and retries, and last what this error tells."""
        if self.pattern_type is None:
            return self.earlier
        reason = None if self.reason is None else self.reason.name
        last = Decision(self.pattern_type, self.pattern_name or "", self.action, reason, self.waited)
        return (*self.earlier, last)

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (type(self), self.args, self.__dict__)


def _restore(kind: type[ResilienceError], args: tuple[object, ...], state: dict[str, object]) -> ResilienceError:
    error = kind.__new__(kind)  # not __init__: a subclass may have a signature of its own
    error.args = args
    error.__dict__.update(state)
    return error


UNSAID: Final = object()
"""The first argument of a `RejectionError` that has not said yet what it says."""

_said_and_unsaid: Final = BaseException.args.__get__  # type: ignore[attr-defined]  # the slot beneath the property


class RejectionError(ResilienceError):
    """The call was refused before it started.

    Most refusals are caught and never read. `kind.__new__(kind, UNSAID, say, *facts)` makes one at half the
    price that says what `say(*facts)` returns as soon as somebody reads of it.
    """

    action = "rejected"

    def __getattr__(self, name: str) -> object:
        if not self._say():
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        return getattr(self, name)

    def _say(self) -> bool:
        """Take over what was left unsaid; tell whether there was anything."""
        args = _said_and_unsaid(self)
        if not args or args[0] is not UNSAID:
            return False
        said = args[1](*args[2:])
        BaseException.args.__set__(self, said.args)  # type: ignore[attr-defined]
        self.__dict__ = {**said.__dict__, **self.__dict__}
        return True

    @property
    def args(self) -> tuple[object, ...]:
        """The message, alone in a tuple."""
        self._say()
        return _said_and_unsaid(self)  # type: ignore[no-any-return]

    @args.setter
    def args(self, args: tuple[object, ...]) -> None:
        self._say()
        BaseException.args.__set__(self, args)  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        self._say()
        return super().__repr__()


class CircuitBreakerOpenError(RejectionError):
    """The circuit is open, or half-open with all its probes under way."""

    pattern_type = "circuit_breaker"


class BulkheadFullError(RejectionError):
    """All slots are taken, and the queue is full or the wait was too long."""

    pattern_type = "bulkhead"


class RateLimitExceededError(RejectionError):
    """The permits of this period are spent."""

    pattern_type = "rate_limiter"


class LoadSheddingError(RejectionError):
    """The process is too busy for a call of this priority."""

    pattern_type = "load_shedding"


class BackpressureError(RejectionError):
    """Too much is pending, and it did not drain in time."""

    pattern_type = "backpressure"


class ConcurrencyLimitError(RejectionError, RuntimeError):
    """The adaptive limit is reached."""

    pattern_type = "adaptive_concurrency"


class OperationTimeoutError(ResilienceError, TimeoutError):
    """The attempt outlived its timeout, or the call its deadline."""

    pattern_type = "timeout"
    action = "cut"


class FallbackFailedError(ResilienceError):
    """The call failed, and so did everything that should have stood in for it."""

    pattern_type = "fallback"


class UnknownPolicyError(ResilienceError, KeyError):
    """No policy has this name; `near` are the names that resemble it."""

    def __init__(
        self,
        /,
        message: str = "",
        pattern_name: str | None = None,
        pattern_type: str | None = None,
        reason: IntEnum | None = None,
        *,
        near: Iterable[str] = (),
        policy: str | None = None,
        retry_after: float | None = None,
        **metadata: object,
    ) -> None:
        super().__init__(
            message, pattern_name, pattern_type, reason, policy=policy, retry_after=retry_after, **metadata
        )
        self.near: tuple[str, ...] = tuple(near)


class RevisionConflictError(ResilienceError):
    """Another document was applied in between; read the revision anew and decide again."""


OWN_ERRORS: dict[str, type[ResilienceError]] = {
    "circuit_breaker": CircuitBreakerOpenError,
    "bulkhead": BulkheadFullError,
    "rate_limiter": RateLimitExceededError,
    "load_shedding": LoadSheddingError,
    "backpressure": BackpressureError,
    "adaptive_concurrency": ConcurrencyLimitError,
    "timeout": OperationTimeoutError,
    "deadline": OperationTimeoutError,
    "fallback": FallbackFailedError,
}
"""What each pattern raises by itself, by the `pattern_type` string of errors and contexts."""
