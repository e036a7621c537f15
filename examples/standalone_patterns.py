"""The patterns without a file: as decorators, as objects, and composed by hand."""

import asyncio
import contextlib

from aioresilience import (
    Bulkhead,
    BulkheadConfig,
    BulkheadFullError,
    CircuitBreaker,
    CircuitBreakerOpenError,
    CircuitConfig,
    OperationTimeoutError,
    Policy,
    RetryConfig,
    RetryPolicy,
    TimeoutConfig,
    TimeoutManager,
    fallback,
    retry,
    timeout,
)


async def decorators() -> None:
    attempts = 0

    @fallback("from yesterday")
    @retry(max_attempts=3, initial_delay=0.001)
    @timeout(0.05)
    async def news() -> str:
        nonlocal attempts
        attempts += 1
        await asyncio.sleep(1)
        return "from today"

    assert await news() == "from yesterday"
    assert attempts == 3


async def objects() -> None:
    async def broken() -> None:
        raise ConnectionError("refused")

    circuit = CircuitBreaker("billing", CircuitConfig(failure_threshold=3, recovery_timeout=30))
    for _ in range(3):
        with contextlib.suppress(ConnectionError):
            await circuit.call(broken)
    try:
        await circuit.call(broken)
    except CircuitBreakerOpenError as error:
        print(f"{error}; try again in {error.retry_after:.0f} s")

    places = Bulkhead("reports", BulkheadConfig(max_concurrent=1))
    async with places:
        try:
            async with places:
                raise AssertionError("a second place")
        except BulkheadFullError as error:
            print(error)


async def composed() -> None:
    policy = Policy(
        "inventory",
        [
            RetryPolicy(RetryConfig(max_attempts=2, initial_delay=0.001)),
            CircuitBreaker("inventory"),
            TimeoutManager(TimeoutConfig(timeout=0.02)),
        ],
        idempotent=True,
    )

    @policy
    async def stock(item: str) -> int:
        await asyncio.sleep(1)
        return 1

    try:
        await stock("bolt")
    except OperationTimeoutError as error:
        print(f"{policy!r}: {error}")
    assert policy.retry is not None
    assert policy.retry.metrics.total_attempts == 2


async def main() -> None:
    await decorators()
    await objects()
    await composed()


if __name__ == "__main__":
    asyncio.run(main())
