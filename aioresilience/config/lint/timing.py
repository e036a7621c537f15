"""Rules about time: what can never fit into what."""

from __future__ import annotations

from collections.abc import Iterator

from aioresilience.bulkhead import BulkheadConfig
from aioresilience.circuit_breaker import CircuitConfig
from aioresilience.circuit_breaker.config import LastSeconds
from aioresilience.config.diagnostics import Diagnostic
from aioresilience.config.lint.subject import Subject, found, part
from aioresilience.config.spec import PolicySpec
from aioresilience.pattern import Futile
from aioresilience.rate_limiting import RateLimiterConfig
from aioresilience.retry import RetryConfig
from aioresilience.retry.delays import Delays
from aioresilience.timeout import DeadlineConfig, TimeoutConfig
from aioresilience.units import format_duration


def duration(seconds: float) -> str:
    """Write seconds for a message, to the millisecond."""
    return format_duration(round(seconds, 3))


def timeout_reaches_deadline(_: Subject, spec: PolicySpec) -> Iterator[Diagnostic]:
    """AR401: the timeout is as long as the deadline, so it never fires."""
    timeout, deadline = part(spec, TimeoutConfig), part(spec, DeadlineConfig)
    if timeout and deadline and timeout.timeout >= deadline.timeout:
        message = f"a timeout of {duration(timeout.timeout)} never fires under a deadline of "
        hint = "write a timeout below the deadline"
        yield found("AR401", spec, ("timeout", "timeout"), message + duration(deadline.timeout), hint)


def attempts_overrun_deadline(_: Subject, spec: PolicySpec) -> Iterator[Diagnostic]:
    """AR402: attempts times timeout, and the delays between them, are longer than the deadline."""
    timeout, deadline, retry = part(spec, TimeoutConfig), part(spec, DeadlineConfig), part(spec, RetryConfig)
    if not timeout or not deadline or not retry or retry.max_attempts == 1 or timeout.timeout >= deadline.timeout:
        return
    total = retry.max_attempts * timeout.timeout + total_delay(retry)
    if total > deadline.timeout:
        message = (
            f"{retry.max_attempts} attempts of {duration(timeout.timeout)} and their delays take up to "
            f"{duration(total)}, and the deadline is {duration(deadline.timeout)}"
        )
        hint = "lower max_attempts or timeout, or raise deadline"
        yield found("AR402", spec, ("retry", "max_attempts"), message, hint)


def total_delay(retry: RetryConfig) -> float:
    """Add up the delays before jitter, in seconds; past a thousand attempts the longest one counts."""
    delays, between = Delays.of(retry), retry.max_attempts - 1
    return sum(delays.plain(one) for one in range(1, min(between, 1000) + 1)) + max(0, between - 1000) * retry.max_delay


def futile(_: Subject, spec: PolicySpec) -> Iterator[Diagnostic]:
    """AR403, AR420: what a pattern's own fields make impossible, which Python refuses."""
    for key, config in spec.patterns:
        if config.mode != "off":
            yield from (_futile(spec, key, one) for one in config.futile())


def _futile(spec: PolicySpec, key: str, one: Futile) -> Diagnostic:
    code = "AR403" if one.field == "minimum_calls" else "AR420"
    return found(code, spec, (key, one.field), one.why, one.hint)


def window_never_fills(_: Subject, spec: PolicySpec) -> Iterator[Diagnostic]:
    """AR403: the rate limiter lets fewer calls into the window than the breaker waits for before its rates count."""
    breaker = part(spec, CircuitConfig)
    most = None if breaker is None else _most_calls(spec, breaker)
    if breaker and most is not None:
        yield from (_futile(spec, "circuit_breaker", one) for one in breaker.never_filled(most))


def slow_calls_are_cut(_: Subject, spec: PolicySpec) -> Iterator[Diagnostic]:
    """AR420: the timeout ends every call before the breaker calls it slow."""
    breaker, timeout = part(spec, CircuitConfig), part(spec, TimeoutConfig)
    if breaker and timeout and timeout.mode in (None, "enforce") and not any(breaker.futile()):
        yield from (_futile(spec, "circuit_breaker", one) for one in breaker.never_slow(timeout.timeout))


def _most_calls(spec: PolicySpec, breaker: CircuitConfig) -> int | None:
    limiter = part(spec, RateLimiterConfig)
    rate = getattr(limiter, "rate", None)
    if not isinstance(breaker.window, LastSeconds) or rate is None or part(spec, RetryConfig):
        return None
    if getattr(limiter, "scope", "") == "key" or ((limiter and limiter.mode) or spec.mode) != "enforce":
        return None
    return int((getattr(limiter, "burst", None) or rate.permits) + rate.permits * breaker.window.seconds / rate.period)


def window_under_timeouts(_: Subject, spec: PolicySpec) -> Iterator[Diagnostic]:
    """AR405: the breaker forgets a call about as fast as a call can time out."""
    breaker, timeout = part(spec, CircuitConfig), part(spec, TimeoutConfig)
    window = breaker.window if breaker else None
    if timeout and isinstance(window, LastSeconds) and window.seconds < 2 * timeout.timeout:
        message = f"a window of {window} is shorter than two timeouts of {duration(timeout.timeout)}"
        hint = f"write {duration(2 * timeout.timeout)} or more"
        yield found("AR405", spec, ("circuit_breaker", "window"), message, hint)


def wait_over_timeout(_: Subject, spec: PolicySpec) -> Iterator[Diagnostic]:
    """AR410: a call may wait longer for its place than it may then run."""
    bulkhead, timeout = part(spec, BulkheadConfig), part(spec, TimeoutConfig)
    if not bulkhead or not timeout or not bulkhead.max_waiting:
        return
    if bulkhead.timeout is None and not part(spec, DeadlineConfig):
        message = f"the wait for a place has no bound, and an attempt has {duration(timeout.timeout)}"
    elif bulkhead.timeout is not None and bulkhead.timeout > timeout.timeout:
        message = f"a wait of {duration(bulkhead.timeout)} is longer than the timeout of {duration(timeout.timeout)}"
    else:
        return
    yield found("AR410", spec, ("bulkhead", "timeout"), message, f"write {duration(timeout.timeout)} or less")
