"""What patterns decide, as JSON by structlog."""

import asyncio
import contextlib
import io
import json
from collections.abc import Mapping

from aioresilience import Registry, RejectionError
from aioresilience.integrations.event_log import write_events

try:
    import structlog
except ModuleNotFoundError:
    raise SystemExit("structlog is not installed: pip install structlog") from None

out = io.StringIO()  # sys.stdout in a service
structlog.configure(
    processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
    logger_factory=structlog.PrintLoggerFactory(out),
)
logger = structlog.get_logger(component="resilience")


def write(level: int, event: str, fields: Mapping[str, object]) -> None:
    logger.log(level, event, **fields)


async def broken() -> None:
    raise ConnectionResetError("lost\n{}")


async def main() -> None:
    registry = Registry.from_text(
        "{version: 1, policies: {psp: {circuit_breaker: {failure_threshold: 2, recovery_timeout: 60s}}}}"
    )
    stop = write_events(write, every=3600)  # seconds: one line an hour for what comes again and again
    for _ in range(100):
        with contextlib.suppress(ConnectionResetError, RejectionError):
            await registry.get("psp").call(broken)
        await asyncio.sleep(0)
    stop()

    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    print(out.getvalue(), end="")
    assert [line["event"] for line in lines] == ["state_change", "rejected"]
    assert lines[0]["new_state"] == "open"
    assert lines[1]["level"] == "warning"


if __name__ == "__main__":
    asyncio.run(main())
