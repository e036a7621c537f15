"""What only httpx has: extensions for one request, transports of one's own, fallbacks that become responses."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys

import httpx
import pytest

from aioresilience import Policy, Registry, UnknownPolicyError
from aioresilience.integrations.httpx import ResilienceTransport

TEXT = """
version: 1
policies:
  a: {bulkhead: 1, retry: {max_attempts: 2, initial_delay: 1ms}, idempotent: null, classify: {failure: {status: [503]}}}
  b: {bulkhead: 1}
  quotes: {fallback: {value: {rate: 1.08}}}
  nothing: {fallback: {value: null}}
  words: {fallback: {value: sorry}}
  tenants: {rate_limiter: {rate: 1/hour, scope: key}}
routes: [{policy: a}]
"""


class Told:
    """A transport that notes requests and answers as told."""

    def __init__(self, *answers: int | Exception) -> None:
        self.requests: list[httpx.Request] = []
        self.answers = list(answers)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        await request.aread()
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer, text=f"status {answer}")


def client(of: Registry | None, told: Told, **options) -> httpx.AsyncClient:
    inner = httpx.MockTransport(told)
    return httpx.AsyncClient(
        transport=ResilienceTransport(of, transport=inner, **options), base_url="https://x.invalid"
    )


def used(of: Registry) -> set[str]:
    return set(of.policies)


@pytest.mark.parametrize("said", ["b", {"policy": "b"}, {"policy": "b", "priority": "high"}])
async def test_a_request_may_name_its_policy(said):
    of = Registry.from_text(TEXT)
    async with client(of, Told()) as http:
        await http.get("/", extensions={"resilience": said})
    assert used(of) == {"b"}


async def test_or_bring_one_or_want_none():
    of, mine = Registry.from_text(TEXT), Policy("mine")
    async with client(of, Told()) as http:
        await http.get("/", extensions={"resilience": mine})
        await http.get("/", extensions={"resilience": {"policy": None}})
    assert used(of) == set()


async def test_or_its_key_and_keep_the_policy_of_the_routes():
    of = Registry.from_text(TEXT.replace("policy: a}", "policy: tenants}"))
    async with client(of, Told()) as http:
        for key in ("x", "y"):
            await http.get("/", extensions={"resilience": {"key": key}})
    assert of.get("tenants").rate_limiter.status()["live_keys"] == 2


@pytest.mark.parametrize(("method", "said", "times"), [("POST", True, 2), ("GET", False, 1), ("POST", None, 1)])
async def test_or_say_whether_it_may_be_sent_twice(method, said, times):
    told = Told(503)
    async with client(Registry.from_text(TEXT), told) as http:
        await http.request(method, "/", extensions={"resilience": {"idempotent": said}})
    assert len(told.requests) == times


@pytest.mark.parametrize("said", [7, {"polcy": "b"}, ["b"]])
async def test_a_wish_that_makes_no_sense_is_refused(said):
    async with client(Registry.from_text(TEXT), Told()) as http:
        with pytest.raises(TypeError, match="policy, key, priority, idempotent"):
            await http.get("/", extensions={"resilience": said})


def test_a_misspelt_policy_fails_when_the_transport_is_made():
    with pytest.raises(UnknownPolicyError, match="did you mean 'quotes'"):
        ResilienceTransport(Registry.from_text(TEXT), policy="quote")
    with pytest.raises(TypeError, match="policy="):
        ResilienceTransport("quotes")


async def test_a_fallback_becomes_a_response():
    async with client(Registry.from_text(TEXT), Told(*[httpx.ReadError("x")] * 3)) as http:
        quotes = await http.get("/", extensions={"resilience": "quotes"})
        nothing = await http.get("/", extensions={"resilience": "nothing"})
        words = await http.get("/", extensions={"resilience": "words"})
    assert (quotes.status_code, quotes.json(), quotes.extensions["resilience"]) == (200, {"rate": 1.08}, "fallback")
    assert (nothing.status_code, nothing.content) == (204, b"")
    assert words.text == "sorry"


async def test_a_file_is_not_sent_again():
    told = Told(503)
    async with client(Registry.from_text(TEXT), told) as http:
        files = {"f": io.BytesIO(b"content")}
        assert (await http.put("/", files=files)).status_code == 503
    assert len(told.requests) == 1


async def test_bytes_json_and_forms_are():
    told = Told(503, 200, 503, 200, 503, 200)
    async with client(Registry.from_text(TEXT), told) as http:
        for body in ({"content": b"x"}, {"json": [1]}, {"data": {"a": "b"}}):
            assert (await http.put("/", **body)).status_code == 200
    assert [one.content for one in told.requests][::2] == [one.content for one in told.requests][1::2]


async def test_the_request_of_the_caller_stays_as_it_was():
    of, told = Registry.from_text("{version: 1, policies: {a: {deadline: 5s}}, routes: [{policy: a}]}"), Told()
    async with client(of, told, deadline_header="X-Left") as http:
        request = http.build_request("GET", "/")
        response = await http.send(request)
    assert "X-Left" not in request.headers
    assert "X-Left" in told.requests[0].headers
    assert response.request is request


async def test_the_transport_that_sends_is_opened_and_closed():
    class Inner(httpx.AsyncBaseTransport):
        states: list[str] = []  # noqa: RUF012

        async def __aenter__(self):
            self.states.append("open")
            return self

        async def aclose(self) -> None:
            self.states.append("closed")

    async with httpx.AsyncClient(transport=ResilienceTransport(Registry.from_text(TEXT), transport=Inner())):
        pass
    assert Inner.states == ["open", "closed"]


async def test_without_a_transport_it_makes_its_own():
    transport = ResilienceTransport(Registry.from_text(TEXT))
    async with transport:
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("module", "library", "extra"),
    [("httpx", "httpx", "httpx"), ("httpx2", "httpx2", "httpx2"), ("aiohttp_client", "aiohttp", "aiohttp")],
)
def test_a_missing_library_is_an_error_that_names_the_extra(module, library, extra):
    code = f"import sys; sys.modules[{library!r}] = None; import aioresilience.integrations.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"pip install 'aioresilience[{extra}]'" in done.stderr
