"""interlock-cb."""

from interlock import CircuitBreaker, CircuitOpenError, Pipeline


def subjects(bare):
    def piped(builder):
        pipeline = builder.build()

        async def call():
            return await pipeline.call(bare)

        return call

    return {
        "circuit breaker": CircuitBreaker(name="b")(bare),
        "open circuit": rejected(bare),
        "timeout": piped(Pipeline.builder().timeout(5.0)),
        "bulkhead": piped(Pipeline.builder().bulkhead(100)),
    }


def rejected(bare):
    breaker = CircuitBreaker(name="open")
    breaker.force_open()
    call = breaker(bare)

    async def refused():
        try:
            await call()
        except CircuitOpenError:
            return

    return refused
