"""One server for the tests of a process, and backends that are closed after each test."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

from aioresilience.backends import Backend, BackendConfig
from tests.redis.servers import Server, server

PATIENT = 10.0
"""Seconds of budget where a test is not about time: the machine may be busy."""


@pytest.fixture(scope="session")
def one_server() -> Iterator[Server]:
    with server() as one:
        yield one


@pytest.fixture
def make(one_server: Server) -> Iterator[Callable[..., Backend]]:
    """Make backends on the server, under a prefix of the test's own."""
    prefix, made = f"test-{uuid.uuid4().hex[:8]}", []

    def make_one(**settings: object) -> Backend:
        given = {"url": one_server.url, "prefix": prefix, "timeout": PATIENT, "slow": PATIENT, **settings}
        backend = Backend("main", BackendConfig(**given))
        made.append(backend)
        return backend

    yield make_one
    for backend in made:
        backend.close()


@pytest.fixture
def backend(make: Callable[..., Backend]) -> Backend:
    return make()
