"""What patterns decide, as lines of the standard library's log: one line where ten thousand calls are refused."""

import asyncio
import contextlib
import io
import logging
from collections.abc import Mapping

from aioresilience import Registry, RejectionError
from aioresilience.integrations.event_log import write_events

out = io.StringIO()  # your handler's stream
logger = logging.getLogger("shop.resilience")
logger.addHandler(logging.StreamHandler(out))
logger.setLevel(logging.INFO)


def write(level: int, event: str, fields: Mapping[str, object]) -> None:
    logger.log(level, "%s %s", event, " ".join(f"{name}={value}" for name, value in fields.items()))


async def search() -> str:
    return "found"


async def main() -> None:
    registry = Registry.from_text("{version: 1, policies: {search: {rate_limiter: {rate: 3/minute, scope: key}}}}")
    stop = write_events(write, every=3600)  # seconds: one line an hour for what comes again and again
    for _ in range(10_000):
        with contextlib.suppress(RejectionError):
            await registry.get("search").bind(key="alice\nERROR forged line").call(search)
        await asyncio.sleep(0)  # the log is written between the calls, never inside them
    stop()

    print(out.getvalue(), end="")
    assert len(out.getvalue().splitlines()) == 1
    assert "policy=search" in out.getvalue()
    assert "reason=RATE_LIMIT_EXCEEDED" in out.getvalue()


if __name__ == "__main__":
    asyncio.run(main())
