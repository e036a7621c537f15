"""What the status page says of a registry, without a server."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from aioresilience import Registry, RejectionError
from aioresilience.integrations.status.rates import Rates
from aioresilience.integrations.status.rejections import KEPT, Recorder, Rejection
from aioresilience.integrations.status.view import Page, PolicyRow, page
from aioresilience.testing import VirtualClock


async def fine() -> int:
    return 1


async def broken() -> int:
    raise ConnectionError("down")


def shown(registry: Registry, rates: Rates | None = None, recorder: Recorder | None = None) -> Page:
    return page(registry.status(), rates or Rates(registry.clock), recorder or Recorder())


def row(registry: Registry, name: str = "p") -> PolicyRow:
    return next(row for row in shown(registry).policies if row.name == name)


def signs(row: PolicyRow) -> list[tuple[str, str]]:
    return [(sign.level, sign.text) for sign in row.signs]


def one(fields: str, clock: VirtualClock | None = None) -> Registry:
    return Registry.from_text(f"{{version: 1, policies: {{p: {fields}}}}}", clock=clock)


async def calls(registry: Registry, func: object = fine, times: int = 1, name: str = "p") -> None:
    for _ in range(times):
        with contextlib.suppress(ConnectionError, RejectionError):
            await registry.get(name).call(func)  # type: ignore[call-overload]


async def test_an_open_circuit_is_trouble_and_says_when_it_probes() -> None:
    fields = "{circuit_breaker: {failure_threshold: 2, recovery_timeout: 30s, recovery_jitter: 0%}}"
    registry = one(fields, VirtualClock())
    await calls(registry, broken, 2)
    assert signs(row(registry)) == [("trouble", "circuit open, next probe in 30 s")]


async def test_a_half_open_circuit_is_noticed() -> None:
    clock = VirtualClock()
    registry = one("{circuit_breaker: {failure_threshold: 1, recovery_timeout: 1s, recovery_jitter: 0%}}", clock)
    await calls(registry, broken)
    clock.move(1.5)
    await calls(registry, fine)  # of two that it takes
    assert signs(row(registry)) == [("notice", "circuit half-open: probing")]


async def test_a_forced_circuit_says_why() -> None:
    registry = one("{circuit_breaker: {}}")
    circuit = registry.get("p").circuit_breaker
    assert circuit is not None
    circuit.force_open("INC-4711")
    [(level, text)] = signs(row(registry))
    assert level == "trouble"
    assert "forced open" in text
    assert "INC-4711" in text


async def test_a_full_bulkhead_counts_who_waits() -> None:
    registry = one("{bulkhead: {max_concurrent: 1, max_waiting: 5}}")
    gate = asyncio.Event()
    tasks = [asyncio.ensure_future(registry.get("p").call(gate.wait)) for _ in range(3)]
    await asyncio.sleep(0)
    assert signs(row(registry)) == [("notice", "full: 1 of 1, 2 waiting")]
    gate.set()
    await asyncio.gather(*tasks)
    assert signs(row(registry)) == []


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ("{rate_limiter: 1/minute}", "at its rate of 1/minute"),
        ("{mode: observe, timeout: 1s}", "mode observe"),
        ("{mode: {enforce: 10%}, bulkhead: 3}", "enforced for 10 %"),
    ],
)
async def test_what_limits_a_policy_is_noticed(fields: str, text: str) -> None:
    registry = one(fields)
    await calls(registry)
    assert signs(row(registry)) == [("notice", text)]


def test_a_policy_that_nobody_uses_is_fine() -> None:
    assert signs(row(one("{timeout: 1s}"))) == [("fine", "not used yet")]


async def test_a_policy_that_has_left_the_file_is_noticed() -> None:
    registry = one("{timeout: 1s}")
    await calls(registry)
    registry.apply("{version: 1, settings: {shrink: allow}, policies: {q: {}}}")
    assert ("notice", "retired: no longer in the file") in signs(row(registry))


async def test_the_gravest_policies_come_first() -> None:
    registry = Registry.from_text(
        "{version: 1, policies: {a: {}, b: {mode: observe}, c: {circuit_breaker: {failure_threshold: 1}}}}"
    )
    for name in "abc":
        await calls(registry, broken, name=name)
    assert [row.name for row in shown(registry).policies] == ["c", "b", "a"]


def test_a_refused_reload_is_trouble(tmp_path: Path) -> None:
    file = tmp_path / "resilience.yaml"
    file.write_text("{version: 1, policies: {p: {timeout: 1s}}}")
    registry = Registry.from_file(file, environ={})
    file.write_text("{version: 1, policies: {p: {timeot: 1s}}}")
    registry.reload()
    assert ("trouble", "the last reload was refused; the configuration before it stays in effect") in [
        (sign.level, sign.text) for sign in shown(registry).signs
    ]


async def test_calls_and_rejections_are_summed_over_the_patterns() -> None:
    registry = one("{retry: 1, rate_limiter: 2/minute, bulkhead: 5}")
    await calls(registry, times=5)
    assert (row(registry).calls, row(registry).rejected) == (5, 3)


async def test_rates_are_per_second_between_two_looks() -> None:
    clock = VirtualClock()
    registry = one("{rate_limiter: {rate: 2/hour, burst: 2}}", clock)
    rates = Rates(clock)
    assert shown(registry, rates).policies[0].calls_rate is None
    await calls(registry, times=6)
    clock.move(2.0)
    now = shown(registry, rates).policies[0]
    assert (now.calls_rate, now.rejected_rate) == (3.0, 2.0)


async def test_looks_of_several_readers_close_together_leave_the_rates_true() -> None:
    clock = VirtualClock()
    registry = one("{bulkhead: 5}", clock)
    rates = Rates(clock)
    for _ in range(20):
        shown(registry, rates)
        await calls(registry, times=3)
        clock.move(0.3)
    assert shown(registry, rates).policies[0].calls_rate == pytest.approx(10.0)


def test_an_old_look_gives_no_rate() -> None:
    clock = VirtualClock()
    rates = Rates(clock)
    rates.note({"p": (0, 0)})
    clock.move(61.0)
    rates.note({"p": (600, 0)})
    assert rates.of("p") == (None, None)


async def test_the_last_rejections_are_kept_with_their_reasons() -> None:
    registry, recorder = one("{rate_limiter: 1/minute}"), Recorder()
    stop = recorder.listen()
    try:
        await calls(registry, times=KEPT + 5)
        await _heard(recorder, KEPT)
    finally:
        stop()
    kept = shown(registry, recorder=recorder).policies[0].rejections
    assert len(kept) == KEPT
    assert {(rejection.pattern, rejection.reason) for rejection in kept} == {("rate_limiter", "rate limit exceeded")}
    assert [rejection.at for rejection in kept] == sorted((rejection.at for rejection in kept), reverse=True)


async def test_nothing_is_heard_after_the_end() -> None:
    registry, recorder = one("{rate_limiter: 1/minute}"), Recorder()
    recorder.listen()()
    await calls(registry, times=3)
    await asyncio.sleep(0)
    assert recorder.of("p") == ()


async def _heard(recorder: Recorder, number: int) -> tuple[Rejection, ...]:
    async with asyncio.timeout(30):
        while len(recorder.of("p")) < number:
            await asyncio.sleep(0.001)
    return recorder.of("p")
