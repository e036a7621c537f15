"""What a user may choose about exceptions, and what callbacks are told."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import IntEnum

from aioresilience.events.facts import plain_fields

Predicate = Callable[[BaseException], bool]
Transformer = Callable[[BaseException | None, "ExceptionContext"], BaseException]
Callback = Callable[["ExceptionContext"], object]
ExceptionClasses = type[Exception] | tuple[type[Exception], ...]


@dataclass(frozen=True, slots=True)
class ExceptionContext:
    """What a callback or a transformer is told."""

    pattern_name: str
    pattern_type: str
    reason: IntEnum
    original_exception: BaseException | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """Return all fields, fit for JSON; the reason is its name."""
        return plain_fields(self, [item.name for item in fields(self)]) | {"reason": self.reason.name}


@dataclass(frozen=True, slots=True)
class ExceptionConfig:
    """Choose which exceptions a pattern handles, who is told, and what is raised.

    `exception_transformer(exception_or_None, context)` returns the exception to raise, `exception_type` is the class
    to raise; the transformer wins. `on_exception(context)` may be async. Raises TypeError or ValueError for what
    cannot work.
    """

    exception_type: type[Exception] | None = None
    exception_transformer: Transformer | None = None
    on_exception: Callback | None = None
    handled_exceptions: ExceptionClasses | None = None
    exception_predicate: Predicate | None = None

    def __post_init__(self) -> None:
        """Refuse what would only fail at the first exception."""
        if self.exception_type is not None:
            _check_class("exception_type", self.exception_type)
        _check_plain("exception_transformer", self.exception_transformer)
        _check_plain("exception_predicate", self.exception_predicate)
        if self.on_exception is not None and not callable(self.on_exception):
            raise TypeError(f"on_exception must be callable, not {self.on_exception!r}")
        if self.handled_exceptions is not None:
            object.__setattr__(self, "handled_exceptions", _classes(self.handled_exceptions))


def create_exception_config(
    exception_type: type[Exception] | None = None,
    exception_transformer: Transformer | None = None,
    on_exception: Callback | None = None,
    handled_exceptions: ExceptionClasses | None = None,
    exception_predicate: Predicate | None = None,
) -> ExceptionConfig:
    """Return an ExceptionConfig of these fields."""
    return ExceptionConfig(exception_type, exception_transformer, on_exception, handled_exceptions, exception_predicate)


def _check_class(name: str, kind: object) -> None:
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        raise TypeError(f"{name} takes Exception classes, not {kind!r}")


def _classes(given: object) -> tuple[type[Exception], ...]:
    kinds = tuple(given) if isinstance(given, list | tuple | set | frozenset) else (given,)
    if not kinds:
        raise ValueError("handled_exceptions names no exception; leave it out to handle them all")
    for kind in kinds:
        _check_class("handled_exceptions", kind)
    return kinds


def _check_plain(name: str, function: object) -> None:
    if function is None:
        return
    if not callable(function) or inspect.iscoroutinefunction(function):
        raise TypeError(f"{name} must be a plain function, not {function!r}")
