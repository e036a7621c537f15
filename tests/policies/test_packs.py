"""The shipped packs: each loads without a finding, explains every value, and its numbers hold what its comments say."""

from __future__ import annotations

import asyncio
import gc
import random
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from aioresilience import BulkheadFullError, CircuitBreakerOpenError, LoadSheddingError, OperationTimeoutError, Policy
from aioresilience.config import Document, TextSource, load
from aioresilience.policy import BUILTIN
from aioresilience.registry import Registry
from aioresilience.resources import folder
from aioresilience.testing import VirtualClock

PACKS = sorted(path.stem for path in folder("policies").glob("*.yaml"))
DEPENDENCIES = [pack for pack in PACKS if pack != "inbound-api"]
USED = 'version: 1\ninclude: ["pack:{0}"]\npolicies:\n  mine: {{extends: {0}}}\n'


def document(pack: str) -> Document:
    return load(TextSource(USED.format(pack)), patterns=BUILTIN)


def policy(pack: str, clock: VirtualClock, more: str = "") -> Policy:
    text = USED.format(pack) if not more else USED.format(pack).replace("}\n", f", {more}}}\n")
    return Registry.from_text(text, clock=clock, environ={}).get("mine")


def text_of(pack: str) -> str:
    return Path(folder("policies"), f"{pack}.yaml").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def no_sampler_left() -> Iterator[None]:
    """The thread that samples the CPU ends when the last load shedder is collected."""
    yield
    gc.collect()


class StatusError(Exception):
    """An HTTP error as clients raise it."""

    def __init__(self, status: int, retry_after: float | None = None) -> None:
        super().__init__(str(status))
        self.status_code = status
        self.retry_after = retry_after


@dataclass
class Dependency:
    """Answers after `delay` virtual seconds, or raises what `fails` gives."""

    clock: VirtualClock
    delay: float = 0.0
    fails: Callable[[], BaseException | None] = lambda: None
    attempts: list[float] = field(default_factory=list)

    async def __call__(self) -> str:
        self.attempts.append(self.clock.monotonic())
        if self.delay:
            await sleep(self.clock, self.delay)
        error = self.fails()
        if error is not None:
            raise error
        return "answer"


async def sleep(clock: VirtualClock, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    woken = loop.create_future()
    timer = clock.call_at(loop, clock.monotonic() + seconds, lambda: woken.done() or woken.set_result(None))
    try:
        await woken
    finally:
        timer.cancel()


async def ended(clock: VirtualClock, call: Awaitable[object], limit: float = 600.0) -> object:
    """Move the clock until the call ends; return its result or its error."""
    task = asyncio.ensure_future(call)
    end = clock.monotonic() + limit
    while not task.done() and clock.monotonic() < end:
        await clock.advance(0.05)
    assert task.done(), "the call never ended"
    return task.exception() or task.result()


def test_the_packs_are_all_there():
    assert PACKS == [
        "cache", "database", "http-client", "inbound-api", "internal-rpc", "llm-api", "queue-consumer",
    ]  # fmt: skip


@pytest.mark.parametrize("pack", PACKS)
def test_a_pack_loads_and_is_used_without_a_finding(pack: str):
    found = document(pack)
    assert found.findings == ()
    assert found.policies["mine"].patterns
    assert found.pending == ()  # builtin names only


@pytest.mark.parametrize("pack", PACKS)
def test_every_value_of_a_pack_has_its_reason(pack: str):
    lines = [line for line in text_of(pack).splitlines() if line.strip() and not line.lstrip().startswith("#")]
    values = [line for line in lines if re.search(r":\s+[^\s#]", line) and not line.startswith("version:")]
    assert values
    assert [line for line in values if not re.search(r"\s# \S.{14,}$", line)] == []


@pytest.mark.parametrize("pack", PACKS)
def test_a_pack_says_how_it_is_used(pack: str):
    comment = "\n".join(line[1:] for line in text_of(pack).splitlines() if line.startswith("#"))
    assert f'include: ["pack:{pack}"]' in comment
    assert f"extends: {pack}" in comment


@pytest.mark.parametrize("pack", DEPENDENCIES)
def test_attempts_pauses_and_timeouts_fit_into_the_deadline(pack: str):
    configs = dict(document(pack).policies["mine"].patterns)
    timeout, deadline, retry = configs["timeout"], configs.get("deadline"), configs.get("retry")
    if deadline is None:
        assert pack == "cache"
        return
    assert timeout.timeout * retry.max_attempts + retry.max_delay * (retry.max_attempts - 1) <= deadline.timeout
    assert retry.jitter == "full"
    assert retry.budget is not None


@pytest.mark.parametrize("pack", DEPENDENCIES)
def test_the_window_of_the_breaker_spans_two_timeouts_and_a_probe_outlives_one(pack: str):
    configs = dict(document(pack).policies["mine"].patterns)
    breaker, timeout = configs["circuit_breaker"], configs["timeout"]
    assert breaker.window.seconds >= 2 * timeout.timeout
    assert breaker.half_open_timeout > timeout.timeout
    assert breaker.max_recovery_timeout > breaker.recovery_timeout


@pytest.mark.parametrize("pack", DEPENDENCIES)
def test_nobody_waits_for_a_place_longer_than_for_an_answer(pack: str):
    configs = dict(document(pack).policies["mine"].patterns)
    bulkhead = configs.get("bulkhead")
    if bulkhead is not None and bulkhead.max_waiting:
        assert bulkhead.timeout < configs["timeout"].timeout


@pytest.mark.parametrize("pack", DEPENDENCIES)
def test_it_is_said_whether_a_call_may_run_twice(pack: str):
    assert document(pack).policies["mine"].idempotent is (pack in ("cache", "queue-consumer"))


# What the numbers do.


@pytest.mark.parametrize("pack", DEPENDENCIES)
async def test_a_dead_dependency_opens_the_circuit_within_its_minimum_of_attempts(pack: str):
    clock = VirtualClock()
    mine, dead = policy(pack, clock), Dependency(clock, fails=lambda: ConnectionResetError("dead"))
    configs = dict(document(pack).policies["mine"].patterns)
    minimum = configs["circuit_breaker"].minimum_calls
    for _ in range(minimum + 5):
        await ended(clock, mine.call(dead))
    assert len(dead.attempts) == minimum
    assert mine.circuit_breaker.state.name == "OPEN"


@pytest.mark.parametrize("pack", DEPENDENCIES)
async def test_a_dependency_that_comes_back_is_found_within_its_longest_recovery(pack: str):
    clock, health = VirtualClock(), {"error": ConnectionResetError("dead")}
    mine, dependency = policy(pack, clock), Dependency(clock, fails=lambda: health["error"])
    longest = dict(document(pack).policies["mine"].patterns)["circuit_breaker"].max_recovery_timeout
    for _ in range(int(8 * longest)):
        await ended(clock, mine.call(dependency))
        await clock.advance(1.0)
    health["error"] = None
    for _ in range(int(longest) + 3):
        await ended(clock, mine.call(dependency))
        await clock.advance(1.0)
    assert mine.circuit_breaker.state.name == "CLOSED"
    assert await ended(clock, mine.call(dependency)) == "answer"


@pytest.mark.parametrize("pack", DEPENDENCIES)
async def test_a_dependency_that_hangs_holds_a_call_no_longer_than_the_deadline(pack: str):
    clock = VirtualClock()
    mine, hanging = policy(pack, clock), Dependency(clock, delay=10_000.0)
    configs = dict(document(pack).policies["mine"].patterns)
    bound = configs.get("deadline", configs["timeout"]).timeout
    begun = clock.monotonic()
    outcome = await ended(clock, mine.call(hanging), limit=bound + 1)
    assert clock.monotonic() - begun <= bound + 0.1
    assert outcome is None if pack == "cache" else isinstance(outcome, OperationTimeoutError)


@pytest.mark.parametrize("pack", ["http-client", "internal-rpc", "llm-api"])
async def test_a_request_that_is_wrong_is_not_repeated_and_says_nothing_about_the_server(pack: str):
    clock = VirtualClock()
    mine, server = policy(pack, clock), Dependency(clock, fails=lambda: StatusError(404))
    for _ in range(50):
        assert isinstance(await ended(clock, mine.call(server)), StatusError)
    assert len(server.attempts) == 50
    assert mine.circuit_breaker.state.name == "CLOSED"


@pytest.mark.parametrize("pack", ["http-client", "internal-rpc", "llm-api"])
async def test_a_throttled_call_is_repeated_and_opens_no_circuit(pack: str):
    clock = VirtualClock()
    mine, server = policy(pack, clock), Dependency(clock, fails=lambda: StatusError(429))
    await ended(clock, mine.call(server))
    assert len(server.attempts) == dict(document(pack).policies["mine"].patterns)["retry"].max_attempts
    for _ in range(50):
        await ended(clock, mine.call(server))
    assert mine.circuit_breaker.state.name == "CLOSED"


@pytest.mark.parametrize("pack", ["http-client", "internal-rpc", "database", "llm-api"])
async def test_a_lost_answer_is_not_asked_for_again_until_the_policy_says_idempotent(pack: str):
    clock = VirtualClock()
    careful, lost = policy(pack, clock), Dependency(clock, fails=lambda: ConnectionResetError("lost"))
    await ended(clock, careful.call(lost))
    assert len(lost.attempts) == 1
    told, lost = policy(pack, clock, "idempotent: true"), Dependency(clock, fails=lambda: ConnectionResetError("lost"))
    await ended(clock, told.call(lost))
    assert len(lost.attempts) == dict(document(pack).policies["mine"].patterns)["retry"].max_attempts


@pytest.mark.parametrize("pack", ["http-client", "internal-rpc", "database", "queue-consumer"])
async def test_a_call_that_never_started_is_tried_again(pack: str):
    clock = VirtualClock()
    mine, refusing = policy(pack, clock), Dependency(clock, fails=lambda: ConnectionRefusedError("nobody listens"))
    await ended(clock, mine.call(refusing))
    assert len(refusing.attempts) == dict(document(pack).policies["mine"].patterns)["retry"].max_attempts


async def test_the_llm_pack_waits_as_long_as_it_is_told_and_no_longer_than_its_limit():
    clock = VirtualClock()
    mine, server = policy("llm-api", clock), Dependency(clock, fails=lambda: StatusError(429, retry_after=15.0))
    await ended(clock, mine.call(server))
    pauses = [after - before for before, after in zip(server.attempts, server.attempts[1:], strict=False)]
    assert len(pauses) == 2
    assert all(15.0 <= pause < 15.2 for pause in pauses)

    patient = Dependency(clock, fails=lambda: StatusError(429, retry_after=21.0))
    outcome = await ended(clock, mine.call(patient))
    assert isinstance(outcome, StatusError)
    assert len(patient.attempts) == 1


async def test_the_llm_pack_never_pays_twice_for_a_lost_answer():
    clock = VirtualClock()
    for error in (StatusError(500), StatusError(503, retry_after=1.0), ConnectionResetError("lost")):
        mine, server = policy("llm-api", clock), Dependency(clock, fails=lambda error=error: error)
        assert await ended(clock, mine.call(server)) is error
        assert len(server.attempts) == 1
    mine, slow = policy("llm-api", clock), Dependency(clock, delay=61.0)
    assert isinstance(await ended(clock, mine.call(slow)), OperationTimeoutError)
    assert len(slow.attempts) == 1


async def test_the_llm_pack_sends_less_at_once_while_it_is_throttled():
    clock = VirtualClock()
    mine, server = policy("llm-api", clock), Dependency(clock, fails=lambda: StatusError(429))
    before = mine.adaptive_concurrency.current_limit
    for _ in range(20):
        await ended(clock, mine.call(server))
    assert mine.adaptive_concurrency.current_limit < before


async def test_the_database_pack_rejects_beyond_its_queue_at_once():
    clock = VirtualClock()
    mine, slow = policy("database", clock), Dependency(clock, delay=1.0)
    calls = [asyncio.ensure_future(mine.call(slow)) for _ in range(20 + 40 + 5)]
    await clock.advance(0.01)
    refused = [call for call in calls if call.done()]
    assert len(slow.attempts) == 20
    assert len(refused) == 5
    assert {call.exception().reason.name for call in refused} == {"QUEUE_FULL"}
    await clock.advance(0.5)
    late = [call for call in calls if call.done() and call not in refused]
    assert len(late) == 40  # statements of a second leave no place within half of one
    assert all(isinstance(call.exception(), BulkheadFullError) for call in late)
    await clock.advance(1.0)
    assert [call.result() for call in calls[:20]] == ["answer"] * 20


async def test_the_queue_of_the_database_pack_is_served_when_statements_take_a_quarter_second():
    clock = VirtualClock()
    mine, quick = policy("database", clock), Dependency(clock, delay=0.24)
    calls = [asyncio.ensure_future(mine.call(quick)) for _ in range(20 + 40)]
    await clock.advance(1.0)
    assert [call.result() for call in calls] == ["answer"] * 60


async def test_a_broken_constraint_does_not_open_the_circuit_of_the_database_pack():
    class IntegrityError(Exception): ...

    clock = VirtualClock()
    mine, strict = policy("database", clock), Dependency(clock, fails=IntegrityError)
    for _ in range(100):
        assert isinstance(await ended(clock, mine.call(strict)), IntegrityError)
    assert len(strict.attempts) == 100
    assert mine.circuit_breaker.state.name == "CLOSED"


async def test_a_failing_cache_is_a_miss():
    clock = VirtualClock()
    mine = policy("cache", clock)
    for fails in (ConnectionResetError, ConnectionRefusedError, ValueError):
        assert await ended(clock, mine.call(Dependency(clock, fails=fails))) is None
    assert await ended(clock, mine.call(Dependency(clock, delay=0.2))) is None
    assert await ended(clock, mine.call(Dependency(clock))) == "answer"


async def test_the_slow_service_behind_the_rpc_pack_opens_the_circuit_without_an_error():
    clock = VirtualClock()
    mine, slow = policy("internal-rpc", clock), Dependency(clock, delay=0.45)
    pairs = [await ended(clock, asyncio.gather(mine.call(slow), mine.call(slow))) for _ in range(15)]
    assert pairs == [["answer", "answer"]] * 15
    assert isinstance(await ended(clock, mine.call(slow)), CircuitBreakerOpenError)


async def test_a_message_fetched_too_early_waits_for_its_turn():
    clock = VirtualClock()
    mine, work = policy("queue-consumer", clock), Dependency(clock, delay=5.0)
    messages = [asyncio.ensure_future(mine.call(work)) for _ in range(30)]
    await clock.advance(0.01)
    assert len(work.attempts) == 10
    await clock.advance(15.0)
    assert [message.result() for message in messages] == ["answer"] * 30


async def test_the_process_behind_the_inbound_pack_takes_200_requests_and_sheds_the_rest():
    clock = VirtualClock()
    mine, work = policy("inbound-api", clock), Dependency(clock, delay=1.0)
    requests = [asyncio.ensure_future(mine.bind(priority="high").call(work)) for _ in range(250)]
    await clock.advance(0.01)
    shed = [request for request in requests if request.done()]
    assert len(shed) == 50
    assert all(isinstance(request.exception(), LoadSheddingError) for request in shed)
    await clock.advance(1.0)
    assert sum(request.exception() is None for request in requests) == 200


async def test_the_inbound_pack_sheds_what_nobody_waits_for_any_more():
    clock = VirtualClock()
    mine, work = policy("inbound-api", clock), Dependency(clock)
    fresh = mine.bind(arrived=clock.monotonic() - 1.0)
    stale = mine.bind(arrived=clock.monotonic() - 6.0)
    assert await ended(clock, fresh.call(work)) == "answer"
    assert isinstance(await ended(clock, stale.call(work)), LoadSheddingError)


@pytest.mark.parametrize(("idempotent", "minutes", "least"), [("false", 2, 0.65), ("true", 10, 0.75)])
async def test_minutes_of_30_percent_errors_at_200_calls_a_second_leave_most_calls_well(
    idempotent: str, minutes: int, least: float
):
    clock, dice = VirtualClock(), random.Random(3)
    mine = policy("http-client", clock, f"idempotent: {idempotent}")
    flaky = Dependency(clock, fails=lambda: ConnectionResetError("flaky") if dice.random() < 0.3 else None)
    calls, done = 200 * 60 * minutes, []
    for _ in range(calls // 20):
        done += [asyncio.ensure_future(mine.call(flaky)) for _ in range(20)]
        clock.move(0.1)
        for _ in range(3):
            await asyncio.sleep(0)
    await clock.advance(11.0)
    succeeded = sum(call.exception() is None for call in done)
    assert succeeded >= least * calls
    assert len(flaky.attempts) < 1.25 * calls
