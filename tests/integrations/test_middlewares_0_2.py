"""The middlewares of 0.2: their parameters, and what they answer."""

from __future__ import annotations

import asyncio
import inspect
import json
from typing import Any

import pytest
from fastapi import Depends, FastAPI, HTTPException
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse, PlainTextResponse

from aioresilience import (
    AdaptiveConcurrencyConfig,
    AdaptiveConcurrencyLimiter,
    BackpressureConfig,
    BackpressureManager,
    BasicLoadShedder,
    Bulkhead,
    BulkheadConfig,
    CircuitBreaker,
    CircuitConfig,
    ExceptionConfig,
    ExceptionContext,
    LoadSheddingConfig,
    LocalRateLimiter,
    RateLimiter,
)
from aioresilience.integrations import fastapi as integration
from aioresilience.integrations.fastapi import (
    AdaptiveConcurrencyMiddleware,
    BackpressureMiddleware,
    BulkheadMiddleware,
    CircuitBreakerMiddleware,
    FallbackMiddleware,
    LoadSheddingMiddleware,
    ResilienceMiddleware,
    RetryMiddleware,
    TimeoutMiddleware,
    get_client_ip,
    rate_limit_dependency,
    retry_route,
)
from aioresilience.testing import VirtualClock
from tests.integrations.harness import Handler, Request, answering, get

SIGNATURES = {
    "AdaptiveConcurrencyMiddleware": "app, limiter, exclude_paths=None, error_message='Concurrency limit reached', "
    "status_code=503, retry_after=1",
    "BackpressureMiddleware": "app, backpressure, exclude_paths=None, error_message='System under backpressure', "
    "status_code=503, retry_after=5, timeout=5.0",
    "BulkheadMiddleware": "app, bulkhead, exclude_paths=None",
    "CircuitBreakerMiddleware": "app, circuit_breaker, exclude_paths=None, error_message='Service temporarily "
    "unavailable due to circuit breaker', error_detail_factory=None, status_code=503, retry_after=None, "
    "include_circuit_info=True, response_factory=None",
    "FallbackMiddleware": "app, fallback_response=None, fallback_factory=None, exclude_paths=None, "
    "catch_exceptions=(<class 'Exception'>,), status_code=200, log_errors=True",
    "LoadSheddingMiddleware": "app, load_shedder, exclude_paths=None, error_message='Service temporarily overloaded. "
    "Please retry later.', status_code=503, retry_after=5, priority_header='X-Priority', default_priority='normal', "
    "response_factory=None",
    "ResilienceMiddleware": "app, rate_limiter=None, rate=None, load_shedder=None, bulkhead=None, "
    "circuit_breaker=None, timeout=None, exclude_paths=None",
    "RetryMiddleware": "app, retry_policy=None, exclude_paths=None, retry_on_status_codes=None, max_attempts=3, "
    "initial_delay=0.5, strategy=<RetryStrategy.EXPONENTIAL: 2>",
    "TimeoutMiddleware": "app, timeout=30.0, exclude_paths=None, error_message='Request exceeded timeout', "
    "status_code=408, response_factory=None",
    "get_client_ip": "request",
    "rate_limit_dependency": "rate_limiter, rate, error_message='Rate limit exceeded', status_code=429, "
    "retry_after=60, key_func=None",
    "retry_route": "retry_policy=None, max_attempts=3, initial_delay=1.0, retry_on_status_codes=None",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_parameters_and_defaults_are_those_of_0_2(name: str):
    ours = inspect.signature(getattr(integration, name)).parameters.values()
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in ours]
    added = {"trusted_proxies"} if name == "get_client_ip" else set()
    kept = [str(p) for p in bare if p.kind is not p.KEYWORD_ONLY and p.name not in added]
    assert ", ".join(kept) == SIGNATURES[name]


def test_what_we_add_can_only_be_given_by_name():
    positional = str(inspect.signature(LoadSheddingMiddleware))
    assert ", *, allow_priority" in positional


def opened(clock: VirtualClock, recovery: float = 30.0) -> CircuitBreaker:
    breaker = CircuitBreaker("psp", CircuitConfig(failure_threshold=1, recovery_timeout=recovery), clock=clock)
    breaker.machine.fail(breaker.machine.ticket, clock.monotonic(), None)
    return breaker


async def test_an_open_circuit_says_so_and_when_it_probes():
    clock = VirtualClock()
    app = CircuitBreakerMiddleware(answering(), opened(clock))
    await clock.advance(2.5)
    request = await get(app)
    assert request.status == 503
    assert request.headers["retry-after"] == "28"  # 27.5, rounded up
    assert request.headers["content-type"] == "application/json"
    assert request.json == {
        "detail": "Service temporarily unavailable due to circuit breaker",
        "reason": "CIRCUIT_OPEN",
        "circuit": "psp",
        "state": "open",
    }


async def test_an_open_circuit_says_what_it_is_told_to():
    clock = VirtualClock()
    breaker = opened(clock)
    app = CircuitBreakerMiddleware(
        answering(), breaker, error_message="later", status_code=599, retry_after=7, include_circuit_info=False
    )
    request = await get(app)
    assert (request.status, request.headers["retry-after"]) == (599, "7")
    assert request.json == {"detail": "later", "reason": "CIRCUIT_OPEN"}

    async def detail(circuit: CircuitBreaker) -> object:
        return {"who": circuit.name}

    assert (await get(CircuitBreakerMiddleware(answering(), breaker, error_detail_factory=detail))).json == {
        "who": "psp"
    }

    def response(circuit: CircuitBreaker, request: StarletteRequest) -> PlainTextResponse:
        return PlainTextResponse(f"{circuit.name} {request.url.path}", 598)

    request = await get(CircuitBreakerMiddleware(answering(), breaker, response_factory=response), "/pay")
    assert (request.status, request.body) == (598, b"psp /pay")


async def test_a_half_open_circuit_whose_probes_are_under_way_is_tried_again_soon():
    clock = VirtualClock()
    breaker, app = opened(clock, 1.0), Handler()
    guarded = CircuitBreakerMiddleware(app, breaker)
    await clock.advance(1.0)
    probe = Request(guarded).start()
    await app.entered.wait()
    request = await get(guarded)
    assert (request.status, request.headers["retry-after"], request.json["state"]) == (503, "1", "half_open")
    app.go.set()
    app.between.set()
    await probe.done()


async def test_a_full_bulkhead_says_so():
    places = Bulkhead("checkout", BulkheadConfig(max_concurrent=1))
    async with places:
        request = await get(BulkheadMiddleware(answering(), places))
    assert (request.status, request.headers["retry-after"]) == (503, "1")
    assert request.json == {"detail": "Service at capacity", "bulkhead": "checkout", "reason": "CAPACITY_FULL"}


async def test_a_refusal_that_an_exception_config_replaces_is_still_answered():
    places = Bulkhead("checkout", BulkheadConfig(max_concurrent=1), ExceptionConfig(exception_type=KeyError))
    app, handler = BulkheadMiddleware(Handler(), places), Handler()
    app.app = handler
    request = Request(app).start()
    await handler.entered.wait()
    assert (await get(app)).status == 503
    request.leave()
    await request.done()


async def test_an_exception_config_hears_of_requests_that_failed_and_leaves_their_errors_alone():
    told: list[ExceptionContext] = []

    async def note(context: ExceptionContext) -> None:
        await asyncio.sleep(0)
        told.append(context)

    circuit = CircuitBreaker("c", CircuitConfig(), ExceptionConfig(exception_type=KeyError, on_exception=note))
    handler = Handler()
    handler.error = ValueError("mine")
    handler.go.set()
    with pytest.raises(ValueError, match="mine") as raised:
        await get(CircuitBreakerMiddleware(handler, circuit))
    assert [context.original_exception for context in told] == [raised.value]
    assert told[0].reason.name == "CALL_FAILED"

    request = Request(CircuitBreakerMiddleware(Handler(), circuit)).start()
    request.leave()
    await request.done()
    assert (len(told), circuit.counts.neutral) == (1, 1)


async def test_a_shed_request_is_told_to_come_later():
    shedder = BasicLoadShedder(LoadSheddingConfig(max_requests=1))
    await shedder.acquire()
    request = await get(LoadSheddingMiddleware(answering(), shedder))
    assert (request.status, request.headers["retry-after"]) == (503, "5")
    assert request.json == {"detail": "Service temporarily overloaded. Please retry later."}

    def response(load_shedder: BasicLoadShedder, request: StarletteRequest) -> object:
        return {"in flight": load_shedder.active_requests, "path": request.url.path}

    app = LoadSheddingMiddleware(answering(), shedder, response_factory=response, status_code=529)
    request = await get(app, "/pay")
    assert (request.status, request.json) == (529, {"in flight": 1, "path": "/pay"})
    await shedder.release()


@pytest.mark.parametrize(
    ("asked", "allow", "counts"),
    [
        (None, False, "normal"),
        ("low", False, "low"),
        ("high", False, "normal"),
        ("high", True, "high"),
        ("HIGH ", True, "high"),
        ("urgent", True, "normal"),
        ("high", lambda scope: scope["client"][0] == "10.0.0.7", "high"),
        ("high", lambda scope: scope["client"][0] == "10.0.0.8", "normal"),
    ],
)
async def test_anybody_may_ask_for_less_priority_and_only_the_allowed_for_more(asked: Any, allow: Any, counts: str):
    seen = []

    class Shedder(BasicLoadShedder):
        def admit(self, caller: Any) -> object | None:
            seen.append(caller.priority)
            return super().admit(caller)

    headers = [] if asked is None else [("X-Priority", asked)]
    app = LoadSheddingMiddleware(answering(), Shedder(), allow_priority=allow)
    assert (await get(app, headers=headers, client=("10.0.0.7", 1))).status == 200
    assert seen == [counts]


async def test_backpressure_lets_wait_then_says_so():
    pressure = BackpressureManager(BackpressureConfig(max_pending=9, high_water_mark=1, low_water_mark=0))
    await pressure.acquire()
    app = BackpressureMiddleware(answering(), pressure, timeout=0.02)
    request = await get(app)
    assert (request.status, request.headers["retry-after"]) == (503, "5")
    assert request.json == {"detail": "System under backpressure"}
    patient = Request(BackpressureMiddleware(answering(), pressure, timeout=5.0)).start()
    await asyncio.sleep(0.01)
    await pressure.release()
    assert (await patient.done()).status == 200


async def test_an_adaptive_limit_that_is_reached_says_so():
    limiter = AdaptiveConcurrencyLimiter("requests", AdaptiveConcurrencyConfig(initial_limit=1, min_limit=1))
    app = AdaptiveConcurrencyMiddleware(answering(503), limiter)
    async with limiter:
        request = await get(app)
    assert (request.status, request.headers["retry-after"]) == (503, "1")
    assert request.json == {"detail": "Concurrency limit reached"}
    await get(app)
    assert limiter.get_stats()["failure_count"] == 1


async def test_a_handler_that_takes_too_long_is_cancelled_and_answered_408():
    app = Handler()
    request = await get(TimeoutMiddleware(app, 0.02))
    assert (request.status, request.json) == (408, {"detail": "Request exceeded timeout"})
    assert app.outcome == "cancelled"
    seen: list[Any] = []

    def response(timeout: float, request: StarletteRequest, elapsed: float) -> JSONResponse:
        seen.extend([timeout, request.url.path, elapsed])
        return JSONResponse({}, 504)

    assert (await get(TimeoutMiddleware(Handler(), 0.02, response_factory=response), "/slow")).status == 504
    assert seen[:2] == [0.02, "/slow"]
    assert seen[2] >= 0.02


async def test_an_answer_that_has_begun_may_take_its_time():
    app = Handler()
    app.go.set()
    request = Request(TimeoutMiddleware(app, 0.6)).start()
    await app.began.wait()
    await asyncio.sleep(0.7)
    app.between.set()
    await request.done()
    assert request.body == b"firstlast"


async def test_the_apps_own_timeout_error_is_not_taken_for_ours():
    app = Handler()
    app.error, _ = TimeoutError("mine"), app.go.set()
    with pytest.raises(TimeoutError, match="mine"):
        await get(TimeoutMiddleware(app, 5.0))


async def test_a_fallback_answers_in_the_place_of_an_error():
    app = Handler()
    app.error, _ = ValueError("a secret"), app.go.set()
    request = await get(FallbackMiddleware(app, {"queued": True}))
    assert (request.status, request.json) == (200, {"queued": True})
    assert (await get(FallbackMiddleware(app, PlainTextResponse("p", 206)))).status == 206

    async def factory(request: StarletteRequest, error: Exception) -> dict[str, str]:
        return {"path": request.url.path, "was": type(error).__name__}

    request = await get(FallbackMiddleware(app, fallback_factory=factory, status_code=203), "/pay")
    assert (request.status, request.json) == (203, {"path": "/pay", "was": "ValueError"})


async def test_a_fallback_needs_something_to_answer():
    with pytest.raises(ValueError, match="fallback_response or fallback_factory"):
        FallbackMiddleware(answering())


async def test_a_fallback_leaves_alone_what_it_is_not_for():
    app = Handler()
    app.error, _ = ValueError("mine"), app.go.set()
    with pytest.raises(ValueError, match="mine"):
        await get(FallbackMiddleware(app, "x", catch_exceptions=(KeyError,)))
    app.error, app.late_error, _ = None, ValueError("late"), app.between.set()
    with pytest.raises(ValueError, match="late"):
        await get(FallbackMiddleware(app, "x"))
    assert (await get(FallbackMiddleware(answering(503), "x"))).status == 503


async def test_several_patterns_in_their_order(caplog: pytest.LogCaptureFixture):
    clock, places = VirtualClock(), Bulkhead("b", BulkheadConfig(max_concurrent=1))
    shedder = BasicLoadShedder(LoadSheddingConfig(max_requests=1))
    everything: dict[str, Any] = {
        "rate_limiter": LocalRateLimiter(), "rate": "1/minute", "load_shedder": shedder, "bulkhead": places,
        "circuit_breaker": opened(clock), "timeout": 0.02,
    }  # fmt: skip

    async def answered(**left_out: Any) -> tuple[int | None, Any, str | None]:
        request = await get(ResilienceMiddleware(Handler(), **(everything | left_out)))
        return request.status, request.json["detail"], request.headers.get("retry-after")

    await everything["rate_limiter"].check_rate_limit("127.0.0.1", "1/minute")
    await shedder.acquire()
    async with places:
        assert await answered() == (429, "Rate limit exceeded: 1/minute", "60")
        out: dict[str, Any] = {"rate_limiter": None, "rate": None}
        assert await answered(**out) == (503, "Service overloaded", "5")
        assert await answered(**out, load_shedder=None) == (503, "Service at capacity", "1")
    await shedder.release()
    assert await answered(**out) == (503, "Circuit breaker open", "30")
    assert await answered(**out, circuit_breaker=None) == (408, "Request timeout (0.02s)", None)
    assert places.available_slots() == 1
    assert shedder.active_requests == 0


@pytest.mark.usefixtures("timers_may_be_late")
async def test_a_timeout_is_a_failure_to_the_circuit_around_it():
    breaker = CircuitBreaker("psp", CircuitConfig(failure_threshold=1))
    assert (await get(ResilienceMiddleware(Handler(), circuit_breaker=breaker, timeout=0.02))).status == 408
    assert breaker.counts.failed == 1


async def test_each_client_has_its_own_rate_and_cannot_choose_another():
    limiter, forged = RateLimiter(), [("X-Forwarded-For", "9.9.9.9")]
    app = ResilienceMiddleware(answering(), rate_limiter=limiter, rate="1/minute")
    assert (await get(app)).status == 200
    assert (await get(app, headers=forged)).status == 429
    assert (await get(app, client=("127.0.0.2", 1))).status == 200
    behind = ResilienceMiddleware(answering(), rate_limiter=limiter, rate="1/minute", trusted_proxies=["10.0.0.0/8"])
    proxied = [("X-Forwarded-For", "9.9.9.9, 8.8.8.8")]
    assert (await get(behind, headers=proxied, client=("10.0.0.1", 1))).status == 200
    assert (await get(behind, headers=proxied, client=("10.0.0.1", 1))).status == 429


@pytest.mark.parametrize("half", [{"rate_limiter": LocalRateLimiter()}, {"rate": "1/minute"}])
def test_a_limiter_and_its_rate_go_together(half: dict[str, Any]):
    with pytest.raises(ValueError, match="go together"):
        ResilienceMiddleware(answering(), **half)


PATHS = ["/health", "/metrics", "/ready", "/healthz"]
GUARDED = [
    "/",
    "/healthy",
    "/health/",
    "/Health",
    "/health/../pay",
    "//health",
    "/health/x",
    "/pay?/health",
    "/health\n",
]


def guards() -> dict[str, Any]:
    breaker = CircuitBreaker("x")
    breaker.force_open("shown here")
    refusing = Bulkhead("x", BulkheadConfig(max_concurrent=1))
    refusing.machine.try_take()
    return {
        "circuit": lambda app, **more: CircuitBreakerMiddleware(app, breaker, **more),
        "bulkhead": lambda app, **more: BulkheadMiddleware(app, refusing, **more),
        "several": lambda app, **more: ResilienceMiddleware(app, circuit_breaker=breaker, **more),
    }


@pytest.mark.parametrize("name", guards())
async def test_probes_pass_by_their_exact_paths(name: str):
    make = guards()[name]
    assert [(await get(make(answering()), path)).status for path in PATHS] == [200] * 4
    assert [(await get(make(answering()), path)).status for path in GUARDED] == [503] * len(GUARDED)
    mounted = await get(make(answering()), "/health", root_path="/api")
    assert mounted.status == 200
    named = make(answering(), exclude_paths=["/ping"])
    assert [(await get(named, path)).status for path in ("/ping", "/health")] == [200, 503]
    assert (await get(make(answering(), exclude_paths=[]), "/health")).status == 503


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "POST", "DELETE", "BREW"])
async def test_every_method_is_guarded(method: str):
    for make in guards().values():
        assert (await get(make(answering()), method=method)).status == 503


async def test_a_circuit_that_is_retuned_is_followed():
    breaker = CircuitBreaker("psp", CircuitConfig(failure_threshold=5, failure_exceptions=(KeyError,)))
    app = Handler()
    app.error, _ = ValueError("mine"), app.go.set()
    guarded = CircuitBreakerMiddleware(app, breaker)
    for counted in (0, 1):
        with pytest.raises(ValueError, match="mine"):
            await get(guarded)
        assert breaker.counts.failed == counted
        breaker.retune(CircuitConfig(failure_threshold=5, failure_exceptions=(ValueError,)))


async def test_the_dependency_refuses_a_client_beyond_its_rate():
    app, limiter = FastAPI(), LocalRateLimiter()

    @app.get("/", dependencies=[Depends(rate_limit_dependency(limiter, "1/minute"))])
    async def root() -> str:
        return "ok"

    async def user(request: StarletteRequest) -> object:
        return request.headers["x-user"]

    limited = rate_limit_dependency(limiter, "1/minute", "Slow down", 420, 7, key_func=user)

    @app.get("/user", dependencies=[Depends(limited)])
    async def by_user() -> str:
        return "ok"

    assert [(await get(app)).status for _ in range(2)] == [200, 429]
    refused = await get(app)
    assert refused.json == {"detail": "Rate limit exceeded: 1/minute"}
    assert 45 < int(refused.headers["retry-after"]) <= 60
    ada, bob = [("X-User", "ada")], [("X-User", "bob")]
    assert [(await get(app, "/user", headers=who)).status for who in (ada, bob, ada)] == [200, 200, 420]
    refused = await get(app, "/user", headers=bob)
    assert (refused.json, refused.headers["retry-after"]) == ({"detail": "Slow down: 1/minute"}, "7")


def connection(client: tuple[str, int] | None, *forwarded: str) -> StarletteRequest:
    headers = [(b"x-forwarded-for", line.encode()) for line in forwarded]
    return StarletteRequest({"type": "http", "headers": headers, "client": client})


def test_the_address_is_that_of_the_connection():
    assert get_client_ip(connection(("1.2.3.4", 5), "9.9.9.9")) == "1.2.3.4"
    assert get_client_ip(connection(None, "9.9.9.9")) == "unknown"
    assert get_client_ip(connection(("1.2.3.4", 5), "9.9.9.9"), ["1.2.3.0/24"]) == "9.9.9.9"


def test_importing_the_package_says_what_is_missing(monkeypatch: pytest.MonkeyPatch):
    import subprocess
    import sys

    hide = "import sys; sys.modules['starlette'] = None\nimport aioresilience.integrations.fastapi"
    run = subprocess.run([sys.executable, "-c", hide], capture_output=True, text=True)
    assert "pip install 'aioresilience[fastapi]'" in run.stderr
    plain = "import sys; sys.modules['starlette'] = None\nimport aioresilience.integrations.asgi"
    assert subprocess.run([sys.executable, "-c", plain], capture_output=True).returncode == 0


async def test_no_text_of_an_error_reaches_a_body():
    places = Bulkhead("b", BulkheadConfig(max_concurrent=1))
    async with places:
        assert "in use" not in json.dumps((await get(BulkheadMiddleware(answering(), places))).json)
    app = FastAPI()

    @app.get("/")
    async def root() -> None:
        raise ValueError("a secret")

    for middleware in (CircuitBreakerMiddleware(app, CircuitBreaker("c")), RetryMiddleware(app, initial_delay=0.001)):
        request = Request(middleware)
        with pytest.raises(ValueError, match="a secret"):
            await request.done()
        assert b"secret" not in request.body


async def test_a_route_is_called_again_on_errors_and_listed_statuses():
    app = FastAPI()
    calls: list[str] = []

    @app.get("/{what}")
    @retry_route(max_attempts=3, initial_delay=0.001)
    async def route(what: str, request: StarletteRequest) -> Any:
        calls.append(what)
        if what == "returned":
            return JSONResponse({"n": len(calls)}, 503)
        if what == "raised":
            raise HTTPException(502, "upstream")
        if what == "absent":
            raise HTTPException(404, "absent")
        if len(calls) < 3:
            raise ConnectionError
        return {"n": len(calls)}

    async def asked(path: str) -> tuple[int | None, Any, int]:
        calls.clear()
        request = await get(app, path)
        return request.status, request.json, len(calls)

    assert await asked("/returned") == (503, {"n": 3}, 3)
    assert await asked("/raised") == (502, {"detail": "upstream"}, 3)
    assert await asked("/absent") == (404, {"detail": "absent"}, 1)
    assert await asked("/mended") == (200, {"n": 3}, 3)


def test_only_async_routes_are_retried():
    with pytest.raises(TypeError, match="@retry_route"):

        @retry_route()  # type: ignore[arg-type]
        def plain() -> None: ...
