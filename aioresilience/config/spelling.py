"""What a misspelt key may have meant: near names, other libraries' spellings, keys that are right at another level."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping

MAX_COMPARED = 80
MAX_LONGER = 5

FOREIGN: Mapping[str, str] = {
    # retry
    "max_retries": "max_attempts",
    "retries": "max_attempts",
    "max_retry": "max_attempts",
    "max_tries": "max_attempts",
    "max_retry_attempts": "max_attempts",
    "attempts": "max_attempts",
    "num_retries": "max_attempts",
    "retry_count": "max_attempts",
    "stop_after_attempt": "max_attempts",
    "wait_duration": "initial_delay",
    "wait_initial": "initial_delay",
    "initial_interval": "initial_delay",
    "initial_backoff": "initial_delay",
    "base_interval": "initial_delay",
    "delay": "initial_delay",
    "wait_max": "max_delay",
    "max_backoff": "max_delay",
    "max_interval": "max_delay",
    "max_wait": "max_delay",
    "exponential_max_wait_duration": "max_delay",
    "exponential_backoff_multiplier": "backoff_multiplier",
    "backoff_factor": "backoff_multiplier",
    "multiplier": "backoff_multiplier",
    "policy": "strategy",
    "backoff_type": "strategy",
    "randomized_wait_factor": "jitter",
    "wait_jitter": "jitter",
    "use_jitter": "jitter",
    "retry_exceptions": "retry_on_exceptions",
    "retry_on": "retry_on_exceptions",
    "retryable_exceptions": "retry_on_exceptions",
    "retry_on_result_predicate": "retry_on_result",
    # circuit breaker
    "failure_rate_threshold": "failure_rate",
    "failure_ratio": "failure_rate",
    "error_threshold_percentage": "failure_rate",
    "minimum_number_of_calls": "minimum_calls",
    "minimum_throughput": "minimum_calls",
    "request_volume_threshold": "minimum_calls",
    "sliding_window_size": "window",
    "sampling_duration": "window",
    "rolling_window": "window",
    "wait_duration_in_open_state": "recovery_timeout",
    "break_duration": "recovery_timeout",
    "reset_timeout": "recovery_timeout",
    "open_timeout": "recovery_timeout",
    "permitted_number_of_calls_in_half_open_state": "half_open_max_calls",
    "half_open_requests": "half_open_max_calls",
    "max_wait_duration_in_half_open_state": "half_open_timeout",
    "fail_max": "failure_threshold",
    "consecutive5xx_errors": "failure_threshold",
    "consecutive_5xx": "failure_threshold",
    "consecutive_5xx_errors": "failure_threshold",
    "base_ejection_time": "recovery_timeout",
    "consecutive_failures": "failure_threshold",
    "max_failures": "failure_threshold",
    "record_exceptions": "failure_exceptions",
    "expected_exception": "failure_exceptions",
    "slow_call_rate_threshold": "slow_call_rate",
    "slow_call_duration_threshold": "slow_call_duration",
    # bulkhead
    "max_concurrent_calls": "max_concurrent",
    "max_concurrency": "max_concurrent",
    "concurrency": "max_concurrent",
    "max_parallelization": "max_concurrent",
    "max_parallel_calls": "max_concurrent",
    "max_connections": "max_concurrent",
    "max_queuing_actions": "max_waiting",
    "max_queue": "max_waiting",
    "queue_size": "max_waiting",
    "queue_limit": "max_waiting",
    "max_requests": "max_concurrent",
    "max_pending_requests": "max_waiting",
    "http1_max_pending_requests": "max_waiting",
    "max_wait_duration": "timeout",
    # rate limiter
    "limit_for_period": "permits",
    "permit_limit": "permits",
    "limit": "permits",
    "limit_refresh_period": "per",
    "period": "per",
    "requests_per_second": "rate",
    "requests": "rate",
    "rps": "rate",
    "bucket_capacity": "burst",
    # timeout
    "timeout_duration": "timeout",
    "general": "timeout",
    "seconds": "timeout",
    "total_timeout": "deadline",
    # the policy and the file
    "breaker": "circuit_breaker",
    "circuitbreaker": "circuit_breaker",
    "circuit_breakers": "circuit_breaker",
    "circuit": "circuit_breaker",
    "ratelimiter": "rate_limiter",
    "rate_limit": "rate_limiter",
    "throttle": "rate_limiter",
    "time_limiter": "timeout",
    "timelimiter": "timeout",
    "load_shedding": "load_shedder",
    "concurrency_limiter": "adaptive_concurrency",
    "inherits": "extends",
    "base_config": "extends",
    "extend": "extends",
    "method": "call",
    "function": "call",
    "envs": "environments",
    "dry_run": "observe",
    "shadow": "observe",
    "timeout_policy": "timeout",
    "circuit_breaker_policy": "circuit_breaker",
    "includes": "include",
    "import": "include",
    "resiliency": "policies",
    "exceptions": "retry_on_exceptions",
    "shared": "use",
    "ref": "use",
    "redis": "backend",
    "store": "backend",
    "storage": "backend",
    "cpu": "cpu_threshold",
    "memory": "memory_threshold",
    "retry_if_exception_type": "retry_on_exceptions",
    "wait_exponential": "initial_delay",
}
"""Spellings of other libraries, in lower case with underscores, and what they are called here."""

FOREIGN_BLOCKS: Mapping[str, str] = {
    "retries": "retry",
    "retry_policy": "retry",
    "retrying": "retry",
    "outlier_detection": "circuit_breaker",
    "circuit_breaking": "circuit_breaker",
    "timeouts": "timeout",
    "max_connections": "bulkhead",
    "max_concurrent_requests": "bulkhead",
    "rate_limits": "rate_limiter",
}
"""The same for keys of a policy that mean something else inside of a pattern."""

_NO_HEDGING = "calls are not doubled here: delete it; a retry tries again once a call has failed"
_NO_CACHE = "answers are not kept here: delete it; a fallback may call a function of yours that keeps them"

TOLD: Mapping[str, str] = {
    **dict.fromkeys(("hedge", "hedging", "hedge_policy"), _NO_HEDGING),
    **dict.fromkeys(("cache", "caching", "ttl", "cache_ttl"), _NO_CACHE),
    "name": "the key before the block is the name; delete this",
    "enabled": "write mode: off to switch it off, or leave the block out",
    "enable": "write mode: off to switch it off, or leave the block out",
    "disabled": "write mode: off to switch it off, or leave the block out",
    "backoff": "write initial_delay for the first pause, and strategy for how pauses grow",
    "host": "write one url, as in redis://HOST:6379/0",
    "port": "write one url, as in redis://HOST:6379/0",
    "env": 'write "${NAME}" as the value, without a block',
    "enable_exponential_backoff": "write strategy: exponential, which is the default",
    "automatic_transition_from_open_to_half_open_enabled": "delete it: it is always so here",
    **dict.fromkeys(
        ("ignore_exceptions", "ignored_exceptions", "exclude", "exclude_exceptions", "excluded_exceptions"),
        "name them in the policy under classify: {neutral: {exceptions: […]}}",
    ),
    **dict.fromkeys(
        ("per_try_timeout", "per_attempt_timeout"),
        "write timeout in the policy, beside the retry: it bounds an attempt",
    ),
    **dict.fromkeys(
        ("retry_on_status", "status_codes", "retry_on_status_codes"),
        "name them in the policy under classify: {failure: {status: […]}}",
    ),
    "sliding_window_type": "delete it: a window of 30s counts time, one of 100 counts calls",
    "register_health_indicator": "delete it: metrics and status are there for every policy",
    "unit": "write rate: 100/minute, or another period",
    "reraise": "delete it: the last error is always raised",
}
"""What to do about keys that have no counterpart here."""


def suggest(word: str, valid: Collection[str]) -> str | None:
    """Return the valid name that `word` most likely meant, the same one every time; None where none is near."""
    plain = _plain(word)
    for name in sorted(valid):
        if _plain(name) == plain:
            return name
    for foreign in (FOREIGN.get(plain), FOREIGN_BLOCKS.get(plain)):
        if foreign in valid:
            return foreign
    spelt = {_plain(name): name for name in sorted(valid, reverse=True)}
    near = difflib.get_close_matches(plain[:MAX_COMPARED], sorted(spelt), n=1, cutoff=0.7)
    return spelt[near[0]] if near else None


def hint_for_key(word: str, valid: Collection[str], elsewhere: Mapping[str, Collection[str]] | None = None) -> str:
    """Return one sentence that helps with an unknown key; empty where nothing is known.

    `elsewhere` maps the name of each other level to the keys that are valid there.
    """
    key, colon, _ = word.partition(":")
    if colon and key:
        return f"write a space after the ':' of '{key[:MAX_COMPARED]}:'"
    for level, names in (elsewhere or {}).items():
        if word in names:
            return f"'{word}' belongs under {level}"
    plain = _plain(word)
    if plain in TOLD:
        return TOLD[plain]
    meant = suggest(word, valid)
    if meant is None:
        return _foreign_level(word, elsewhere or {}) or _longer(plain, valid)
    if meant in (FOREIGN.get(plain), FOREIGN_BLOCKS.get(plain)):
        return f"'{meant}' is the name for it here"
    return f"did you mean '{meant}'?"


def _foreign_level(word: str, elsewhere: Mapping[str, Collection[str]]) -> str:
    foreign = FOREIGN.get(_plain(word))
    for level, names in elsewhere.items():
        if foreign in names:
            return f"'{foreign}' under {level} is the name for it here"
    return ""


def _longer(plain: str, valid: Collection[str]) -> str:
    """Recognise a name that lacks some of its words, such as threshold."""
    words = set(plain.split("_"))
    longer = sorted(name for name in valid if words < set(name.split("_")))
    *most, last = longer or [""]
    names = f"{', '.join(most)} or {last}" if most else last
    return f"did you mean {names}?" if 0 < len(longer) <= MAX_LONGER else ""


def _plain(word: str) -> str:
    """Bring camelCase, kebab-case and spaces to lower case with underscores."""
    word = word[:MAX_COMPARED]
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[-\s.]", "_", word).lower()
