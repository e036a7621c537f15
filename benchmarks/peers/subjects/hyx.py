"""hyx."""

from hyx.bulkhead import bulkhead
from hyx.circuitbreaker import consecutive_breaker
from hyx.circuitbreaker.exceptions import BreakerFailing
from hyx.fallback import fallback
from hyx.ratelimit import tokenbucket
from hyx.retry import retry
from hyx.timeout import timeout


async def instead(*args, **kwargs):
    return 1


def limited(call):
    return tokenbucket(max_executions=1_000_000_000, per_time_secs=1, bucket_size=1_000_000_000)(call)


async def subjects(bare):
    five = limited(bulkhead(max_concurrency=100, max_capacity=200)(timeout(5)(bare)))
    return {
        "circuit breaker": consecutive_breaker()(bare),
        "open circuit": await rejected(),
        "retry": retry()(bare),
        "timeout": timeout(5)(bare),
        "bulkhead": bulkhead(max_concurrency=100, max_capacity=200)(bare),
        "fallback": fallback(instead)(bare),
        "rate limiter": limited(bare),
        "five patterns": retry()(consecutive_breaker()(five)),
    }


async def rejected():
    @consecutive_breaker(failure_threshold=1, recovery_time_secs=3600)
    async def call():
        raise ConnectionError

    async def refused():
        try:
            await call()
        except (ConnectionError, BreakerFailing):
            return

    await refused()
    await refused()
    return refused
