"""circuitbreaker."""

from circuitbreaker import CircuitBreaker, CircuitBreakerError


def subjects(bare):
    return {"circuit breaker": CircuitBreaker(name="b")(bare), "open circuit": rejected()}


def rejected():
    @CircuitBreaker(failure_threshold=1, recovery_timeout=3600, name="open")
    async def call():
        raise ConnectionError

    async def refused():
        try:
            await call()
        except (ConnectionError, CircuitBreakerError):
            return

    return refused
