from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for loopback: pytest's importlib mode adds no folder

from loopback import Server, client_of, serving


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving(Server()) as one:
        yield one


@pytest.fixture(params=["httpx", "httpx2", "aiohttp"])
def kind(request):
    return client_of(request.param)
