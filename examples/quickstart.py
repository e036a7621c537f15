"""A file, a decorator, and what happens when the dependency dies: the circuit opens, and the fallback answers."""

import asyncio
import tempfile
from pathlib import Path

from aioresilience import configure, get_registry, resilient

FILE = """
version: 1
policies:
  weather:
    idempotent: true
    timeout: 500ms
    retry: {max_attempts: 2, initial_delay: 1ms}
    circuit_breaker: {window: 10s, failure_rate: 50%, minimum_calls: 10}
    fallback: {value: {forecast: unknown}}
"""

attempts = 0


@resilient("weather")
async def weather(city: str) -> dict[str, str]:
    """Ask a service that is down."""
    global attempts
    attempts += 1
    raise ConnectionResetError(f"no answer about {city}")


async def main() -> None:
    for _ in range(50):
        assert await weather("Bern") == {"forecast": "unknown"}
    circuit = get_registry().get("weather").circuit_breaker
    assert circuit is not None
    print(f"50 calls, {attempts} attempts reached the service, the circuit is {circuit.state.name.lower()}")
    assert circuit.state.name == "OPEN"
    assert attempts == 10


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "resilience.yaml")
        path.write_text(FILE, encoding="utf-8")
        configure(path)
        asyncio.run(main())
