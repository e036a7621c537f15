"""The status address: what it answers to whom."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi.params import Depends as DependsParam

from aioresilience import Registry
from aioresilience.events import global_bus
from aioresilience.integrations.status import status_app, status_router
from aioresilience.integrations.status.router import prefers_html
from aioresilience.registry import loading

SPITEFUL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


def registry_of(**about: str) -> Registry:
    return Registry.from_mapping(
        {"version": 1, "service": "checkout", "policies": {"payments": {"about": about, "bulkhead": 3}}}
    )


def app_of(registry: Registry, **options: Any) -> FastAPI:
    app = FastAPI()
    app.include_router(status_router(registry, **({"public": True} | options)))
    return app


async def ask(app: FastAPI, path: str = "/resilience", method: str = "GET", **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service.example.invalid") as client:
        return await client.request(method, path, headers=headers)


async def test_machines_get_json_with_what_the_page_adds() -> None:
    answer = await ask(app_of(registry_of(owner="team-pay")))
    status = answer.json()
    assert answer.headers["content-type"] == "application/json"
    assert status["generation"] == 1
    assert status["policies"]["payments"]["about"]["owner"] == "team-pay"
    assert status["policies"]["payments"]["signs"] == ["not used yet"]


async def test_one_policy_can_be_asked_for() -> None:
    registry = Registry.from_text("{version: 1, policies: {a: {bulkhead: 3}, b: {bulkhead: 4}}}", environ={})
    answer = await ask(app_of(registry), "/resilience?policy=b")
    assert list(answer.json()["policies"]) == ["b"]
    assert list(registry.status("a", "b")["policies"]) == ["a", "b"]  # type: ignore[call-overload]
    assert not registry.policies, "asking is no use"
    unknown = await ask(app_of(registry), "/resilience?policy=c")
    assert (unknown.status_code, "no policy is named 'c'" in unknown.text) == (404, True)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("accept", ["application/json", "text/html"])
async def test_the_answer_about_many_policies_is_written_in_short_steps(accept: str, monkeypatch: Any) -> None:
    """What is measured is the time on the CPU of the writing thread alone, from breath to breath."""
    policies = {f"p{number}": {"timeout": 2, "bulkhead": 3, "retry": 3} for number in range(500)}
    registry = Registry.from_mapping({"version": 1, "policies": policies}, environ={})
    for name in registry:
        await registry.get(name).call(asyncio.sleep, 0)
    app = app_of(registry)
    await ask(app, accept=accept)
    breaths: list[float] = []
    longest: list[float] = []
    monkeypatch.setattr(loading, "breathe", lambda: breaths.append(time.thread_time()))
    for _ in range(3):  # a machine that takes its processors away adds to any step, and not each time
        breaths.clear()
        answer = await ask(app, accept=accept)
        assert int(answer.headers["content-length"]) == len(answer.content)
        assert answer.text.count("p499") > 0
        assert breaths[-1] - breaths[0] > 0.01, "or else nothing was measured"
        longest.append(max(after - before for before, after in itertools.pairwise(breaths)))
    assert min(longest) < 0.01
    assert gc.isenabled()


async def test_browsers_get_the_page() -> None:
    answer = await ask(app_of(registry_of()), accept="text/html,application/xhtml+xml,*/*;q=0.8")
    assert answer.headers["content-type"].startswith("text/html")
    assert "<title>checkout: resilience</title>" in answer.text


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        ("", False),
        ("*/*", False),
        ("text/html", True),
        ("application/json", False),
        ("text/html;q=0.5, application/json", False),
        ("text/*, application/json;q=0.9", True),
        ("text/html;q=nonsense", False),
    ],
)
def test_the_client_chooses(accept: str, html: bool) -> None:
    assert prefers_html(accept) is html


def test_an_unguarded_router_has_to_be_asked_for() -> None:
    with pytest.raises(ValueError, match="public=True"):
        status_router(registry_of())


@pytest.mark.parametrize("refresh", [0.0, -1.0, 0.49, float("nan")])
def test_a_page_that_refreshes_all_the_time_is_refused(refresh: float) -> None:
    with pytest.raises(ValueError, match=r"at least 0\.5"):
        status_router(registry_of(), public=True, refresh=refresh)


async def test_dependencies_decide_who_may_look() -> None:
    def nobody() -> None:
        raise HTTPException(403)

    guard: DependsParam = Depends(nobody)
    app = app_of(registry_of(), public=False, dependencies=[guard])
    assert (await ask(app)).status_code == 403
    assert "payments" not in (await ask(app, accept="text/html")).text


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_nothing_can_be_changed(method: str) -> None:
    assert (await ask(app_of(registry_of()), method=method)).status_code == 405


async def test_it_can_stand_on_a_port_of_its_own() -> None:
    app = status_app(registry_of(), public=True)
    assert (await ask(app)).json()["service"] == "checkout"
    assert (await ask(app, "/openapi.json")).status_code == 404
    with pytest.raises(ValueError, match="public=True"):
        status_app(registry_of())


async def test_it_is_off_unless_mounted_and_stands_where_it_is_told() -> None:
    assert (await ask(FastAPI())).status_code == 404
    app = app_of(registry_of(), path="/internal/limits")
    assert (await ask(app)).status_code == 404
    assert (await ask(app, "/internal/limits")).status_code == 200
    assert "/internal/limits" not in app.openapi()["paths"]


class Tags(HTMLParser):
    """Collects tags, their attributes, and where they lead."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


async def test_whatever_a_file_says_is_text_on_the_page(tmp_path: Path) -> None:
    file = tmp_path / "resilience.json"
    policy = {"about": {"owner": SPITEFUL, "description": SPITEFUL, "runbook": f"javascript:{SPITEFUL}"}}
    file.write_text(json.dumps({"version": 1, "policies": {"payments": policy}}))
    registry = Registry.from_file(file, environ={})
    file.write_text(json.dumps({"version": 1, "policies": {"payments": {SPITEFUL: 1}}}))
    registry.reload()
    answer = await ask(app_of(registry, title=SPITEFUL), accept="text/html")
    tags = Tags()
    tags.feed(answer.text)
    assert answer.text.count("&lt;script&gt;alert(1)") >= 4
    assert SPITEFUL not in answer.text
    assert [tag for tag, _ in tags.found if tag in ("img", "a", "iframe", "object", "link")] == []
    assert [attributes.keys() for tag, attributes in tags.found if tag == "script"] == [{"nonce"}]


async def test_a_runbook_that_is_an_address_is_a_link_that_tells_nobody() -> None:
    answer = await ask(app_of(registry_of(runbook="https://example.invalid/psp")), accept="text/html")
    assert '<a href="https://example.invalid/psp" rel="noopener noreferrer">' in answer.text


async def test_the_page_may_load_nothing_and_is_not_kept() -> None:
    app = app_of(registry_of())
    first, second = await ask(app, accept="text/html"), await ask(app, accept="text/html")
    policy = first.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'nonce-")
    assert policy != second.headers["content-security-policy"]
    assert first.headers["cache-control"] == "no-store"
    assert (await ask(app)).headers["cache-control"] == "no-store"


async def test_the_page_shows_errors_as_the_command_line_does(tmp_path: Path) -> None:
    file = tmp_path / "resilience.yaml"
    file.write_text("version: 1\npolicies:\n  payments: {bulkhead: 3}\n")
    registry = Registry.from_file(file, environ={})
    file.write_text("version: 1\npolicies:\n  payments: {bulkhed: 3}\n")
    registry.reload()
    text = (await ask(app_of(registry), accept="text/html")).text
    assert "error AR201 policies.payments: unknown field &#39;bulkhed&#39;" in text
    assert "did you mean &#39;bulkhead&#39;?" in text


def test_a_router_that_is_gone_listens_no_more() -> None:
    gc.collect()
    before = global_bus.handler_count
    router = status_router(registry_of(), public=True)
    assert global_bus.handler_count == before + 1
    del router
    gc.collect()
    assert global_bus.handler_count == before
