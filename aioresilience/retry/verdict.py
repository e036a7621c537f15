"""What may be retried, and how long the server asks us to wait."""

from __future__ import annotations

import contextlib
import inspect
import re
import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC
from typing import Final

from aioresilience.calls import Exchange
from aioresilience.exceptions import OperationTimeoutError, TimeoutReason
from aioresilience.failures import (
    FAILURE,
    SUCCESS,
    THROTTLE,
    ExceptionName,
    Matcher,
    Outcome,
    is_misfit,
    is_named,
    is_refusal,
)
from aioresilience.logging import log_error
from aioresilience.pattern import Context
from aioresilience.retry.config import RetryConfig
from aioresilience.retry.delays import Delays
from aioresilience.scope import cut_by

NEVER_STARTED_TYPES: Final = (ConnectionRefusedError, socket.gaierror)
NEVER_STARTED_NAMES: Final = frozenset(
    {
        ("httpx", "ConnectError"),
        ("httpx", "ConnectTimeout"),
        ("httpx", "PoolTimeout"),
        ("httpx2", "ConnectError"),
        ("httpx2", "ConnectTimeout"),
        ("httpx2", "PoolTimeout"),
        ("aiohttp", "ClientConnectorError"),
        ("aiohttp", "ConnectionTimeoutError"),
    }
)
"""Top-level package and class, so that neither library need be there."""

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")


class Verdict:
    """Judges how attempts end, under the config and the policy of one layer."""

    __slots__ = ("_idempotent", "_own", "_predicate", "_rejections", "_strategies", "delays", "judge", "reads_results")

    def __init__(self, config: RetryConfig, context: Context) -> None:
        own = None if config.retry_on_exceptions is None else Matcher(config.retry_on_exceptions)
        self.judge = context.judge() if own is None else replace(context.judge(), exceptions=own)
        self.delays = Delays.of(config)
        self.reads_results = config.retry_on_result is not None or context.classify.reads_results
        self._own = own
        self._predicate: Callable[..., object] | None = config.retry_on_result
        self._rejections = config.retry_on_rejections
        self._idempotent = context.idempotent
        self._strategies = tuple(
            (kind, Delays.of(config, changed)) for kind, changed in (config.exception_strategies or {}).items()
        )

    def idempotent(self, exchange: Exchange | None) -> bool:
        """Tell whether a call may run twice: as its client says, else as the policy does; unsaid, it may."""
        said = None if exchange is None else exchange.idempotent
        return (self._idempotent if said is None else said) is not False

    def retries(self, error: Exception, started: float | None, exchange: Exchange | None = None) -> bool:
        """Tell whether an error is worth another attempt; `started` is when the function began, None if never."""
        if cut_by() is not None:  # the time around us is over, whatever the function made of the cancel
            return False
        if is_refusal(error, started):
            return self._rejections and (started is None or self.idempotent(exchange))
        if isinstance(error, OperationTimeoutError) and error.reason is TimeoutReason.DEADLINE_EXCEEDED:
            return False
        if is_misfit(error) or not self._is_listed(error):
            return False
        return self.idempotent(exchange) or never_started(error) or self._is_throttle(error)

    def _is_listed(self, error: Exception) -> bool:
        if self._own is not None:
            return self._own.matches(error)
        if isinstance(error, OperationTimeoutError):
            return True
        return self.judge.classify.of_error(error) in (FAILURE, THROTTLE)

    def _is_throttle(self, error: Exception) -> bool:
        return self.judge.classify.of_error(error) is THROTTLE

    async def unwanted(self, result: object, exchange: Exchange | None = None) -> bool:
        """Tell whether a result is worth another attempt; a predicate that raises is logged and wants none."""
        by_status = self.of_result(result)
        if not self.idempotent(exchange) and by_status is not THROTTLE:
            return False
        if self._predicate is None:
            return by_status in (FAILURE, THROTTLE)
        try:
            wanted = self._predicate(result)
            return bool(await wanted if inspect.isawaitable(wanted) else wanted)
        except Exception as broken:
            log_error("aioresilience.retry", broken, failed="retry_on_result")
            return False

    def of_result(self, result: object) -> Outcome:
        """Judge a result by its status."""
        classify = self.judge.classify
        return classify.of_result(result) if classify.reads_results else SUCCESS

    def delays_for(self, error: Exception | None) -> Delays:
        """Return the delays after an error: those of the nearest of its classes that has its own."""
        if error is None or not self._strategies:
            return self.delays
        known = {_resolved(kind): delays for kind, delays in self._strategies}
        return next((known[kind] for kind in type(error).__mro__ if kind in known), self.delays)


def _resolved(kind: type[BaseException] | ExceptionName) -> type[BaseException] | None:
    return kind.resolve() if isinstance(kind, ExceptionName) else kind


def never_started(error: Exception) -> bool:
    """Tell whether the request cannot have reached anybody: no connection was made, or none was free."""
    return isinstance(error, NEVER_STARTED_TYPES) or is_named(error, NEVER_STARTED_NAMES)


def retry_after_of(thing: object, wall: Callable[[], float]) -> float | None:
    """Return the seconds that an error, its response or a result asks us to wait, None where it says nothing.

    Read from an attribute `retry_after`, else from the header Retry-After (RFC 9110, 10.2.3): seconds or an HTTP-date.
    """
    found = _seconds(_peek(thing, "retry_after"), wall)
    if found is not None:
        return found
    for holder in (_peek(thing, "response"), thing):
        found = _seconds(_header(_peek(holder, "headers")), wall)
        if found is not None:
            return found
    return None


def _peek(thing: object, name: str) -> object:
    with contextlib.suppress(Exception):  # a property of somebody else's class
        return getattr(thing, name, None)
    return None


def _header(headers: object) -> object:
    get = _peek(headers, "get")
    if not callable(get):
        return None
    with contextlib.suppress(Exception):
        found: object = get("retry-after") or get("Retry-After")
        return found
    return None


def _seconds(value: object, wall: Callable[[], float]) -> float | None:
    if isinstance(value, str):
        return _read(value.strip(), wall)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        return None
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _read(text: str, wall: Callable[[], float]) -> float | None:
    if _NUMBER.fullmatch(text):
        return float(text)
    from email.utils import parsedate_to_datetime  # slow to import, and only a date needs it

    try:
        date = parsedate_to_datetime(text)
        date = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
        return max(0.0, date.timestamp() - wall())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
