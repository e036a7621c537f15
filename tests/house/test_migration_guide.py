"""The code blocks of the migration guide of 0.2, as users copied them: the new form runs, the old one is refused."""

from __future__ import annotations

import asyncio
import inspect
import textwrap
from ast import PyCF_ALLOW_TOP_LEVEL_AWAIT

import httpx
import pytest

from aioresilience import CircuitState, EventType

OLD_CONSTRUCTION = """
    from aioresilience import CircuitBreaker, Bulkhead, LoadShedder

    circuit = CircuitBreaker(name="api", failure_threshold=5, recovery_timeout=60.0)
    bulkhead = Bulkhead(name="db", max_concurrent=10)
    shedder = LoadShedder(max_requests=1000)
"""

NEW_CONSTRUCTION = """
    from aioresilience import (
        CircuitBreaker, CircuitConfig,
        Bulkhead, BulkheadConfig,
        LoadShedder, LoadSheddingConfig
    )

    circuit = CircuitBreaker(
        name="api",
        config=CircuitConfig(failure_threshold=5, recovery_timeout=60.0)
    )
    bulkhead = Bulkhead(config=BulkheadConfig(max_concurrent=10))
    shedder = LoadShedder(config=LoadSheddingConfig(max_requests=1000))
"""

SYNC_DECORATOR = """
    @circuit_breaker("api", failure_threshold=3)
    def sync_function():  # Sync function
        return requests.get("https://api.example.com")
"""

ASYNC_DECORATOR = """
    @circuit_breaker("api", failure_threshold=3)
    async def async_function():  # Async function required
        async with httpx.AsyncClient() as client:
            return await client.get("https://api.example.com")
"""

CALLBACKS = """
    from aioresilience import CircuitBreaker, CircuitConfig, ExceptionConfig
    from aioresilience.exceptions import ExceptionContext

    def on_failure(ctx: ExceptionContext):
        \"\"\"Called when circuit breaker encounters a failure\"\"\"
        print(f"Failure in {ctx.pattern_name}")
        print(f"Reason: {ctx.reason.name}")  # CALL_FAILED or THRESHOLD_EXCEEDED
        print(f"State: {ctx.metadata['state']}")
        print(f"Failure count: {ctx.metadata['failure_count']}")

        # Send alert if circuit opened
        if ctx.reason.name == 'THRESHOLD_EXCEEDED':
            send_alert(f"Circuit {ctx.pattern_name} opened!")

    exc_config = ExceptionConfig(on_exception=on_failure)
    circuit = CircuitBreaker(
        name="api",
        config=CircuitConfig(failure_threshold=5),
        exceptions=exc_config
    )

    # Now whenever the circuit fails, on_failure callback is invoked
    try:
        await circuit.call(risky_operation)
    except Exception:
        pass  # Callback already logged the failure
"""

STRING_COMPARISON = """
    @circuit.events.on("state_change")
    async def handler(event):
        if event.old_state == "closed" and event.new_state == "open":
            print("Circuit opened!")
"""

ENUM_COMPARISON = """
    from aioresilience.circuit_breaker import CircuitState

    @circuit.events.on(EventType.STATE_CHANGE.value)  # More efficient
    async def handler(event):
        if event.old_state == CircuitState.CLOSED and event.new_state == CircuitState.OPEN:
            print("Circuit opened!")
"""


async def run(block: str, **given: object) -> dict[str, object]:
    code = compile(textwrap.dedent(block), "guide", "exec", PyCF_ALLOW_TOP_LEVEL_AWAIT)
    names = dict(given)
    waiting = eval(code, names)
    if inspect.iscoroutine(waiting):
        await waiting
    return names


async def fail() -> None:
    raise ConnectionError("refused")


async def failing(names: dict[str, object], times: int) -> None:
    for _ in range(times):
        with pytest.raises(ConnectionError):
            await names["circuit"].call(fail)
    for _ in range(100):  # handlers run after the calls
        await asyncio.sleep(0)


async def test_patterns_are_built_from_configs():
    names = await run(NEW_CONSTRUCTION)
    assert (names["circuit"].failure_threshold, names["circuit"].recovery_timeout) == (5, 60.0)
    assert names["bulkhead"].max_concurrent == 10
    assert names["shedder"].max_requests == 1000


@pytest.mark.parametrize("line", textwrap.dedent(OLD_CONSTRUCTION).strip().splitlines()[2:])
async def test_keywords_of_0_1_stay_refused(line: str):
    with pytest.raises(TypeError):
        await run("from aioresilience import CircuitBreaker, Bulkhead, LoadShedder\n" + line)


async def test_a_decorated_plain_function_stays_refused():
    from aioresilience import circuit_breaker

    with pytest.raises(TypeError, match="can only be applied to async functions"):
        await run(SYNC_DECORATOR, circuit_breaker=circuit_breaker)


async def test_a_decorated_async_function_runs(monkeypatch: pytest.MonkeyPatch):
    from aioresilience import circuit_breaker

    transport = httpx.MockTransport(lambda request: httpx.Response(200, text=str(request.url)))
    real = httpx.AsyncClient
    monkeypatch.setattr(httpx, "AsyncClient", lambda: real(transport=transport))
    names = await run(ASYNC_DECORATOR, circuit_breaker=circuit_breaker, httpx=httpx)
    assert (await names["async_function"]()).text == "https://api.example.com"
    assert names["async_function"].circuit_breaker.failure_threshold == 3


async def test_callbacks_get_the_reason_the_state_and_the_count(capsys: pytest.CaptureFixture[str]):
    alerts: list[str] = []
    names = await run(CALLBACKS, send_alert=alerts.append, risky_operation=fail)
    assert capsys.readouterr().out.splitlines() == [
        "Failure in api", "Reason: CALL_FAILED", "State: closed", "Failure count: 1",
    ]  # fmt: skip
    await failing(names, 4)
    assert alerts == ["Circuit api opened!"]
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "Reason: THRESHOLD_EXCEEDED", "State: open", "Failure count: 5",
    ]  # fmt: skip


async def test_states_are_compared_as_enum_members(capsys: pytest.CaptureFixture[str]):
    names = await run(NEW_CONSTRUCTION)
    await run(ENUM_COMPARISON, EventType=EventType, **_circuit(names))
    await failing(names, 5)
    assert capsys.readouterr().out == "Circuit opened!\n"


async def test_a_handler_that_compares_strings_is_registered_and_harmless(capsys: pytest.CaptureFixture[str]):
    names = await run(NEW_CONSTRUCTION)
    await run(STRING_COMPARISON, **_circuit(names))
    await failing(names, 5)
    assert names["circuit"].state is CircuitState.OPEN
    assert capsys.readouterr().out == ""  # as in 0.2: the states are enum members


def _circuit(names: dict[str, object]) -> dict[str, object]:
    return {"circuit": names["circuit"]}
