"""When a request arrived, who may say so, and that the load shedder goes by it."""

from __future__ import annotations

import pytest

from aioresilience import Registry
from aioresilience.integrations.asgi import PolicyMiddleware, RequestStart
from aioresilience.integrations.asgi.arrivals import epoch_seconds
from aioresilience.testing import VirtualClock
from tests.integrations.harness import Request, answering, get

YAML = "{version: 1, policies: {inbound: {load_shedder: {max_requests: 100, max_age: 5s}}}}"
PROXY = ("10.0.0.1", 443)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("t=1700000000.250", 1_700_000_000.25),
        ("1700000000.250", 1_700_000_000.25),
        (" t=1700000000 ", 1_700_000_000.0),
        ("1700000000250", 1_700_000_000.25),
        ("t=1700000000250", 1_700_000_000.25),
        ("t=1700000000250000", 1_700_000_000.25),
        *((text, None) for text in ("", "t=", "now", "-1700000000", "1e12", "t=1_7", "٣" * 10, "nan", "9" * 99)),
    ],
)
def test_a_time_is_read_in_every_unit_that_proxies_write(text: str, seconds: float | None):
    assert epoch_seconds(text) == seconds


class Service:
    """An app whose load shedder sheds what is 5 seconds old, behind a proxy."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        registry = Registry.from_text(YAML, clock=self.clock)
        arrived = RequestStart(["10.0.0.0/8"], clock=self.clock)
        self.app = PolicyMiddleware(answering(200), registry, policy="inbound", arrived=arrived)

    async def status(self, *starts: str, client: tuple[str, int] | None = PROXY) -> int | None:
        request: Request = await get(self.app, headers=[("X-Request-Start", start) for start in starts], client=client)
        return request.status

    def ago(self, seconds: float) -> str:
        return f"t={self.clock.wall() - seconds:.3f}"


async def test_a_request_that_waited_too_long_is_shed():
    service = Service()
    assert await service.status(service.ago(5.5)) == 503
    assert await service.status(service.ago(2.0)) == 200
    assert await service.status(f"{(service.clock.wall() - 5.5) * 1e6:.0f}") == 503


async def test_a_request_without_a_start_or_with_nonsense_is_let_in():
    service = Service()
    assert await service.status() == 200
    assert await service.status("t=yesterday") == 200


async def test_a_clock_that_is_wrong_sheds_nobody():
    service = Service()
    assert await service.status(service.ago(-60.0)) == 200
    assert await service.status(service.ago(4000.0)) == 200


@pytest.mark.parametrize("client", [("203.0.113.9", 1), None])
async def test_only_a_trusted_proxy_is_believed(client: tuple[str, int] | None):
    service = Service()
    assert await service.status(service.ago(5.5), client=client) == 200


async def test_of_several_lines_the_proxy_wrote_the_last():
    service = Service()
    assert await service.status(service.ago(0.0), service.ago(5.5)) == 503
