"""Finding out whether a server that was away is well again: it answers quickly, and takes writes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from aioresilience.backends.client import BackendError, Client, Node
from aioresilience.backends.config import BackendConfig
from aioresilience.backends.presence import Presence

PROBES: Final = 3
"""Answers of which one must come quickly."""


async def found(
    config: BackendConfig, nodes: Sequence[Node], presence: Presence, suspect: bytes | None
) -> Client | None:
    """Return connections to a server that is well, None where it is not yet.

    `suspect` is a key that was not answered: of a cluster, its node is asked too.
    """
    try:
        client = Client(config, nodes)
    except (OSError, ValueError):
        return None
    well = False
    try:
        well = await _answers_well(client, config, presence, suspect)
    finally:
        if not well:
            await client.close()
    return client if well else None


async def _answers_well(client: Client, config: BackendConfig, presence: Presence, suspect: bytes | None) -> bool:
    for _ in range(PROBES):
        begun = time.monotonic()
        try:
            async with asyncio.timeout(config.timeout):
                await presence.say(client)
                if suspect is not None:
                    await presence.try_writing(client, suspect)
        except (BackendError, TimeoutError):
            return False
        if time.monotonic() - begun <= config.slow:
            return True
    return False
