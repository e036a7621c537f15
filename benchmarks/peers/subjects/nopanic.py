"""nopanic."""

from nopanic import CircuitOpen, bulkhead, circuit_breaker, fallback, rate_limit, retry, timeout


def subjects(bare):
    limited = rate_limit(1_000_000_000, per=1.0, burst=1_000_000_000)
    five = rate_limit(1_000_000_000, per=1.0, burst=1_000_000_000)(bulkhead(100, max_wait=0)(timeout(5.0)(bare)))
    return {
        "circuit breaker": circuit_breaker(name="b")(bare),
        "open circuit": rejected(bare),
        "retry": retry(attempts=3)(bare),
        "timeout": timeout(5.0)(bare),
        "bulkhead": bulkhead(100, max_wait=0)(bare),
        "fallback": fallback(1)(bare),
        "rate limiter": limited(bare),
        "five patterns": retry(attempts=3)(circuit_breaker(name="f")(five)),
    }


def rejected(bare):
    breaker = circuit_breaker(name="open")
    breaker.force_open()
    call = breaker(bare)

    async def refused():
        try:
            await call()
        except CircuitOpen:
            return

    return refused
