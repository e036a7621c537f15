"""One dead host of ten: the others do not notice."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter

import httpx
import pytest
from loopback import Server, serving

from aioresilience import CircuitBreakerOpenError, Registry
from aioresilience.integrations.httpx import ResilienceTransport
from aioresilience.testing import VirtualClock

PARTITIONED = """
version: 1
policies:
  hosts:
    idempotent: true
    deadline: 20s
    timeout: 1s
    retry: {max_attempts: 2, initial_delay: 10ms, max_delay: 50ms}
    circuit_breaker: {failure_threshold: 3, recovery_timeout: 60s, recovery_jitter: 0%%}
    bulkhead: {max_concurrent: 20, max_waiting: 20, timeout: 1s}
    %s
routes: [{policy: hosts}]
"""
BY_HOST = "partition: {by: host, max: 256}"


async def test_over_real_sockets(kind):
    """Nobody listens at the dead one. How one that hangs is met is seen below, on a clock of its own."""
    servers, results = [Server() for _ in range(9)], Counter()
    patient = (PARTITIONED % BY_HOST).replace("deadline: 20s\n    timeout: 1s", "deadline: 90s\n    timeout: 60s")
    of, turns = Registry.from_text(patient), iter(range(2000))
    async with contextlib.AsyncExitStack() as stack:
        for one in servers:
            await stack.enter_async_context(serving(one))
        client = await stack.enter_async_context(kind.using(of, connections=60))
        held = stack.enter_context(socket.socket())
        held.bind(("127.0.0.1", 0))
        dead = held.getsockname()[1]
        ports = [*(one.port for one in servers), dead]

        async def calls() -> None:
            for turn in turns:
                port = ports[turn % 10]
                try:
                    status, _ = await client.send("GET", f"http://127.0.0.1:{port}/x")
                    results[port, status] += 1
                except Exception as error:
                    results[port, type(error).__name__] += 1

        await asyncio.gather(*(calls() for _ in range(20)))
        assert [results[one.port, 200] for one in servers] == [200] * 9, results
        assert results[dead, "CircuitBreakerOpenError"] > 150, results
        assert of.get("hosts").status()["partitions"]["circuits"] == {"closed": 9, "open": 1, "half_open": 0}


class Hosts(httpx.AsyncBaseTransport):
    """Ten hosts on a virtual clock: each answers after 20 ms, the third never."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answered = asyncio.get_running_loop().create_future()
        if request.url.host != "h3.example.invalid":
            loop = asyncio.get_running_loop()
            self.clock.call_at(loop, self.clock.monotonic() + 0.02, lambda: answered.done() or answered.set_result(0))
        await answered
        return httpx.Response(200)


async def shares(partition: str) -> tuple[float, Counter[str]]:
    """Return the share of calls of the nine that succeed, and how those of the dead one end."""
    clock, fine, dead = VirtualClock(), [0, 0], Counter()
    of = Registry.from_text(PARTITIONED % partition, clock=clock)
    async with httpx.AsyncClient(transport=ResilienceTransport(of, transport=Hosts(clock))) as client:

        async def call(host: int) -> None:
            how = "answered"
            try:
                await client.get(f"https://h{host}.example.invalid/")
            except Exception as error:
                how = type(error).__name__
            if host == 3:
                dead[how] += 1
            else:
                fine[0] += how == "answered"
                fine[1] += 1

        calls = []
        for turn in range(2500):
            calls.append(asyncio.create_task(call(turn % 10)))
            await clock.advance(0.005)
        await clock.advance(60)
        await asyncio.gather(*calls)
    return fine[0] / fine[1], dead


async def test_on_a_virtual_clock_every_call_of_the_nine_succeeds():
    share, dead = await shares(BY_HOST)
    assert share == 1.0
    assert dead["CircuitBreakerOpenError"] > 200


async def test_without_partitions_the_dead_one_takes_the_others_with_it():
    share, _ = await shares("partition: null")
    assert share < 0.9


async def test_hosts_differ_by_port_and_not_by_path_or_case():
    of = Registry.from_text(PARTITIONED % BY_HOST)
    transport = ResilienceTransport(of, transport=httpx.MockTransport(lambda request: httpx.Response(200)))
    async with httpx.AsyncClient(transport=transport) as client:
        for url in ("https://A.invalid/x", "https://a.invalid:443/y", "https://a.invalid:8443/", "http://[::1]:80/"):
            await client.get(url)
    names = {one["name"] for one in of.get("hosts").status()["partitions"]["shown"]}
    assert names == {"hosts[a.invalid]", "hosts[a.invalid:8443]", "hosts[[::1]]"}


async def test_an_open_circuit_refuses_before_anything_is_sent():
    sent = []

    def fail(request: httpx.Request) -> httpx.Response:
        sent.append(request.url.host)
        raise httpx.ConnectError("refused")

    of = Registry.from_text(PARTITIONED % BY_HOST)
    async with httpx.AsyncClient(transport=ResilienceTransport(of, transport=httpx.MockTransport(fail))) as client:
        for _ in range(2):
            with contextlib.suppress(httpx.ConnectError, CircuitBreakerOpenError):
                await client.get("https://dead.invalid/")
        with pytest.raises(CircuitBreakerOpenError, match=r"hosts\[dead\.invalid\]"):
            await client.get("https://dead.invalid/")
    assert len(sent) == 3
