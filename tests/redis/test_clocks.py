"""Processes whose clocks are hours apart share a limit as if they were not: the server's clock alone counts."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from aioresilience.backends import Backend, BackendConfig
from aioresilience.rate_limiting import FleetRateLimit, RateLimiterConfig
from tests.redis.conftest import PATIENT
from tests.redis.servers import Server

WORKER = Path(__file__).with_name("worker.py")
HOURS = (-5, 0, 7)
PATIENCE = 60.0
SHIFTED = """
import runpy, sys, time
shift = float(sys.argv[1])
for name in ("time", "monotonic", "perf_counter"):
    setattr(time, name, lambda read=getattr(time, name): read() + shift)
for name in ("time_ns", "monotonic_ns", "perf_counter_ns"):
    setattr(time, name, lambda read=getattr(time, name): read() + int(shift * 1e9))
runpy.run_path(sys.argv[2], run_name="__main__")
"""


def run_with_its_clocks_off(hours: int, task: str) -> subprocess.Popen[str]:
    one = subprocess.Popen(
        [sys.executable, "-c", SHIFTED, str(hours * 3600), str(WORKER)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=WORKER.parents[2],
    )  # fmt: skip
    assert one.stdin is not None
    one.stdin.write(task + "\n")
    return one


@pytest.mark.parametrize(
    "config", [{}, {"algorithm": "sliding_window"}, {"lease": 20}], ids=["gcra", "sliding_window", "leased"]
)
def test_clocks_that_are_hours_apart_share_a_limit_exactly(one_server: Server, config: dict[str, object]):
    settings = {"url": one_server.url, "prefix": uuid.uuid4().hex, "timeout": PATIENT, "slow": PATIENT}
    rate = {"rate": "30/hour", **config}
    fleet = [run_with_its_clocks_off(hours, json.dumps([settings, rate, 5, 20])) for hours in HOURS]
    try:
        counted = [json.loads(one.communicate(timeout=PATIENCE)[0].splitlines()[-1]) for one in fleet]
    finally:
        for one in fleet:
            one.kill()
    begun = [one["begun"] for one in counted]
    assert max(begun) - min(begun) > 11 * 3600, "their clocks are not apart"
    admitted = sum(one["admitted"] for one in counted)
    left = asyncio.run(left_of(settings, rate))
    assert sum(one["degraded"] for one in counted) == 0
    assert admitted + left in (30, 31), "31: a permit refills every two minutes"
    assert "lease" in config or left <= 1
    assert admitted >= 20


async def left_of(settings: dict[str, object], config: dict[str, object]) -> int:
    backend = Backend("main", BackendConfig(**settings))
    try:
        limit = FleetRateLimit("swarm", RateLimiterConfig(**config), backend=backend)
        answer = await backend.ask(limit._remote.place("", by_key=False))
        assert answer is not None
        return answer.remaining + answer.granted
    finally:
        await backend.aclose()
