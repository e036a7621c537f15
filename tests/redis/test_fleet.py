"""Many processes, a cluster, sentinels, TLS: one limit for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import math
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from aioresilience import Policy, RateLimitExceededError
from aioresilience.backends import Backend, BackendConfig
from aioresilience.rate_limiting import FleetRateLimit, RateLimiterConfig
from tests.redis.conftest import PATIENT
from tests.redis.proxy import FaultProxy
from tests.redis.servers import Server, free_port, server, until

WORKER = Path(__file__).with_name("worker.py")
PROCESSES, TASKS, CALLS = 8, 50, 10


async def ok() -> str:
    return "ok"


def policy_of(backend: Backend, **config: object) -> Policy:
    given = {"rate": "1000/hour", **config}
    return Policy("p", [FleetRateLimit("p", RateLimiterConfig(**given), backend=backend)])


async def settled(check: Callable[[], object], patience: float = 30.0) -> None:
    async with asyncio.timeout(patience):
        while not check():
            await asyncio.sleep(0.01)


class Swarm:
    """Processes that ask at once what they are told to ask."""

    def __init__(self, size: int) -> None:
        command = [sys.executable, str(WORKER)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.processes = [subprocess.Popen(command, **pipes) for _ in range(size)]
        for one in self.processes:
            assert one.stdout.readline() == "ready\n"

    def tell(self, settings: dict[str, object], config: dict[str, object], tasks: int, calls: int) -> None:
        for one in self.processes:
            one.stdin.write(json.dumps([settings, config, tasks, calls]) + "\n")
            one.stdin.flush()

    def counted(self) -> list[dict[str, float]]:
        return [json.loads(one.stdout.readline()) for one in self.processes]

    def kill(self) -> None:
        for one in self.processes:
            one.kill()
            one.communicate()


@pytest.fixture(scope="module")
def swarm() -> Iterator[Swarm]:
    one = Swarm(PROCESSES)
    yield one
    one.kill()


@pytest.mark.parametrize(
    "config",
    [{"algorithm": "gcra"}, {"algorithm": "sliding_window"}, {"lease": 20}],
    ids=["gcra", "sliding_window", "leased"],
)
def test_8_processes_of_50_tasks_admit_exactly_the_limit_and_the_refill(swarm: Swarm, make, config):
    backend = make(prefix=uuid.uuid4().hex)
    settings = {"url": backend.config.url, "prefix": backend.config.prefix, "timeout": PATIENT, "slow": PATIENT}
    swarm.tell(settings, {"rate": "1000/hour", **config}, TASKS, CALLS)
    counted = swarm.counted()
    admitted = sum(one["admitted"] for one in counted)
    left = asyncio.run(left_of(backend, config.get("algorithm", "gcra")))
    took = time.time() - min(one["begun"] for one in counted)
    refill = 0 if config.get("algorithm") == "sliding_window" else math.ceil(took * 1000 / 3600)
    assert sum(one["degraded"] for one in counted) == 0
    assert 1000 <= admitted + left <= 1000 + refill, "spent and left are what was issued"
    assert "lease" in config or left <= refill
    assert admitted > 1000 - PROCESSES * 20


async def left_of(backend: Backend, algorithm: str) -> int:
    limit = FleetRateLimit("swarm", RateLimiterConfig(rate="1000/hour", algorithm=algorithm), backend=backend)
    answer = await backend.ask(limit._remote.place("", by_key=False))
    return answer.remaining + answer.granted


def form(stack: contextlib.ExitStack, *arguments: str) -> list[Server]:
    """Start three nodes that share the slots."""
    buses = [free_port() for _ in range(3)]
    nodes = [cluster_node(stack, bus, *arguments) for bus in buses]
    bounds = [0, 5461, 10923, 16384]
    for number, node in enumerate(nodes):
        with node.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
    for node, bus in zip(nodes[1:], buses[1:], strict=True):
        meet(nodes[0], node, bus)
    for node in nodes:
        until(lambda node=node: cluster_is_ok(node), "the cluster is formed", 60)
    return nodes


def cluster_node(stack: contextlib.ExitStack, bus: int, *arguments: str) -> Server:
    return stack.enter_context(server("--cluster-enabled", "yes", "--cluster-port", str(bus), *arguments))


def meet(known: Server, node: Server, bus: int) -> None:
    with known.client() as client:
        client.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, bus)


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[Server]]:
    with contextlib.ExitStack() as stack:
        yield form(stack)


def cluster_is_ok(node: Server) -> bool:
    with node.client() as client:
        info = client.execute_command("CLUSTER", "INFO")
        return "cluster_state:ok" in str(info) or (isinstance(info, dict) and info.get("cluster_state") == "ok")


@pytest.mark.parametrize("algorithm", ["gcra", "sliding_window"])
async def test_a_cluster_counts_every_limit_on_its_own_node(cluster, algorithm):
    settings = {"url": cluster[0].url, "cluster": True, "prefix": algorithm, "timeout": PATIENT, "slow": PATIENT}
    backend = Backend("main", BackendConfig(**settings))
    try:
        limits = [
            FleetRateLimit(
                f"limit-{n}", RateLimiterConfig(rate="5/hour", algorithm=algorithm, scope="key"), backend=backend
            )
            for n in range(6)
        ]
        policies = [Policy("p", [limit]) for limit in limits]
        calls = [policy.bind(key=key).call(ok) for policy in policies for key in ("a", "b") for _ in range(8)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert results.count("ok") == 6 * 2 * 5
        assert backend.status()["trips"] == 0
    finally:
        await backend.aclose()
    used = []
    for node in cluster:
        with node.client() as client:
            used.append(len(client.keys(f"{algorithm}:*limit*")))
    assert sum(used) == 12
    assert sum(count > 0 for count in used) >= 2, "six limits on one node of three"


async def test_a_cluster_that_was_down_as_a_whole_is_found_again(cluster):
    backend = Backend("main", BackendConfig(url=cluster[0].url, cluster=True, timeout=PATIENT, slow=PATIENT))
    try:
        policy = policy_of(backend)
        assert await backend.answers()
        for node in cluster:
            node.kill()
        assert await policy.call(ok) == "ok"
        assert backend.reason == "connection"
        for node in cluster:
            node.start()
        await settled(lambda: backend.available, 60)
        assert await backend.answers()
    finally:
        await backend.aclose()


# The client library leaves connections to a node that is lost to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_cluster_outlives_the_node_that_the_url_names():
    quick = ("--cluster-node-timeout", "1000")
    with contextlib.ExitStack() as stack:
        nodes, bus = form(stack, *quick), free_port()
        replica = cluster_node(stack, bus, *quick)
        meet(nodes[0], replica, bus)
        with nodes[0].client() as client, replica.client() as other:
            name = client.execute_command("CLUSTER", "MYID")
            until(lambda: name in str(other.execute_command("CLUSTER", "NODES")), "they have met", 60)
            other.execute_command("CLUSTER", "REPLICATE", name)
            until(lambda: other.info("replication").get("master_link_status") == "up", "it follows", 60)
        settings = {"url": nodes[0].url, "cluster": True, "timeout": PATIENT, "slow": PATIENT}
        backend = Backend("main", BackendConfig(**settings))
        try:
            policies = [
                Policy("p", [FleetRateLimit(f"l{n}", RateLimiterConfig(rate="9/hour"), backend=backend)])
                for n in range(8)
            ]
            for policy in policies:
                await policy.call(ok)
            assert backend.status()["trips"] == 0
            nodes[0].kill()
            async with asyncio.timeout(120):
                with replica.client() as client:
                    while client.info("replication")["role"] != "master":  # some are asked before, or all wait for it
                        await all_answer(backend, policies)
                while not await all_answer(backend, policies):
                    await asyncio.sleep(0.1)
        finally:
            await backend.aclose()
            gc.collect()


async def all_answer(backend: Backend, policies: list[Policy]) -> bool:
    """Tell whether every limit is asked of the cluster, whatever node it is on."""
    before = [policy.rate_limiter.degraded for policy in policies]
    for policy in policies:
        with contextlib.suppress(RateLimitExceededError):
            await policy.call(ok)
    return backend.available and before == [policy.rate_limiter.degraded for policy in policies]


async def test_sentinels_lead_to_the_new_master():
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(server("--repl-diskless-sync-delay", "0"))
        replica = stack.enter_context(server("--replicaof", "127.0.0.1", str(master.port)))
        text = (
            f"sentinel monitor limits 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds limits 1000\nsentinel failover-timeout limits 2000\n"
        )
        sentinel = stack.enter_context(server(kind="sentinel", config=text))
        with sentinel.client() as client:
            until(lambda: "slave0" in client.info("sentinel")["master0"] or replicas(client), "the replica is known")
        with replica.client() as client:
            until(lambda: client.info("replication")["master_link_status"] == "up", "the replica follows", 60)
        nodes = [f"127.0.0.1:{sentinel.port}"]
        backend = Backend(
            "main",
            BackendConfig(
                url="redis://sentinels", sentinel={"master": "limits", "nodes": nodes}, timeout=PATIENT, slow=PATIENT
            ),
        )
        try:
            policy = policy_of(backend, rate="10/hour", on_backend_error="allow")
            assert await policy.call(ok) == "ok"
            assert backend.available
            with replica.client() as client:
                await settled(lambda: client.keys("*:gp:*"))  # what was charged has reached it
            master.kill()
            await policy.call(ok)
            await settled(lambda: backend.available, 60)
            with replica.client() as client:
                assert client.info("replication")["role"] == "master"
            await policy.call(ok)
            assert policy.rate_limiter._seen[0] > 0
        finally:
            await backend.aclose()


def replicas(client: redis.Redis) -> bool:
    return bool(client.execute_command("SENTINEL", "REPLICAS", "limits"))


async def test_a_server_behind_tls_is_verified(one_server: Server, tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    make += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(make, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    proxy = FaultProxy(one_server.port, context)
    trusting = Backend("a", BackendConfig(url=proxy.url, tls={"ca": str(certificate)}, timeout=PATIENT, slow=PATIENT))
    doubting = Backend("b", BackendConfig(url=proxy.url, timeout=PATIENT, slow=PATIENT))
    careless = Backend("c", BackendConfig(url=proxy.url, tls={"verify": False}, timeout=PATIENT, slow=PATIENT))
    try:
        assert await trusting.answers()
        assert not await doubting.answers()
        assert await careless.answers()
    finally:
        for backend in (trusting, doubting, careless):
            await backend.aclose()
        proxy.close()
