"""How long a policy can take at worst, and how often it can call."""

from __future__ import annotations

from collections.abc import Iterator

from aioresilience.bulkhead import BulkheadConfig
from aioresilience.config import PolicySpec
from aioresilience.fallback import FallbackConfig
from aioresilience.rate_limiting import RateLimiterConfig
from aioresilience.retry import RetryConfig
from aioresilience.timeout import DeadlineConfig, TimeoutConfig
from aioresilience.units import format_duration


def worst_case(spec: PolicySpec) -> Iterator[str]:
    """Yield a line for the attempts and one for the latency."""
    attempts, seconds = attempts_of(spec), latency_of(spec)
    yield f"worst case: {attempts} attempt{'s' * (attempts != 1)} per call"
    yield f"worst case: {'no bound in time' if seconds is None else format_duration(round(seconds, 3))} per call"


def attempts_of(spec: PolicySpec) -> int:
    """Return how often one call can reach the dependency."""
    return next((c.max_attempts for _, c in spec.patterns if isinstance(c, RetryConfig)), 1)


def latency_of(spec: PolicySpec) -> float | None:
    """Return the longest time of one call in seconds, None where nothing bounds it."""
    configs = [config for _, config in spec.patterns]
    deadline = next((c.timeout for c in configs if isinstance(c, DeadlineConfig)), None)
    inner = deadline if deadline is not None else _unbounded(spec)
    if inner is None:
        return None
    return inner + sum(_fallback(c) for c in configs if isinstance(c, FallbackConfig))


def _unbounded(spec: PolicySpec) -> float | None:
    """Add up attempts, waits and delays, None as soon as one part has no bound."""
    configs = [config for _, config in spec.patterns]
    timeout = next((c.timeout for c in configs if isinstance(c, TimeoutConfig)), None)
    waits = [_wait(c) for c in configs]
    if timeout is None or None in waits:
        return None
    attempts = attempts_of(spec)
    delay = sum(c.max_delay * (attempts - 1) for c in configs if isinstance(c, RetryConfig))
    return attempts * (timeout + sum(wait for wait in waits if wait is not None)) + delay


def _wait(config: object) -> float | None:
    if isinstance(config, BulkheadConfig):
        return config.timeout if config.max_waiting else 0.0
    if isinstance(config, RateLimiterConfig):
        return config.wait or 0.0
    return 0.0


def _fallback(config: FallbackConfig) -> float:
    return getattr(config, "timeout", None) or 0.0
