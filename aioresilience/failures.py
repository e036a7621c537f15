"""What counts as a failure: one rule for every pattern of a policy."""

from __future__ import annotations

import asyncio
import enum
import functools
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from aioresilience.exceptions import OperationTimeoutError, RejectionError, ResilienceError
from aioresilience.logging import log_error
from aioresilience.scope import Scope, cut_by

ErrorPredicate = Callable[[BaseException], bool]
SERVER_ERRORS: Final = frozenset(range(500, 600))


class Outcome(enum.Enum):
    """How a call ended, as the guards see it."""

    SUCCESS = "success"
    FAILURE = "failure"
    THROTTLE = "throttle"
    """The server asked for less: retried, shrinks the adaptive limit, no failure for the breaker."""
    NEUTRAL = "neutral"
    REJECTED = "rejected"
    """A pattern further in refused: the function never started, so what was charged is given back."""


SUCCESS: Final = Outcome.SUCCESS
FAILURE: Final = Outcome.FAILURE
THROTTLE: Final = Outcome.THROTTLE
NEUTRAL: Final = Outcome.NEUTRAL
REJECTED: Final = Outcome.REJECTED


class ExceptionName:
    """The dotted path of an exception class whose module may not be imported yet.

    It is looked up in `sys.modules` when an exception is first matched, and never imported.
    """

    __slots__ = ("path", "resolved")

    def __init__(self, path: str) -> None:
        self.path = path
        self.resolved: type[BaseException] | None = None

    def resolve(self) -> type[BaseException] | None:
        """Return the class once its module is loaded, else None."""
        if self.resolved is None:
            module, _, name = self.path.rpartition(".")
            found = getattr(sys.modules.get(module), name, None)
            if isinstance(found, type) and issubclass(found, BaseException):
                self.resolved = found
        return self.resolved

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ExceptionName) and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __repr__(self) -> str:
        return f"ExceptionName({self.path!r})"


ExceptionType = type[BaseException] | ExceptionName


class Matcher:
    """Tells whether an error is of one of the listed kinds."""

    __slots__ = ("_names", "_types")

    def __init__(self, kinds: Iterable[ExceptionType]) -> None:
        kinds = tuple(kinds)
        self._types = tuple(kind for kind in kinds if isinstance(kind, type))
        self._names = tuple(kind for kind in kinds if isinstance(kind, ExceptionName))

    def matches(self, error: BaseException) -> bool:
        """Return whether `error` is an instance of a listed class or of a name that resolves to one."""
        if isinstance(error, self._types):
            return True
        return any(isinstance(error, found) for name in self._names if (found := name.resolve()) is not None)

    @property
    def pending(self) -> tuple[str, ...]:
        """The dotted paths whose module nobody has imported yet."""
        return tuple(name.path for name in self._names if name.resolve() is None)


def status_of(thing: object) -> int | None:
    """Read an HTTP status from a response, or from an error that carries one.

    `status_code` (httpx, requests, Starlette) is looked at before `status` (aiohttp).
    """
    status = _own_status(thing)
    return _own_status(_peek(thing, "response")) if status is None else status


def _own_status(thing: object) -> int | None:
    for name in ("status_code", "status"):
        value = _peek(thing, name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def _peek(holder: object, name: str) -> object:
    """Read an attribute of somebody else's object, whose property may raise."""
    try:
        return getattr(holder, name, None)
    except Exception:
        return None


@dataclass(frozen=True, slots=True)
class Rule:
    """One class of `classify`: exceptions by kind, statuses by number."""

    exceptions: tuple[ExceptionType, ...] = ()
    status: frozenset[int] = frozenset()

    def matcher(self) -> Matcher | None:
        """Return what matches the listed exceptions, None where none is listed."""
        return Matcher(self.exceptions) if self.exceptions else None


class Classifier:
    """The `classify` of a policy: neutral wins, then throttle, then failure.

    With failure exceptions listed, unlisted ones are neutral; without, every Exception is a failure, except that of a
    function which could not take its arguments and so never began.
    """

    __slots__ = ("_failure", "_neutral", "_throttle", "_statuses", "reads_results", "rules")

    def __init__(self, failure: Rule = Rule(), throttle: Rule = Rule(), neutral: Rule = Rule()) -> None:
        self.rules = (failure, throttle, neutral)
        self._failure, self._throttle, self._neutral = failure.matcher(), throttle.matcher(), neutral.matcher()
        self._statuses = dict.fromkeys(failure.status, FAILURE)
        self._statuses.update(dict.fromkeys(throttle.status, THROTTLE))
        self._statuses.update(dict.fromkeys(neutral.status, NEUTRAL))
        self.reads_results = bool(self._statuses)

    def of_result(self, result: object) -> Outcome:
        """Judge what the function returned."""
        status = status_of(result) if self.reads_results else None
        return SUCCESS if status is None else self.of_status(status)

    def of_status(self, status: int) -> Outcome:
        """Judge a status."""
        return self._statuses.get(status, SUCCESS)

    @property
    def statuses(self) -> frozenset[int]:
        """The statuses that the rules name."""
        return frozenset(self._statuses)

    def of_error(self, error: BaseException) -> Outcome:
        """Judge what the function raised."""
        status = status_of(error) if self.reads_results else None
        by_status = None if status is None else self._statuses.get(status)
        if by_status is NEUTRAL or _matches(self._neutral, error):
            return NEUTRAL
        if by_status is THROTTLE or _matches(self._throttle, error):
            return THROTTLE
        if by_status is FAILURE:
            return FAILURE
        if self._failure is None:
            return NEUTRAL if is_misfit(error) else FAILURE
        return FAILURE if self._failure.matches(error) else NEUTRAL

    def of_answers(self) -> Classifier:
        """Return the rules for what a server answers itself: every 5xx that these do not name is a failure."""
        failure, throttle, neutral = self.rules
        return Classifier(Rule(failure.exceptions, failure.status | SERVER_ERRORS), throttle, neutral)

    @property
    def pending(self) -> tuple[str, ...]:
        """The exception paths that are not resolved yet."""
        matchers = (self._failure, self._throttle, self._neutral)
        return tuple(path for matcher in matchers if matcher is not None for path in matcher.pending)


_HOME = os.path.join(os.path.dirname(__file__), "")


def is_named(error: BaseException, names: frozenset[tuple[str, str]]) -> bool:
    """Tell whether a class of the error goes by one of the names: top-level package and class, which need not exist."""
    return any((kind.__module__.partition(".")[0], kind.__qualname__) in names for kind in type(error).__mro__)


def is_misfit(error: BaseException) -> bool:
    """Tell whether this is the TypeError of a call whose arguments the function cannot take.

    Such an error has no frame but ours: the function never began.
    """
    if not isinstance(error, TypeError):
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_filename.startswith((_HOME, "<policy "))


def _matches(matcher: Matcher | None, error: BaseException) -> bool:
    return matcher is not None and matcher.matches(error)


def is_refusal(error: BaseException, started: float | None) -> bool:
    """Tell whether a pattern refused the call, be it with the error that its ExceptionConfig made of the refusal.

    `started` is when the function began, None if it never did.
    """
    return isinstance(error, RejectionError) or (started is None and isinstance(error.__cause__, RejectionError))


EVERY_EXCEPTION = Classifier()


@dataclass(frozen=True, slots=True)
class Judge:
    """Turns how one pattern's call ended into an Outcome: the pattern's own rule first, then `classify`.

    `attempt_timeout` (seconds) is what one attempt is granted: an attempt that a deadline cut before half of it
    had passed says nothing about the dependency.
    """

    classify: Classifier = EVERY_EXCEPTION
    exceptions: Matcher | None = None
    predicate: ErrorPredicate | None = None
    attempt_timeout: float | None = None

    def of_error(self, error: BaseException, started: float | None) -> Outcome:
        """Judge an error; `started` is when the function began, None if it never did."""
        if is_refusal(error, started):
            return REJECTED if started is None else NEUTRAL
        if isinstance(error, asyncio.CancelledError):
            return self.of_cut(cut_by(), started)
        if not isinstance(error, Exception) or (isinstance(error, ResilienceError) and error.neutral):
            return NEUTRAL
        if isinstance(error, OperationTimeoutError):
            return FAILURE
        outcome = self._of_exception(error)
        if outcome is not FAILURE or (scope := cut_by()) is None:
            return outcome
        return self.of_cut(scope, started)  # the function made an error of its own of our cut

    def of_cut(self, scope: Scope | None, started: float | None) -> Outcome:
        """Judge a cancelled call by the scope of ours that cut it; None means that the cancel came from outside."""
        if scope is None or scope.stalled:
            return NEUTRAL
        if not scope.is_deadline:
            return FAILURE
        if started is None:
            return NEUTRAL
        granted = scope.when - started
        return FAILURE if self.attempt_timeout is None or granted * 2 >= self.attempt_timeout else NEUTRAL

    def _of_exception(self, error: Exception) -> Outcome:
        if self.predicate is not None and not _ask(self.predicate, error):
            return NEUTRAL
        if self.exceptions is not None:
            return FAILURE if self.exceptions.matches(error) else NEUTRAL
        return FAILURE if self.predicate is not None else self.classify.of_error(error)


@functools.lru_cache(maxsize=256)
def judge_of(classify: Classifier, attempt_timeout: float | None) -> Judge:
    """Return the judge of the patterns without a rule of their own: one for all of them that are alike."""
    return Judge(classify, attempt_timeout=attempt_timeout)


def _ask(predicate: ErrorPredicate, error: Exception) -> bool:
    try:
        return bool(predicate(error))
    except Exception as broken:
        log_error("aioresilience.failures", broken, predicate=repr(predicate))
        return True
