"""Events as log lines: few of one kind, never a forged one, and nothing at all unless asked."""

from __future__ import annotations

import asyncio
import io
import logging

import pytest

from aioresilience import Registry, RejectionError, global_bus
from aioresilience.integrations import event_log
from aioresilience.integrations.event_log import write_events
from aioresilience.logging import configure_logging, disable_logging
from tests.integrations.harness import until

TEXT = """
version: 1
policies:
  search: {rate_limiter: {rate: 1/hour, scope: key}}
  hosts: {circuit_breaker: {failure_threshold: 1, recovery_timeout: 60s}, partition: {by: host}}
"""


async def fine() -> None: ...


async def broken() -> None:
    raise ConnectionError("gone\nERROR forged")


class Written:
    """What was written, and the time it is."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, str, dict]] = []
        self.now = 1_000.0

    def write(self, level: int, event: str, fields: dict) -> None:
        self.lines.append((level, event, dict(fields)))

    def named(self, event: str) -> list[dict]:
        return [fields for _, name, fields in self.lines if name == event]


@pytest.fixture
def written():
    log = Written()
    stop = write_events(log.write, every=10, now=lambda: log.now)
    yield log
    stop()
    assert not global_bus.is_active


async def refuse(of: Registry, times: int, key: str = "k") -> None:
    for number in range(times):
        with pytest.raises(RejectionError):
            await of.get("search").bind(key=key).call(fine)
        if number % 50 == 0:
            await asyncio.sleep(0)
    for _ in range(200):
        await asyncio.sleep(0)


async def test_ten_thousand_refusals_are_one_line_and_the_next_one_says_how_many(written):
    of = Registry.from_text(TEXT)
    await of.get("search").bind(key="k").call(fine)
    await refuse(of, 9_999)
    written.now += 10
    await refuse(of, 1)
    first, second = written.named("rejected")
    assert "more" not in first
    assert (second["policy"], second["reason"], second["more"]) == ("search", "RATE_LIMIT_EXCEEDED", 9_998)


async def test_every_opening_circuit_is_a_line_and_no_name_forges_one(written):
    policy = Registry.from_text(TEXT).get("hosts")
    for number in range(5):
        with pytest.raises(ConnectionError):
            await policy.bind(host=f"h{number}\nERROR all is lost").call(broken)
    await until(lambda: len(written.named("state_change")) == 5)
    assert "\n" not in str(written.lines)
    assert "h3\\nERROR all is lost" in str(written.lines[3][2]["pattern_name"])


async def test_long_fields_are_cut_and_levels_are_those_of_the_standard_library(written):
    of = Registry.from_text(TEXT)
    of.apply("version: [" + "x" * 5000)
    await until(lambda: written.named("reload_rejected"))
    ((level, _, fields),) = [line for line in written.lines if line[1] == "reload_rejected"]
    assert level == logging.ERROR
    assert all(len(str(value)) < 2_000 for value in fields.values())


async def test_the_kinds_that_are_remembered_are_bounded(written):
    policy = Registry.from_text(TEXT.replace("by: host", "by: host, max: 100000")).get("hosts")
    for number in range(event_log.MAX_KINDS + 50):
        policy.circuit_breaker.events.publish(
            event_log.DecisionEvent("circuit_breaker", "decision", f"hosts[{number}]", policy="hosts")
        )
        if number % 100 == 0:
            await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    (subscription,) = {one for subs in global_bus.handlers.values() for one in subs}
    assert len(subscription.handler.__self__._kinds) <= event_log.MAX_KINDS


async def test_the_library_by_itself_logs_nothing_about_calls():
    stream = io.StringIO()
    configure_logging(logging.DEBUG, logging.StreamHandler(stream))
    try:
        of = Registry.from_text(TEXT)
        await of.get("search").bind(key="k").call(fine)
        await refuse(of, 1_000)
    finally:
        disable_logging()
        logging.getLogger("aioresilience").setLevel(logging.NOTSET)
    assert stream.getvalue() == ""
