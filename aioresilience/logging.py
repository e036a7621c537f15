"""What the library writes, and where: nothing, until somebody asks for it, but that a configuration file is broken.

Everything goes to loggers under `aioresilience`, which carry a `NullHandler`; errors go to the sink of
`set_error_handler` instead where one is set. Control characters and line breaks are escaped, so that no key, name
or message from outside can forge a line. An error that comes again and again from one place, such as a broken callback
at every call, is written five times in ten seconds at most; the next line says how many were left out.
"""

from __future__ import annotations

import inspect
import logging
import time
import traceback
from collections.abc import Callable
from contextlib import suppress

__all__ = [
    "configure_logging",
    "describe",
    "disable_logging",
    "escape",
    "is_logging_enabled",
    "log_error",
    "log_event",
    "set_error_handler",
]

_ROOT = logging.getLogger("aioresilience")
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_SILENT = logging.CRITICAL + 1

BURST = 5
PERIOD = 10.0
"""Lines about errors of one kind, and the seconds in which there are no more."""
MAX_KINDS = 256

_Kind = tuple[str, type[BaseException], str, int]
_kinds: dict[_Kind, list[float]] = {}
"""When the period began, lines written in it, and errors left out since the last line."""

_installed: logging.Handler | None = None
_sink: Callable[..., object] | None = None
_sink_takes_keywords = True

if not _ROOT.handlers:
    _ROOT.addHandler(logging.NullHandler())


def configure_logging(
    level: int | str = logging.INFO, handler: logging.Handler | None = None, format_string: str | None = None
) -> None:
    """Write the library's lines to `handler`, by default to standard error; a second call replaces the first."""
    global _installed
    chosen = handler if handler is not None else logging.StreamHandler()
    if format_string is not None or chosen.formatter is None:
        chosen.setFormatter(logging.Formatter(format_string or _FORMAT))
    _ROOT.setLevel(level)
    _uninstall()
    _ROOT.addHandler(chosen)
    _installed = chosen


def disable_logging() -> None:
    """Write nothing any more, neither to a handler nor to the sink of `set_error_handler`."""
    _uninstall()
    _ROOT.setLevel(_SILENT)
    set_error_handler(None)


def is_logging_enabled() -> bool:
    """Say whether a handler on the library's own logger writes anything."""
    return _ROOT.isEnabledFor(logging.CRITICAL) and any(map(_writes, _ROOT.handlers))


def set_error_handler(handler: Callable[..., object] | None) -> None:
    """Send errors to `handler(logger_name, exception, **context)` instead of the log; None goes back to the log.

    A handler without keywords gets the context as a third argument, a dict. When it raises, the log gets both errors.
    """
    global _sink, _sink_takes_keywords
    _check(handler)
    _sink_takes_keywords = handler is None or _takes_keywords(handler)
    _sink = handler


def log_error(logger_name: str, exception: BaseException, **context: object) -> None:
    """Report an error that was handled here and must not reach the caller; never raises."""
    sink = _sink
    if sink is not None:
        try:
            _tell(sink, logger_name, exception, context)
            return
        except Exception as error:
            _write(logger_name, logging.ERROR, f"error handler failed: {describe(error)}", error)
    with suppress(Exception):
        _write_some(logger_name, exception, context)


def _write_some(logger_name: str, exception: BaseException, context: dict[str, object]) -> None:
    """Write an error unless there were too many like it."""
    if not _heard(_logger(logger_name), logging.ERROR):
        return
    left_out = _left_out((logger_name, type(exception), *_place(exception)), time.monotonic())
    if left_out is None:
        return
    details = "".join(f" {key}={_text(value)}" for key, value in context.items())
    more = f" [{left_out} more like it were not written]" if left_out else ""
    message = describe(exception) + (f" ({details[1:]})" if details else "") + more
    _write(logger_name, logging.ERROR, message, exception)


def log_event(logger_name: str, level: int, message: str, *, urgent: bool = False) -> None:
    """Write one plain line; never raises.

    What is urgent goes to standard error where there is no handler at all, as Python does with other libraries' lines.
    """
    _write(logger_name, level, message, urgent=urgent)


def escape(text: str) -> str:
    r"""Write line breaks, control and direction characters as `\n`, `\x1b`, `\u202e`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def describe(error: BaseException) -> str:
    """Return `Type: message` on one line, whatever the error's own `__str__` does."""
    message = _text(error)
    return escape(f"{type(error).__name__}: {message}" if message else type(error).__name__)


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__}>"


def _uninstall() -> None:
    global _installed
    if _installed is not None:
        _ROOT.removeHandler(_installed)
        _installed = None


def _writes(handler: logging.Handler) -> bool:
    return not isinstance(handler, logging.NullHandler)


def _check(handler: object) -> None:
    if handler is not None and (not callable(handler) or inspect.iscoroutinefunction(handler)):
        raise TypeError(f"an error handler is a plain function (logger_name, exception, **context), not {handler!r}")


def _takes_keywords(handler: Callable[..., object]) -> bool:
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def _tell(sink: Callable[..., object], name: str, exception: BaseException, context: dict[str, object]) -> None:
    if _sink_takes_keywords:
        sink(name, exception, **context)
    else:
        sink(name, exception, context)


def _logger(name: str) -> logging.Logger:
    inside = name == _ROOT.name or name.startswith(_ROOT.name + ".")
    return logging.getLogger(name) if inside else _ROOT.getChild(escape(name))


def _heard(logger: logging.Logger, level: int) -> bool:
    if not logger.isEnabledFor(level):
        return False
    stage: logging.Logger | None = logger
    while stage is not None:
        if any(map(_writes, stage.handlers)):
            return True
        stage = stage.parent if stage.propagate else None
    return False


def _place(exception: BaseException) -> tuple[str, int]:
    """Return the file and line that an error was raised at."""
    trace = exception.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return ("", 0) if trace is None else (trace.tb_frame.f_code.co_filename, trace.tb_lineno)


def _left_out(kind: _Kind, now: float) -> int | None:
    """Return how many errors of that kind were left out before this one, None where it is to be left out too."""
    known = _kinds.get(kind)
    if known is None or now - known[0] >= PERIOD:
        _kinds.pop(kind, None)
        if len(_kinds) >= MAX_KINDS:
            _kinds.pop(next(iter(_kinds)), None)
        _kinds[kind] = [now, 1, 0]
        return 0 if known is None else int(known[2])
    if known[1] >= BURST:
        known[2] += 1
        return None
    known[1] += 1
    return 0


def _write(
    name: str, level: int, message: str, exception: BaseException | None = None, *, urgent: bool = False
) -> None:
    with suppress(Exception):  # a broken log handler must not reach the call that had something to say
        logger = _logger(name)
        heard = _heard(logger, level)
        if not heard and not (urgent and logger.isEnabledFor(level)):
            return
        info = None if exception is None else (type(exception), exception, exception.__traceback__)
        record = logger.makeRecord(logger.name, level, "(aioresilience)", 0, escape(message), (), info)
        if exception is not None:
            record.exc_text = _trace(exception)  # formatters take this text instead of making their own, unescaped one
        if heard:
            logger.handle(record)
        elif logging.lastResort is not None:
            logging.lastResort.handle(record)


def _trace(exception: BaseException) -> str:
    """Return the traceback, escaped and indented, so that no line of it can pass for a line of the log."""
    text = "".join(traceback.format_exception(exception)).rstrip("\n")
    return "\n".join(f"    {escape(line)}" for line in text.split("\n"))
