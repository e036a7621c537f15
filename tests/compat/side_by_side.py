"""The faults that 0.2.1 is known for, tried on whatever aioresilience the interpreter has.

Run it in an environment with 0.2.1 and in one with this version, and compare: `python tests/compat/side_by_side.py`.
Only names that both have are used.
"""

import asyncio
import json
import threading
import time
import warnings

from aioresilience import (
    Bulkhead,
    BulkheadConfig,
    CircuitBreaker,
    CircuitConfig,
    LocalRateLimiter,
    RateLimitConfig,
)
from aioresilience.load_shedding import SystemLoadShedder


async def permits_lost_by_cancelled_waiters():
    """Cancel 50 calls while they wait or run, then see how many of 5 places are left."""
    pool = Bulkhead("x", BulkheadConfig(max_concurrent=5, max_waiting=100))

    async def work():
        await asyncio.sleep(0.001)

    for turn in range(10):
        tasks = [asyncio.ensure_future(pool.execute(work)) for _ in range(10)]
        for _ in range(turn % 4):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0.02)
    done = [asyncio.ensure_future(pool.execute(work)) for _ in range(5)]
    _, hanging = await asyncio.wait(done, timeout=1)
    for task in hanging:
        task.cancel()
    await asyncio.gather(*done, return_exceptions=True)
    return len(hanging)


async def probes_of_a_half_open_breaker():
    """Let 1,000 callers meet a breaker that may probe once, with a slow handler attached."""
    circuit = CircuitBreaker("x", CircuitConfig(failure_threshold=1, recovery_timeout=0.05, half_open_max_calls=1))
    reached = 0

    async def slow(event):
        await asyncio.sleep(0.02)

    circuit.events.on("*")(slow)

    async def fail():
        raise ConnectionError

    async def probe():
        nonlocal reached
        reached += 1
        await asyncio.sleep(0.1)

    await asyncio.gather(circuit.call(fail), return_exceptions=True)
    await asyncio.sleep(0.06)
    await asyncio.gather(*(circuit.call(probe) for _ in range(1000)), return_exceptions=True)
    return reached


async def a_lambda_that_returns_a_coroutine():
    """Tell whether `call(lambda: work())` gives the result, or a coroutine that nobody awaited."""

    async def work():
        return "result"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = await CircuitBreaker("x", CircuitConfig()).call(lambda: work())
    if asyncio.iscoroutine(result):
        result.close()
        return "a coroutine that nobody awaited"
    return "awaited"


async def milliseconds_a_call_waits_for_a_slow_handler():
    """Measure one call with a handler that takes 100 ms."""
    circuit = CircuitBreaker("x", CircuitConfig())

    async def slow(event):
        await asyncio.sleep(0.1)

    circuit.events.on("*")(slow)

    async def work():
        return None

    begun = time.perf_counter()
    await circuit.call(work)
    return round((time.perf_counter() - begun) * 1000, 1)


async def longest_stall_of_the_loop_while_the_cpu_is_sampled():
    """Ask a system load shedder for admission for two seconds, and measure the loop's longest pause in ms."""
    shedder = SystemLoadShedder(check_interval=0.2)
    worst, end = 0.0, time.perf_counter() + 2
    while time.perf_counter() < end:
        begun = time.perf_counter()
        if await shedder.acquire():
            await shedder.release()
        await asyncio.sleep(0)
        worst = max(worst, time.perf_counter() - begun)
    return round(worst * 1000, 1)


async def admitted_of_a_key_whose_limiter_was_evicted():
    """Spend a limit of 3 a minute, use 10 other keys in a table of 5, and try again 3 times."""
    limiter = LocalRateLimiter(RateLimitConfig(max_limiters=5))
    for _ in range(3):
        await limiter.check_rate_limit("victim", "3/minute")
    for number in range(10):
        await limiter.check_rate_limit(f"other-{number}", "3/minute")
    return sum([await limiter.check_rate_limit("victim", "3/minute") for _ in range(3)])


FAULTS = (
    permits_lost_by_cancelled_waiters,
    probes_of_a_half_open_breaker,
    a_lambda_that_returns_a_coroutine,
    milliseconds_a_call_waits_for_a_slow_handler,
    longest_stall_of_the_loop_while_the_cpu_is_sampled,
    admitted_of_a_key_whose_limiter_was_evicted,
)


def main():
    """Print a line for each fault."""
    for fault in FAULTS:
        outcome = []

        def run(fault=fault, outcome=outcome):
            try:
                outcome.append(asyncio.run(asyncio.wait_for(fault(), 30)))
            except BaseException as error:
                outcome.append(f"{type(error).__name__}: {error}")

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(40)
        print(json.dumps({fault.__name__: outcome[0] if outcome else "hangs"}), flush=True)


if __name__ == "__main__":
    main()
