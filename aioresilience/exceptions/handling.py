"""What becomes of an exception: who is told, and what is raised in its place."""

from __future__ import annotations

import inspect
from enum import IntEnum

from aioresilience.events.drain import must_pass
from aioresilience.exceptions.choices import (
    Callback,
    ExceptionClasses,
    ExceptionConfig,
    ExceptionContext,
    Predicate,
    Transformer,
)
from aioresilience.exceptions.errors import OWN_ERRORS, ResilienceError
from aioresilience.exceptions.reasons import ExceptionAction
from aioresilience.logging import log_error


class ExceptionHandler:
    """Carry out an ExceptionConfig for one pattern.

    `replaces` tells whether `build` can return anything but what the pattern would raise by itself.
    """

    __slots__ = (
        "exception_predicate",
        "exception_transformer",
        "exception_type",
        "handled_exceptions",
        "on_exception",
        "pattern_name",
        "pattern_type",
        "replaces",
    )

    def __init__(
        self,
        pattern_name: str,
        pattern_type: str,
        handled_exceptions: ExceptionClasses | None = (Exception,),
        exception_predicate: Predicate | None = None,
        exception_type: type[Exception] | None = None,
        exception_transformer: Transformer | None = None,
        on_exception: Callback | None = None,
    ) -> None:
        config = ExceptionConfig(
            exception_type, exception_transformer, on_exception, handled_exceptions, exception_predicate
        )
        self.pattern_name = pattern_name
        self.pattern_type = pattern_type
        self.handled_exceptions = config.handled_exceptions or (Exception,)
        self.exception_predicate = exception_predicate
        self.exception_type = exception_type
        self.exception_transformer = exception_transformer
        self.on_exception = on_exception
        self.replaces = exception_type is not None or exception_transformer is not None

    @classmethod
    def of(cls, config: ExceptionConfig, pattern_name: str, pattern_type: str) -> ExceptionHandler:
        """Return the handler that carries out `config` for a pattern."""
        return cls(
            pattern_name,
            pattern_type,
            handled_exceptions=config.handled_exceptions or (Exception,),
            exception_predicate=config.exception_predicate,
            exception_type=config.exception_type,
            exception_transformer=config.exception_transformer,
            on_exception=config.on_exception,
        )

    def should_handle_exception(self, exc: BaseException) -> bool:
        """Say whether this exception counts; a predicate that raises is logged and objects to nothing."""
        if not isinstance(exc, self.handled_exceptions):
            return False
        if self.exception_predicate is None:
            return True
        try:
            return bool(self.exception_predicate(exc))
        except Exception as error:
            self._log(error, "exception_predicate")
            return True

    async def handle_exception(
        self,
        reason: IntEnum,
        original_exc: BaseException | None = None,
        message: str | None = None,
        **metadata: object,
    ) -> tuple[ExceptionAction, BaseException]:
        """Tell `on_exception`; return what is to be raised, and whether it stands in for the original."""
        made = await self.replacement(reason, original_exc, message, **metadata)
        original = made is original_exc or not self.replaces
        return ExceptionAction.RAISE_ORIGINAL if original else ExceptionAction.RAISE_TRANSFORMED, made

    async def replacement(
        self,
        reason: IntEnum,
        original_exc: BaseException | None = None,
        message: str | None = None,
        **metadata: object,
    ) -> BaseException:
        """Tell `on_exception`, and return the exception to raise."""
        context = self.context(reason, original_exc, **metadata)
        await self.notify(context)
        return self.build(context, original_exc, message=message)

    def context(
        self, reason: IntEnum, original_exc: BaseException | None = None, /, **metadata: object
    ) -> ExceptionContext:
        """Return what callback and transformer are told."""
        return ExceptionContext(self.pattern_name, self.pattern_type, reason, original_exc, metadata)

    async def notify(self, context: ExceptionContext) -> None:
        """Run `on_exception`; what it raises is logged, cancelling it is not swallowed."""
        if self.on_exception is not None:
            await run_callback(self.on_exception, context, "on_exception")

    def build(
        self,
        context: ExceptionContext,
        original: BaseException | None = None,
        *,
        message: str | None = None,
        default: BaseException | None = None,
    ) -> BaseException:
        """Return the exception to raise, without running the callback.

        That is what the transformer or `exception_type` makes; where neither is set or it fails, `default`, else the
        original, else the pattern's own error. What replaces an exception has it as its cause.
        """
        replaced = default if default is not None else original
        made = self._replacement(context, original, message, replaced) if self.replaces else None
        if made is None:
            return replaced if replaced is not None else _own_error(context, message)
        cause = original if original is not None else default
        if cause is not None and made is not cause and made.__cause__ is None:
            made.__cause__ = cause
        return made

    def _replacement(
        self,
        context: ExceptionContext,
        original: BaseException | None,
        message: str | None,
        replaced: BaseException | None,
    ) -> BaseException | None:
        try:
            if self.exception_transformer is not None:
                return _checked(self.exception_transformer(original, context))
            if self.exception_type is not None:
                return _instance(self.exception_type, context, message, replaced)
        except Exception as error:
            self._log(error, "exception_transformer" if self.exception_transformer else "exception_type")
        return None

    def _log(self, error: BaseException, source: str) -> None:
        log_error("aioresilience.exceptions", error, pattern=self.pattern_name, failed=source)


async def run_callback(callback: Callback, context: ExceptionContext, source: str = "callback") -> None:
    """Run a plain or async callback; what it raises is logged, cancelling it is not swallowed."""
    try:
        result = callback(context)
        if inspect.isawaitable(result):
            await result
    except BaseException as error:
        if isinstance(error, SystemExit) or must_pass(error):
            raise
        log_error("aioresilience.exceptions", error, pattern=context.pattern_name, failed=source)


def _own_error(context: ExceptionContext, message: str | None) -> BaseException:
    return _instance(OWN_ERRORS.get(context.pattern_type, ResilienceError), context, message, None)


def _instance(
    kind: type[Exception], context: ExceptionContext, message: str | None, replaced: BaseException | None
) -> Exception:
    text = message or (str(replaced) if replaced is not None else "") or _summary(context)
    made = _with_context(kind, text, context) if issubclass(kind, ResilienceError) else kind(text)
    if isinstance(made, ResilienceError) and isinstance(replaced, ResilienceError):
        made.policy, made.retry_after = replaced.policy, replaced.retry_after
        made.started, made.neutral = replaced.started, replaced.neutral
        made.earlier, made.waited = replaced.earlier, replaced.waited
    return made


def _with_context(kind: type[ResilienceError], text: str, context: ExceptionContext) -> ResilienceError:
    name, pattern_type, reason = context.pattern_name, context.pattern_type, context.reason
    try:
        made = kind(text, pattern_name=name, pattern_type=pattern_type, reason=reason)
    except TypeError:  # a subclass with a signature of its own
        made = kind(text)
        made.pattern_name, made.pattern_type, made.reason = name, pattern_type, reason
    made.metadata.update(context.metadata)
    return made


def _summary(context: ExceptionContext) -> str:
    reason = context.reason.name.lower().replace("_", " ")
    return f"{context.pattern_type} {context.pattern_name!r}: {reason}"


def _checked(made: object) -> BaseException | None:
    if made is None or isinstance(made, BaseException):
        return made
    raise TypeError(f"exception_transformer returned {made!r}, which cannot be raised")
