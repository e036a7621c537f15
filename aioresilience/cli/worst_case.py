"""What a policy allows at worst: how long a call takes, how often it reaches the dependency, how many run at once."""

from __future__ import annotations

import math
from typing import Literal, TypeVar

from aioresilience.adaptive_concurrency import AdaptiveConcurrencyConfig
from aioresilience.backpressure import BackpressureConfig
from aioresilience.bulkhead import BulkheadConfig
from aioresilience.circuit_breaker import CircuitConfig
from aioresilience.config import PolicySpec
from aioresilience.fallback import FallbackConfig
from aioresilience.load_shedding import LoadSheddingConfig
from aioresilience.modes import Gradual, Mode
from aioresilience.pattern import PatternConfig
from aioresilience.rate_limiting import RateLimiterConfig
from aioresilience.retry import RetryConfig
from aioresilience.timeout import DeadlineConfig, TimeoutConfig
from aioresilience.units import format_duration

ConfigT = TypeVar("ConfigT", bound=PatternConfig)
Acts = Literal["always", "sometimes", "never"]
OWN_MODE_ONLY = (TimeoutConfig, DeadlineConfig, RetryConfig, FallbackConfig)
"""Patterns that go on working whatever the policy's mode says, unless they are set themselves."""


def acts(spec: PolicySpec, config: PatternConfig) -> Acts:
    """Tell whether a pattern acts on the calls of a policy, as the modes say."""
    mode: Mode = config.mode or ("enforce" if isinstance(config, OWN_MODE_ONLY) else spec.mode)
    if isinstance(mode, Gradual):
        return "always" if mode.enforce == 1 else "sometimes" if mode.enforce else "never"
    return "always" if mode == "enforce" else "never"


def acting(spec: PolicySpec, kind: type[ConfigT]) -> ConfigT | None:
    """Return the pattern of that kind that acts on at least some calls."""
    found = (config for _, config in spec.patterns if isinstance(config, kind))
    return next((config for config in found if acts(spec, config) != "never"), None)


def worst_case(spec: PolicySpec) -> str:
    """Say how long a call can take and how often it can reach the dependency."""
    seconds, attempts = latency_of(spec), attempts_of(spec)
    return f"{lasting(seconds)} per call, {attempts} attempt{'s' * (attempts != 1)}"


def lasting(seconds: float) -> str:
    """Write a latency."""
    return "no bound in time" if seconds == math.inf else format_duration(round(seconds, 3))


def attempts_of(spec: PolicySpec) -> int:
    """Return how often one call can reach the dependency."""
    retry = acting(spec, RetryConfig)
    if retry is None:
        return 1
    special = (retry.exception_strategies or {}).values()
    return max([retry.max_attempts, *(one.max_attempts for one in special if one.max_attempts is not None)])


def latency_of(spec: PolicySpec) -> float:
    """Return the longest time of one call in seconds, infinity where nothing bounds it.

    It grows from the call outwards: what bounds cuts it, what waits adds to it, and a retry repeats it.
    """
    longest = math.inf
    for _, config in reversed(spec.patterns):
        how = acts(spec, config)
        if how == "always":
            longest = min(longest, _bound(config))
        if how != "never":
            longest = _repeated(spec, config, longest) + _wait(config)
    return longest


def _bound(config: PatternConfig) -> float:
    if isinstance(config, (TimeoutConfig, DeadlineConfig)):
        return config.timeout
    limit = config.timeout if isinstance(config, CircuitConfig) else None
    return math.inf if limit is None else limit


def _repeated(spec: PolicySpec, config: PatternConfig, once: float) -> float:
    if not isinstance(config, RetryConfig):
        return once
    attempts = attempts_of(spec)
    return attempts * once + (attempts - 1) * longest_delay(config)


def longest_delay(retry: RetryConfig) -> float:
    """Return the longest wait between two attempts, in seconds: a server may ask for all of it."""
    special = (retry.exception_strategies or {}).values()
    return max([retry.max_delay, *(one.max_delay for one in special if one.max_delay is not None)])


def _wait(config: PatternConfig) -> float:
    if isinstance(config, BulkheadConfig):
        return _or_endless(config.timeout) if config.max_waiting else 0.0
    if isinstance(config, BackpressureConfig):
        return _or_endless(config.timeout)
    if isinstance(config, RateLimiterConfig):
        return config.wait or 0.0
    return _fallback(config) if isinstance(config, FallbackConfig) else 0.0


def _fallback(config: FallbackConfig) -> float:
    """Add up what each function of a fallback may take."""
    return sum(_or_endless(config.timeout) for one in config.substitutes() if one.call is not None)


def _or_endless(seconds: float | None) -> float:
    return math.inf if seconds is None else seconds


def at_once(spec: PolicySpec) -> float:
    """Return how many calls can run at the same time in one process, infinity where nothing limits it."""
    bulkhead, shedder = acting(spec, BulkheadConfig), acting(spec, LoadSheddingConfig)
    pressure, adaptive = acting(spec, BackpressureConfig), acting(spec, AdaptiveConcurrencyConfig)
    return min(
        bulkhead.max_concurrent if bulkhead else math.inf,
        shedder.max_requests if shedder else math.inf,
        pressure.max_pending if pressure else math.inf,
        adaptive.max_limit if adaptive else math.inf,
    )


def per_period(spec: PolicySpec) -> RateLimiterConfig | None:
    """Return the limit on calls that start in a time."""
    return acting(spec, RateLimiterConfig)
