"""This library, under a file."""

from aioresilience import CircuitBreakerOpenError, Registry

YAML = """
version: 1
policies:
  circuit-breaker: {circuit_breaker: {window: 30s}}
  retry: {retry: 3}
  timeout: {timeout: 5s}
  bulkhead: {bulkhead: 100}
  fallback: {fallback: {value: 1}}
  rate-limiter: {rate_limiter: 1000000000/second}
  five-patterns: {retry: 3, circuit_breaker: {window: 30s}, rate_limiter: 1000000000/second, bulkhead: 100, timeout: 5s}
"""


def subjects(bare):
    registry = Registry.from_text(YAML, environ={})
    made = {name.replace("-", " "): registry.get(name)(bare) for name in registry}
    return made | {"open circuit": _rejected(bare)}


def _rejected(bare):
    policy = Registry.from_text("{version: 1, policies: {p: {circuit_breaker: {window: 30s}}}}", environ={}).get("p")
    policy.circuit_breaker.force_open("for the benchmark")
    call = policy(bare)

    async def rejected():
        try:
            await call()
        except CircuitBreakerOpenError:
            return

    return rejected
