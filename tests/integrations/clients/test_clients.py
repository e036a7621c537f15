"""Real clients against a real server: which policy, what is retried, what is held how long, what is let go of."""

from __future__ import annotations

import asyncio
import gc

import pytest
from loopback import client_of

from aioresilience import BulkheadFullError, OperationTimeoutError, Policy, Registry
from aioresilience.bulkhead import Bulkhead, BulkheadConfig
from aioresilience.testing import VirtualClock

WEB = """
version: 1
policies:
  web:
    classify: {failure: {status: [500-599]}, throttle: {status: [429]}}
    retry: {max_attempts: 3, initial_delay: 1ms, max_delay: 2ms, budget: null}
    bulkhead: {max_concurrent: %d, max_waiting: 5, timeout: 5s}
    deadline: 15s
    %s
routes:
  - {host: 127.0.0.1, path: /plain, policy: bare}
  - {host: 127.0.0.1, policy: web}
"""


def registry(places: int = 10, more: str = "") -> Registry:
    text = WEB % (places, more)
    return Registry.from_text(text.replace("routes:", "  bare: {bulkhead: 3}\nroutes:"))


async def until(what, *arguments) -> None:
    async with asyncio.timeout(30):
        while not what(*arguments):
            await asyncio.sleep(0.005)


def started(of: Registry, policy: str = "web", pattern: str = "bulkhead") -> int:
    return of.get(policy).status()["patterns"][pattern]["started"]


def active(of: Registry, policy: str = "web") -> int:
    return of.get(policy).bulkhead.machine.active


async def test_routes_choose_the_policy(kind, server):
    of = registry()
    async with kind.using(of) as client:
        assert (await client.send("GET", f"{server.url}/x"))[0] == 200
        await client.send("GET", f"{server.url}/plain/x")
    assert (started(of), started(of, "bare")) == (1, 1)


async def test_a_reload_changes_the_routes_of_a_client_that_is_open(kind, server):
    of = registry()
    async with kind.using(of) as client:
        await client.send("GET", f"{server.url}/x")
        of.apply("{version: 1, policies: {web: {bulkhead: 1}, other: {bulkhead: 2}}, routes: [{policy: other}]}")
        await client.send("GET", f"{server.url}/x")
    assert started(of, "other") == 1


async def test_a_request_that_no_route_fits_goes_without_a_policy(kind, server):
    of = Registry.from_text("{version: 1, policies: {a: {bulkhead: 1}}, routes: [{host: other.invalid, policy: a}]}")
    async with kind.using(of) as client:
        assert (await client.send("GET", f"{server.url}/x"))[0] == 200
    assert "a" not in of.policies


async def test_one_policy_for_all(kind, server):
    policy = Policy("mine", [Bulkhead(config=BulkheadConfig(max_concurrent=1))])
    async with kind.using(None, policy=policy) as client:
        await client.send("GET", f"{server.url}/x")
    assert policy.bulkhead.counts.succeeded == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
async def test_idempotent_methods_are_retried_on_the_statuses_that_fail(kind, server, method):
    async with kind.using(registry()) as client:
        assert await client.send(method, f"{server.url}/status/503,502,200") == (200, "status 200")
    assert len(server.seen) == 3


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_others_are_not_and_the_response_is_the_server_s_own(kind, server, method):
    async with kind.using(registry()) as client:
        assert await client.send(method, f"{server.url}/status/503,200") == (503, "status 503")
    assert len(server.seen) == 1


async def test_a_post_is_retried_when_the_policy_says_so(kind, server):
    async with kind.using(registry(more="idempotent: true")) as client:
        assert await client.send("POST", f"{server.url}/status/503,200", body=b"card") == (200, "status 200")
    assert [body for _, _, body in server.seen] == [b"card", b"card"]


async def test_a_get_is_not_when_the_policy_says_so(kind, server):
    async with kind.using(registry(more="idempotent: false")) as client:
        assert (await client.send("GET", f"{server.url}/status/503,200"))[0] == 503


async def test_a_post_with_an_idempotency_key_is(kind, server):
    async with kind.using(registry()) as client:
        headers = {"Idempotency-Key": "7"}
        assert (await client.send("POST", f"{server.url}/status/503,200", body=b"x", headers=headers))[0] == 200


async def test_a_throttled_post_is_since_it_was_not_carried_out(kind, server):
    async with kind.using(registry()) as client:
        assert (await client.send("POST", f"{server.url}/status/429,200", body=b"x"))[0] == 200


async def test_what_never_started_is_retried_whatever_the_method(kind, server):
    of = registry()
    async with kind.using(of) as client:
        with pytest.raises(Exception, match=r"(?i)connect"):
            await client.send("POST", "http://127.0.0.1:1/x", body=b"x")
    assert started(of) == 3


async def test_the_last_response_stays_readable_when_attempts_are_used_up(kind, server):
    async with kind.using(registry()) as client:
        response = await client.open(f"{server.url}/status/503")
        assert await client.read(response) == "status 503"
        await client.close(response)
    assert len(server.seen) == 3


async def test_retry_after_is_honoured_up_to_max_delay(kind, server):
    server.more["Retry-After"] = "60"
    async with kind.using(registry()) as client:
        assert (await client.send("GET", f"{server.url}/status/503,200"))[0] == 503
    assert len(server.seen) == 1


async def test_responses_of_earlier_attempts_give_their_connection_back(kind, server):
    of = registry(places=1)
    async with kind.using(of, connections=1) as client:
        for number in range(5):
            assert (await client.send("GET", f"{server.url}/status/503,503,200?{number}"))[0] in (200, 503)
        await until(lambda: client.busy() == 0)
    assert active(of) == 0


async def test_a_chunked_response_is_let_go_of_before_the_next_attempt(kind, server):
    of = registry(places=2)
    async with kind.using(of, connections=2) as client:
        assert await client.send("GET", f"{server.url}/chunked/503") == (200, "first last")
        await until(lambda: client.busy() == 0)
    assert len(server.seen) == 2
    assert active(of) == 0


async def streamed_body():
    yield b"one "
    yield b"two"


async def test_a_streamed_request_is_never_sent_again_once_it_was_read(kind, server):
    of = registry(more="idempotent: true")
    async with kind.using(of) as client:
        assert (await client.send("POST", f"{server.url}/status/503,200", body=streamed_body()))[0] == 503
    assert [body for _, _, body in server.seen] == [b"one two"]


async def test_but_is_while_nothing_of_it_was_read(kind, server):
    of, body = registry(), streamed_body()
    async with kind.using(of) as client:
        with pytest.raises(Exception, match=r"(?i)connect"):
            await client.send("POST", "http://127.0.0.1:1/x", body=body)
    await body.aclose()
    assert started(of) == 3


async def test_a_place_lasts_until_the_response_is_closed(kind, server):
    of = Registry.from_text("{version: 1, policies: {web: {bulkhead: 1}}, routes: [{policy: web}]}")
    async with kind.using(of) as client:
        response = await client.open(f"{server.url}/stream")
        assert active(of) == 1
        with pytest.raises(BulkheadFullError):
            await client.send("GET", f"{server.url}/x")
        server.go_on.set()
        assert await client.read(response) == "first last"
        await client.close(response)
        await until(lambda: active(of) == 0)
        assert (await client.send("GET", f"{server.url}/x"))[0] == 200


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_response_that_somebody_forgets_keeps_its_place_no_longer_than_its_connection(kind, server):
    of = registry(places=1)
    async with kind.using(of) as client:
        response = await client.open(f"{server.url}/stream")
        assert active(of) == 1
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # aiohttp tells of it there
        del response
        gc.collect()
        if "Aiohttp" in type(client).__name__:
            server.go_on.set()  # aiohttp itself keeps such a response and its connection until it ends
        await until(lambda: active(of) == 0)


async def test_a_hanging_server_is_cut_and_its_connection_closed(kind, server):
    of = Registry.from_text("{version: 1, policies: {web: {timeout: 100ms, bulkhead: 1}}, routes: [{policy: web}]}")
    async with kind.using(of) as client:
        with pytest.raises(OperationTimeoutError):
            await client.send("GET", f"{server.url}/hang")
        await until(lambda: client.busy() == 0)
    assert active(of) == 0


async def test_cancelling_at_any_time_leaves_no_place_and_no_connection_behind(kind, server):
    of = registry(places=2)
    async with kind.using(of, connections=2) as client:
        for turn in range(25):
            call = asyncio.create_task(client.send("GET", f"{server.url}/{'stream' if turn % 2 else 'hang'}"))
            for _ in range(turn):
                await asyncio.sleep(0.0005)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        await until(lambda: client.busy() == 0)
        assert active(of) == 0
    server.go_on.set()
    async with kind.using(of, connections=2) as client:
        assert (await client.send("GET", f"{server.url}/x"))[0] == 200


async def test_a_deadline_covers_the_body(kind, server):
    text, clock = (
        "{version: 1, policies: {web: {deadline: 300ms, bulkhead: 1}}, routes: [{policy: web}]}",
        VirtualClock(),
    )
    of = Registry.from_text(text, clock=clock)
    async with kind.using(of) as client:
        response = await client.open(f"{server.url}/stream")
        reading = asyncio.create_task(client.read(response))
        await clock.advance(0.31)
        with pytest.raises(OperationTimeoutError, match="while the response was read"):
            await reading
        await client.close(response)
        await until(lambda: client.busy() == 0)
    assert active(of) == 0


async def test_unless_it_is_told_not_to(kind, server):
    clock = VirtualClock()
    text = "{version: 1, policies: {web: {deadline: 300ms, bulkhead: 1}}, routes: [{policy: web}]}"
    async with kind.using(Registry.from_text(text, clock=clock), deadline_covers_body=False) as client:
        response = await client.open(f"{server.url}/stream")
        clock.move(1)
        server.go_on.set()
        assert await client.read(response) == "first last"
        await client.close(response)


async def test_the_deadline_is_forwarded_when_asked(kind, server):
    policies = "web: {deadline: 10s}, bare: {bulkhead: 1}"
    text = f"{{version: 1, policies: {{{policies}}}, routes: [{{path: /bare, policy: bare}}, {{policy: web}}]}}"
    async with kind.using(Registry.from_text(text), deadline_header="X-Deadline-Ms") as client:
        await client.send("GET", f"{server.url}/x")
        await client.send("GET", f"{server.url}/bare")
    assert 0 < int(server.headers[0]["x-deadline-ms"]) <= 10_000
    assert "x-deadline-ms" not in server.headers[1]


async def test_a_key_for_each_request(kind, server):
    of = Registry.from_text(
        "{version: 1, policies: {web: {rate_limiter: {rate: 1/hour, scope: key}}}, routes: [{policy: web}]}"
    )
    async with kind.using(of, key=lambda request: request.headers["X-Tenant"]) as client:
        for tenant in ("a", "b"):
            await client.send("GET", f"{server.url}/x", headers={"X-Tenant": tenant})
    assert of.get("web").rate_limiter.status()["live_keys"] == 2


async def test_a_websocket_outlives_the_deadline_and_holds_its_place(server):
    text, clock = (
        "{version: 1, policies: {web: {deadline: 200ms, bulkhead: 1}}, routes: [{policy: web}]}",
        VirtualClock(),
    )
    of, kind = Registry.from_text(text, clock=clock), client_of("aiohttp")
    async with kind.using(of) as client:
        async with client.session.ws_connect(f"{server.url}/ws") as socket:
            assert active(of) == 1
            for _ in range(3):
                await clock.advance(0.1)
                await socket.send_str("ping")
                assert await socket.receive_str() == "ping"
        await until(lambda: active(of) == 0)


async def test_a_result_that_a_predicate_wants_again_frees_its_place_first(kind, server):
    text = """
version: 1
policies:
  web:
    {idempotent: true, deadline: 9s, bulkhead: 1, retry: {max_attempts: 3, initial_delay: 1ms, retry_on_result: empty}}
routes: [{policy: web}]
"""
    status = lambda response: getattr(response, "status_code", None) or response.status  # noqa: E731
    of = Registry.from_text(text, callables={"empty": lambda response: status(response) == 404})
    async with kind.using(of, connections=1) as client:
        assert (await client.send("GET", f"{server.url}/status/404,404,200"))[0] == 200
    assert of.get("web").bulkhead.counts.rejected["CAPACITY_FULL"] == 0
