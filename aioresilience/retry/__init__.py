"""Retry: call again what failed, after a growing delay, within a budget."""

from aioresilience.exceptions import RetryReason
from aioresilience.retry.budget import Budget
from aioresilience.retry.config import RetryBudget, RetryConfig, RetryOverrides, RetryStrategy
from aioresilience.retry.conveniences import RetryPolicies, retry, with_retry
from aioresilience.retry.delays import Delays, Schedule, Stop
from aioresilience.retry.pattern import RetryMetrics, RetryPolicy
from aioresilience.retry.run import RetryProgress

__all__ = [
    "Budget",
    "Delays",
    "RetryBudget",
    "RetryConfig",
    "RetryMetrics",
    "RetryOverrides",
    "RetryPolicies",
    "RetryPolicy",
    "RetryProgress",
    "RetryReason",
    "RetryStrategy",
    "Schedule",
    "Stop",
    "retry",
    "with_retry",
]
