"""What happened, as events for people and as numbers for machines."""

import asyncio
import contextlib
import json

from aioresilience import CircuitBreakerEvent, Registry, RejectionError, ResilienceEvent, global_bus

registry = Registry.from_text(
    """
version: 1
policies:
  search:
    idempotent: true
    retry: {max_attempts: 2, initial_delay: 1ms}
    circuit_breaker: {window: 10s, failure_rate: 50%, minimum_calls: 4}
"""
)


async def search() -> None:
    raise ConnectionResetError("lost")


async def main() -> None:
    policy, told = registry.get("search"), []
    circuit = policy.circuit_breaker
    assert circuit is not None

    @circuit.events.on("state_change")
    async def alert(event: CircuitBreakerEvent) -> None:
        print(f"{event.pattern_name}: {event.old_state.name} → {event.new_state.name}")

    @global_bus.on("*")
    def log(event: ResilienceEvent) -> None:
        told.append(event.to_dict()["event_type"])

    for _ in range(5):
        with contextlib.suppress(ConnectionResetError, RejectionError):
            await policy.call(search)
    await asyncio.sleep(0.05)  # handlers run after the calls, never inside them
    global_bus.clear()

    assert told.count("state_change") == 1
    assert told.count("retry_attempt") >= 2
    counts = circuit.counts.as_dict()
    print(json.dumps(counts))
    assert counts["started"] == counts["succeeded"] + counts["failed"] + counts["neutral"] == 4
    assert counts["rejected"]["CIRCUIT_OPEN"] == 3
    assert json.dumps(registry.status())  # all of it, fit for a status page


if __name__ == "__main__":
    asyncio.run(main())
