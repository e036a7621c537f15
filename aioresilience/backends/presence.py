"""A process in the eyes of its fleet: it says on the server that it is there, and learns how many there are."""

from __future__ import annotations

from typing import Final

from aioresilience.backends.client import Client
from aioresilience.backends.config import BackendConfig
from aioresilience.backends.scripts import FLEET

BEATS: Final = 3
"""Heartbeats that a process may miss before it is not counted any more."""


class Presence:
    """What one process says of itself, and `seen`, how many it last saw."""

    __slots__ = ("_member", "_prefix", "seen")

    def __init__(self, config: BackendConfig, member: str) -> None:
        self._prefix = config.prefix
        self._member = member
        self.seen: int | None = None

    def interval(self) -> float:
        """Return the seconds between two heartbeats: at most a hundred a second reach the server."""
        return max(1.0, (self.seen or 1) / 100)

    async def say(self, client: Client) -> None:
        """Say that this process is there, and learn how many there are."""
        self.seen = await self._announce(client, f"{self._prefix}:{{fleet}}".encode()) or None

    async def try_writing(self, client: Client, near: bytes) -> None:
        """Write where the key `near` is, of a cluster on that node; BackendError where that cannot be."""
        await self._announce(client, near.partition(b"}")[0] + b"}:probe")

    async def _announce(self, client: Client, key: bytes) -> int:
        return int(await client.run(FLEET, [key], [self._member, int(BEATS * self.interval() * 1000)]))
