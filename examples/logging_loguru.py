"""What patterns decide by loguru, and the library's own lines, such as those about reloads, along with them."""

import asyncio
import contextlib
import io
import logging
from collections.abc import Mapping

from aioresilience import Registry, RejectionError
from aioresilience.integrations.event_log import write_events
from aioresilience.logging import configure_logging

try:
    from loguru import logger
except ModuleNotFoundError:
    raise SystemExit("loguru is not installed: pip install loguru") from None

out = io.StringIO()  # sys.stderr in a service
logger.remove()
logger.add(out, format="{level} {message} {extra}", level="INFO")


class ToLoguru(logging.Handler):
    """Hands the library's own lines on."""

    def emit(self, record: logging.LogRecord) -> None:
        logger.log(record.levelname, "{}", record.getMessage())


def write(level: int, event: str, fields: Mapping[str, object]) -> None:
    logger.bind(**fields).log(logging.getLevelName(level), "{}", event)


async def quote() -> float:
    return 1.0837


async def main() -> None:
    configure_logging(handler=ToLoguru())
    text = "{version: 1, policies: {quotes: {bulkhead: %d}}}"
    registry = Registry.from_text(text % 1)
    policy = registry.get("quotes")
    stop = write_events(write, every=3600)  # seconds: one line an hour for what comes again and again
    async with policy.admit():
        with contextlib.suppress(RejectionError):
            await policy.call(quote)
    registry.apply(text % 2)
    await asyncio.sleep(0)
    stop()

    print(out.getvalue(), end="")
    assert "WARNING rejected" in out.getvalue()
    assert "'reason': 'CAPACITY_FULL'" in out.getvalue()
    assert "INFO reload_applied: generation 2" in out.getvalue()


if __name__ == "__main__":
    asyncio.run(main())
