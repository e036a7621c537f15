"""Requests that are answered again: what may be retried, and what has gone too far."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aioresilience import RetryConfig, RetryPolicy
from aioresilience.integrations.fastapi import RetryMiddleware
from aioresilience.testing import VirtualClock
from tests.integrations.harness import Request, answering, get, until


def counted(failures: list[Any]) -> tuple[Any, list[bytes]]:
    """Return an app that fails as listed before it answers with the body it got, and the bodies of all calls."""
    bodies: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        bodies.append(body)
        failure = failures[len(bodies) - 1] if len(bodies) <= len(failures) else 200
        if isinstance(failure, Exception):
            raise failure
        await answering(failure, body or b"ok")(scope, receive, send)

    return app, bodies


def retrying(app: Any, **more: Any) -> RetryMiddleware:
    return RetryMiddleware(app, initial_delay=0.001, **more)


@pytest.mark.parametrize("failure", [500, 502, 503, 504, ConnectionError("mine")])
async def test_errors_and_listed_statuses_are_retried(failure: Any):
    app, calls = counted([failure, failure])
    request = await get(retrying(app))
    assert (request.status, len(calls)) == (200, 3)
    assert [message["type"] for message in request.sent] == ["http.response.start", "http.response.body"]


async def test_the_last_answer_passes_whole():
    app, calls = counted([503] * 9)
    request = await get(retrying(app))
    assert (request.status, request.body, len(calls)) == (503, b"ok", 3)
    app, calls = counted([ValueError("mine")] * 9)
    with pytest.raises(ValueError, match="mine"):
        await get(retrying(app))
    assert len(calls) == 3


async def test_nothing_is_tried_again_for_a_client_that_has_left_meanwhile():
    app, calls = counted([503] * 9)
    request = Request(RetryMiddleware(app, initial_delay=3600)).start()
    await until(lambda: len(calls) == 1)
    request.leave()
    await asyncio.wait_for(request.done(), 30)
    assert (len(calls), request.status) == (1, None)


async def test_an_app_that_runs_on_without_its_client_is_tried_again():
    (app, calls), clock, heard = counted([503]), VirtualClock(), []
    policy = RetryPolicy(RetryConfig(initial_delay=60.0), name="patient", clock=clock)
    retried = RetryMiddleware(app, policy, cancel_on_disconnect=False)

    async def listening(scope: Any, receive: Any, send: Any) -> None:
        async def hear() -> Any:
            heard.append((message := await receive())["type"])
            return message

        await retried(scope, hear, send)

    request = Request(listening).start()
    await until(lambda: len(calls) == 1)
    request.leave()
    await until(lambda: "http.disconnect" in heard)
    await clock.advance(120.0)
    await request.done()
    assert (len(calls), request.status) == (2, 200)


@pytest.mark.parametrize("status", [200, 301, 400, 404, 429, 501])
async def test_other_statuses_pass_at_once(status: int):
    app, calls = counted([status])
    assert (await get(retrying(app))).status == status
    assert len(calls) == 1


@pytest.mark.parametrize(("method", "attempts"), [("GET", 3), ("PUT", 3), ("DELETE", 3), ("POST", 1), ("PATCH", 1)])
async def test_only_idempotent_methods_are_retried_unless_told(method: str, attempts: int):
    app, calls = counted([503] * 9)
    await get(retrying(app), method=method)
    assert len(calls) == attempts
    calls.clear()
    await get(retrying(app, methods=["POST", "PATCH"]), method=method)
    assert len(calls) == 4 - attempts


async def test_the_body_is_read_again_from_its_beginning():
    app, bodies = counted([503, ConnectionError()])
    request = await get(retrying(app), method="PUT", body=[b"one", b"two", b""])
    assert bodies == [b"onetwo"] * 3
    assert request.body == b"onetwo"


async def test_a_body_that_an_attempt_read_in_part_is_whole_in_the_next():
    bodies: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        first = await receive()
        bodies.append(first["body"])
        if len(bodies) == 1:
            raise ConnectionError
        bodies.append((await receive())["body"])
        assert (await receive())["body"] == b"c"
        await answering()(scope, receive, send)

    assert (await get(retrying(app), method="PUT", body=[b"a", b"b", b"c"])).status == 200
    assert bodies == [b"a", b"a", b"b"]


@pytest.mark.parametrize("failure", [503, ConnectionError("mine")])
async def test_a_body_too_long_to_keep_is_not_retried(failure: Any):
    app, bodies = counted([failure] * 9)
    request = Request(retrying(app, max_body=3), method="PUT", body=[b"one", b"two"])
    if failure == 503:
        assert (await request.done()).status == 503
    else:
        with pytest.raises(ConnectionError, match="mine"):
            await request.done()
    assert bodies == [b"onetwo"]


@pytest.mark.parametrize("status", [200, 503])
async def test_an_answer_that_has_begun_is_not_retried(status: int):
    calls = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        calls.append(1)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 100, "more_body": True})
        raise ValueError("too late")

    request = Request(retrying(app, max_body=50))
    with pytest.raises(ValueError, match="too late"):
        await request.done()
    assert (request.status, request.body, len(calls)) == (status, b"x" * 100, 1)


async def test_an_error_answer_too_long_to_hold_passes():
    app, calls = counted([503])
    request = await get(retrying(app, max_body=3), method="PUT", body=[b"four"])
    assert (request.status, request.body, len(calls)) == (503, b"four", 1)


async def test_an_app_that_saw_the_client_leave_is_not_called_again():
    calls = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        calls.append(1)
        while (await receive())["type"] != "http.disconnect":
            pass
        raise ConnectionError("the client has left")

    request = Request(retrying(app)).start()
    await asyncio.sleep(0)
    request.leave()
    with pytest.raises(ConnectionError, match="has left"):
        await request.done()
    assert len(calls) == 1


async def test_a_retry_policy_of_ones_own_decides():
    app, calls = counted([418, 418])
    policy = RetryPolicy(RetryConfig(max_attempts=2, initial_delay=0.001))
    request = await get(RetryMiddleware(app, policy, retry_on_status_codes=[418]))
    assert (request.status, len(calls)) == (418, 2)
    assert policy.metrics.retries_exhausted == 1
    policy.retune(RetryConfig(max_attempts=5, initial_delay=0.001))
    calls.clear()
    assert (await get(RetryMiddleware(app, policy, retry_on_status_codes=[418]))).status == 200


async def test_what_the_app_asks_to_wait_is_honoured():
    calls = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        calls.append(1)
        await answering(503, headers=[(b"Retry-After", b"3600")])(scope, receive, send)

    request = await get(retrying(app))
    assert (request.headers["retry-after"], len(calls)) == ("3600", 1)


async def test_each_attempt_has_a_scope_of_its_own():
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope.get("path_params"))
        scope["path_params"] = "mine"
        await answering(503)(scope, receive, send)

    await get(retrying(app))
    assert seen == [None] * 3


@pytest.mark.parametrize(("kind", "path"), [("websocket", "/"), ("lifespan", "/"), ("http", "/health")])
async def test_the_rest_passes_untouched(kind: str, path: str):
    seen: list[Any] = []

    async def app(*args: Any) -> None:
        seen.extend(args)

    args: Any = ({"type": kind, "path": path, "method": "GET"}, object(), object())
    await retrying(app)(*args)
    assert seen == list(args)
