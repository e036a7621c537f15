"""Rate limiting: how many calls may start in a time, for a policy or for each key, rejecting or waiting."""

from aioresilience.exceptions import RateLimitExceededError, RateLimitReason
from aioresilience.rate_limiting.config import RateLimitConfig, RateLimiterConfig
from aioresilience.rate_limiting.fleet import FleetRateLimit
from aioresilience.rate_limiting.local import LocalRateLimiter, RateLimiter
from aioresilience.rate_limiting.pattern import MissingKeyError, RateLimit
from aioresilience.rate_limiting.redis_limiter import RedisRateLimiter

__all__ = [
    "FleetRateLimit",
    "LocalRateLimiter",
    "MissingKeyError",
    "RateLimit",
    "RateLimitConfig",
    "RateLimitExceededError",
    "RateLimitReason",
    "RateLimiter",
    "RateLimiterConfig",
    "RedisRateLimiter",
]
