"""Ready-made retries, and retries as decorators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import ParamSpec, TypeVar

from aioresilience import callables
from aioresilience.retry.config import RetryConfig, RetryStrategy
from aioresilience.retry.pattern import RetryPolicy

P = ParamSpec("P")
T = TypeVar("T")


class RetryPolicies:
    """Retries for usual cases; each call makes a new one."""

    @staticmethod
    def default() -> RetryPolicy:
        """Three attempts, from one second on, doubling."""
        return RetryPolicy(RetryConfig(max_attempts=3, initial_delay=1.0, max_delay=60.0, backoff_multiplier=2.0))

    @staticmethod
    def aggressive() -> RetryPolicy:
        """Five attempts, from a tenth of a second on, doubling up to ten seconds."""
        return RetryPolicy(RetryConfig(max_attempts=5, initial_delay=0.1, max_delay=10.0, backoff_multiplier=2.0))

    @staticmethod
    def conservative() -> RetryPolicy:
        """Three attempts, from two seconds on, growing evenly up to thirty seconds."""
        return RetryPolicy(
            RetryConfig(max_attempts=3, initial_delay=2.0, max_delay=30.0, strategy=RetryStrategy.LINEAR, jitter=0.3)
        )

    @staticmethod
    def network() -> RetryPolicy:
        """Four attempts for network errors, from half a second on, growing by 2.5 up to fifteen seconds."""
        return RetryPolicy(
            RetryConfig(
                max_attempts=4,
                initial_delay=0.5,
                max_delay=15.0,
                backoff_multiplier=2.5,
                retry_on_exceptions=(ConnectionError, TimeoutError, OSError),
            )
        )


def retry(
    max_attempts: int = 3,
    initial_delay: float = 1.0,
    max_delay: float = 60.0,
    backoff_multiplier: float = 2.0,
    strategy: RetryStrategy = RetryStrategy.EXPONENTIAL,
    jitter: float = 0.1,
    retry_on_exceptions: tuple[type[BaseException], ...] | None = (Exception,),
    retry_on_result: Callable[[object], object] | None = None,
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[object, object, T]]]:
    """Retry every call of the decorated async function; delays in seconds. Found as its attribute `retry_policy`."""
    config = RetryConfig(
        max_attempts=max_attempts,
        initial_delay=initial_delay,
        max_delay=max_delay,
        backoff_multiplier=backoff_multiplier,
        strategy=strategy,
        jitter=jitter,
        retry_on_exceptions=retry_on_exceptions,
        retry_on_result=retry_on_result,
    )

    def decorator(func: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[object, object, T]]:
        return with_retry(RetryPolicy(config, name=callables.name_of(func)))(func)

    return decorator


def with_retry(policy: RetryPolicy) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Coroutine[object, object, T]]]:
    """Send every call of the decorated async function through `policy`."""

    def decorator(func: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[object, object, T]]:
        wrapper = callables.decorate(func, policy.execute, "retry")
        wrapper.retry_policy = policy  # type: ignore[attr-defined]
        return wrapper

    return decorator
