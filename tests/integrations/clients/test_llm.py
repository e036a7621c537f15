"""The vendors' own clients under the pack `llm-api`: one retry, not two, and streams that hold their place."""

from __future__ import annotations

import asyncio
import contextlib
import json

import anthropic
import httpx2
import openai
import pytest
from aiohttp import web
from loopback import Server, serving

from aioresilience import CircuitBreakerOpenError, Registry
from aioresilience.integrations.httpx2 import ResilienceTransport

TEXT = """
version: 1
include: ["pack:llm-api"]
policies:
  llm: {extends: llm-api, retry: {initial_delay: 1ms, max_delay: 2s}}
routes: [{path: /v1, policy: llm}]
"""
MESSAGES = [{"role": "user", "content": "hello"}]


class Vendor(Server):
    """Speaks a little of both vendors' languages: first the statuses it is told, then an answer."""

    def __init__(self, *statuses: int) -> None:
        super().__init__()
        self.statuses = list(statuses)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked = json.loads(await request.read())
        self.seen.append((request.method, request.path, b""))
        if self.statuses:
            return web.json_response({"error": {"message": "no"}}, status=self.statuses.pop(0), headers=self.more)
        if asked.get("stream"):
            return await self.streamed(request)
        if request.path.endswith("completions"):
            return web.json_response(
                COMPLETION | {"choices": [{"index": 0, "message": REPLY, "finish_reason": "stop"}]}
            )
        return web.json_response(MESSAGE)

    async def streamed(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for word in ("one ", "two"):
            delta = {"index": 0, "delta": {"content": word}, "finish_reason": None}
            await response.write(f"data: {json.dumps(COMPLETION | {'choices': [delta]})}\n\n".encode())
            await self.go_on.wait()
        await response.write(b"data: [DONE]\n\n")
        return response


COMPLETION = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
REPLY = {"role": "assistant", "content": "well"}
MESSAGE = {
    "id": "1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn", "stop_sequence": None,
    "content": [{"type": "text", "text": "well"}], "usage": {"input_tokens": 1, "output_tokens": 1},
}  # fmt: skip


@contextlib.asynccontextmanager
async def talking(of: Registry, vendor: Vendor, which: str):
    async with serving(vendor), httpx2.AsyncClient(transport=ResilienceTransport(of)) as http:
        if which == "openai":
            yield openai.AsyncOpenAI(api_key="x", base_url=f"{vendor.url}/v1", http_client=http, max_retries=0)
        else:
            yield anthropic.AsyncAnthropic(api_key="x", base_url=vendor.url, http_client=http, max_retries=0)


async def ask(client) -> str:
    if isinstance(client, openai.AsyncOpenAI):
        answer = await client.chat.completions.create(model="m", messages=MESSAGES)
        return answer.choices[0].message.content
    return (await client.messages.create(model="m", max_tokens=5, messages=MESSAGES)).content[0].text


BOTH = pytest.mark.parametrize("which", ["openai", "anthropic"])


@BOTH
async def test_what_is_throttled_is_asked_again_once(which):
    of, vendor = Registry.from_text(TEXT), Vendor(429)
    async with talking(of, vendor, which) as client:
        assert await ask(client) == "well"
    assert len(vendor.seen) == 2
    assert of.get("llm").retry.status()["retries"] == 1


@BOTH
async def test_a_failure_may_have_been_billed_and_is_not(which):
    vendor = Vendor(500, 500, 500)
    async with talking(Registry.from_text(TEXT), vendor, which) as client:
        with pytest.raises((openai.InternalServerError, anthropic.InternalServerError)):
            await ask(client)
    assert len(vendor.seen) == 1


@BOTH
async def test_retry_after_beyond_max_delay_is_the_user_s_to_hear(which):
    vendor = Vendor(429)
    vendor.more["Retry-After"] = "60"
    async with talking(Registry.from_text(TEXT), vendor, which) as client:
        with pytest.raises((openai.RateLimitError, anthropic.RateLimitError)) as caught:
            await ask(client)
    assert caught.value.response.headers["retry-after"] == "60"
    assert len(vendor.seen) == 1


@pytest.mark.parametrize(
    ("which", "error"), [("openai", CircuitBreakerOpenError), ("anthropic", anthropic.APIConnectionError)]
)
async def test_a_refusal_of_ours_comes_through_or_is_the_cause_of_the_vendor_s_error(which, error):
    of, vendor = Registry.from_text(TEXT), Vendor()
    of.get("llm").circuit_breaker.force_open("INC-1")
    async with talking(of, vendor, which) as client:
        with pytest.raises(error) as caught:
            await ask(client)
    assert isinstance(caught.value.__cause__ or caught.value, CircuitBreakerOpenError)
    assert vendor.seen == []


async def test_a_stream_holds_its_place_until_its_end():
    of, vendor, words = Registry.from_text(TEXT), Vendor(), []
    async with talking(of, vendor, "openai") as client:
        async with await client.chat.completions.create(model="m", messages=MESSAGES, stream=True) as stream:
            async for part in stream:
                words.append(part.choices[0].delta.content)
                if not vendor.go_on.is_set():
                    assert of.get("llm").adaptive_concurrency.active_count == 1
                    vendor.go_on.set()
        async with asyncio.timeout(30):
            while of.get("llm").adaptive_concurrency.active_count:
                await asyncio.sleep(0.005)
    assert words == ["one ", "two"]
