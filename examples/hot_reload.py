"""Edit the file while the service runs: a broken edit is refused, a good one applied, and what is spent stays spent."""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

from aioresilience import Policy, RateLimitExceededError, Registry

FILE = """
version: 1
policies:
  mail:
    rate_limiter: {rate: 10/hour}
"""


async def send() -> None:
    """Stand for the real thing."""


def save(path: Path, rate: str) -> None:
    path.write_text(FILE.replace("10/hour", rate), encoding="utf-8")


async def rejected(policy: Policy, calls: int) -> int:
    refused = 0
    for _ in range(calls):
        try:
            await policy.call(send)
        except RateLimitExceededError:
            refused += 1
    return refused


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(4):
        while not happened():  # noqa: ASYNC110  # a service would listen to registry.events
            await asyncio.sleep(0.01)


async def main(path: Path) -> None:
    registry = Registry.from_file(path)
    mail = registry.get("mail")
    async with registry.watching():
        assert await rejected(mail, 12) == 2  # ten an hour, all spent

        save(path, "20/hours")
        await until(lambda: registry.status()["last_reload_successful"] is False)
        print(registry.status()["last_error"])
        assert registry.generation == 1

        save(path, "20/hour")
        await until(lambda: registry.generation == 2)
        assert await rejected(mail, 5) == 5  # the same handle, the new rate, and no free refill
        limiter = mail.rate_limiter
        assert limiter is not None
        print(f"generation {registry.generation}: {limiter.status()['rate']}, {limiter.status()['remaining']} left")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "resilience.yaml")
        save(file, "10/hour")
        asyncio.run(main(file))
