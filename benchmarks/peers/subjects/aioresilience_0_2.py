"""The release before this one."""

from aioresilience import (
    Bulkhead,
    BulkheadConfig,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitConfig,
    FallbackConfig,
    FallbackHandler,
    LocalRateLimiter,
    RateLimitExceededError,
    RetryConfig,
    RetryPolicy,
    TimeoutConfig,
    TimeoutManager,
    with_bulkhead,
    with_circuit_breaker,
    with_fallback_handler,
    with_retry,
    with_timeout_manager,
)

RATE = "1000000000/second"


def limited(call):
    limiter = LocalRateLimiter()

    async def checked():
        if not await limiter.check_rate_limit("everyone", RATE):
            raise RateLimitExceededError("too many")
        return await call()

    return checked


async def subjects(bare):
    made = {
        "circuit breaker": with_circuit_breaker(CircuitBreaker("b", CircuitConfig()))(bare),
        "retry": with_retry(RetryPolicy(RetryConfig()))(bare),
        "timeout": with_timeout_manager(TimeoutManager(TimeoutConfig(timeout=5.0)))(bare),
        "bulkhead": with_bulkhead(Bulkhead("b", BulkheadConfig(max_concurrent=100)))(bare),
        "fallback": with_fallback_handler(FallbackHandler(FallbackConfig(fallback=1)))(bare),
        "rate limiter": limited(bare),
        "open circuit": await rejected(bare),
    }
    five = with_bulkhead(Bulkhead("f", BulkheadConfig(max_concurrent=100)))(
        with_timeout_manager(TimeoutManager(TimeoutConfig(timeout=5.0)))(bare)
    )
    five = with_retry(RetryPolicy(RetryConfig()))(
        with_circuit_breaker(CircuitBreaker("f", CircuitConfig()))(limited(five))
    )
    return made | {"five patterns": five}


async def rejected(bare):
    circuit = CircuitBreaker("open", CircuitConfig(failure_threshold=1, recovery_timeout=3600.0))
    await circuit.on_failure()
    call = with_circuit_breaker(circuit)(bare)

    async def refused():
        try:
            await call()
        except CircuitBreakerOpenError:
            return

    return refused
