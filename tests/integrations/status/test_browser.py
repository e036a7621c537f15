"""The status page in a real browser, over a real server."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, expect, sync_playwright

from aioresilience import Registry
from aioresilience.integrations.status import status_router

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
expect.set_options(timeout=30_000)  # the machine may be busy
PICTURE = os.environ.get("AIORESILIENCE_STATUS_PICTURE")
"""Where to put the picture, if not beside the test: `docs/status.png` renews the one that the docs show."""

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="NO BROWSER: the status page is not tested; install chromium (.ci/run does, where it may)"
)

YAML = """
version: 1
service: checkout
metadata: {owner: team-payments}
policies:
  payments:
    about: {owner: team-pay, description: "Card authorisation <b>&amp;</b>", runbook: "https://example.invalid/psp"}
    idempotent: false
    deadline: 5s
    retry: {max_attempts: 2, initial_delay: 10ms}
    circuit_breaker: {failure_threshold: 4, recovery_timeout: 30s}
    timeout: 2s
  quotes:
    about: {owner: team-quotes, description: Exchange rates}
    rate_limiter: {rate: 5/hour, burst: 5}
  search: {about: {owner: team-find}, mode: observe, bulkhead: 20}
  stock: {timeout: 1s}
"""


class Service:
    """A server on loopback in a thread of its own, and the registry it shows."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        app = FastAPI()
        app.include_router(status_router(self.registry, public=True, refresh=0.5))
        self._server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        end = time.monotonic() + 30
        while not self._server.started:
            assert time.monotonic() < end, "the server never started"
            threading.Event().wait(0.01)

    @property
    def url(self) -> str:
        host, port = self._server.servers[0].sockets[0].getsockname()[:2]
        return f"http://{host}:{port}/resilience"

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()

    def call(self, name: str, fail: bool = False, times: int = 1) -> None:
        async def calls() -> None:
            for _ in range(times):
                await asyncio.gather(self.registry.get(name).call(func), return_exceptions=True)

        async def func() -> None:
            if fail:
                raise ConnectionError("the provider is down")

        thread = threading.Thread(target=asyncio.run, args=[calls()])  # this one has Playwright's loop
        thread.start()
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield made
        made.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "resilience.yaml"
    made.write_text(YAML, encoding="utf-8")
    return made


@pytest.fixture
def service(file: Path) -> Iterator[Service]:
    made = Service(Registry.from_file(file, environ={}))
    yield made
    made.stop()


@pytest.fixture
def page(browser: Browser, service: Service) -> Iterator[Page]:
    made = browser.new_page()
    made.set_default_timeout(30_000)
    errors: list[object] = []
    made.on("pageerror", lambda error: errors.append(error))
    made.goto(service.url)
    yield made
    made.close()
    assert errors == []


def names(page: Page) -> list[str]:
    return page.locator(".policy:visible .name").all_inner_texts()


def test_it_shows_by_itself_that_a_circuit_has_opened(page: Page, service: Service) -> None:
    payments = page.locator(".policy[data-name=payments]")
    expect(payments.locator(".signs")).to_contain_text("not used yet")
    service.call("payments", fail=True, times=5)
    expect(payments.locator(".signs")).to_contain_text("circuit open, next probe in")
    assert names(page)[0] == "payments"
    payments.locator("summary").click()
    expect(payments.locator(".rejections li").first).to_contain_text("circuit_breaker: circuit open")
    expect(payments).to_contain_text("Card authorisation <b>&amp;</b>")


def test_a_policy_that_is_open_stays_open_over_refreshes(page: Page) -> None:
    stock = page.locator(".policy[data-name=stock]")
    stock.locator("summary").click()
    page.evaluate("document.querySelector('#live').dataset.old = 'yes'")
    expect(page.locator("#live[data-old]")).to_have_count(0)
    assert stock.evaluate("part => part.open")
    assert page.evaluate("document.activeElement.closest('.policy').dataset.name") == "stock"


def test_a_click_is_not_lost_to_a_refresh(page: Page) -> None:
    stock = page.locator(".policy[data-name=stock]")
    stock.locator("summary").hover()
    page.mouse.down()
    page.evaluate("document.querySelector('#live').dataset.old = 'yes'")
    page.evaluate("refresh()")
    page.mouse.up()
    expect(stock).to_have_attribute("open", "")
    expect(page.locator("#live[data-old]")).to_have_count(0)


def test_filter_and_sort_hold_over_refreshes(page: Page, service: Service) -> None:
    page.fill("#filter", "team-")
    page.select_option("#sort", "name")
    assert names(page) == ["payments", "quotes", "search"]
    service.call("search")
    expect(page.locator(".policy[data-name=search] .signs")).to_contain_text("mode observe")
    assert names(page) == ["payments", "quotes", "search"]
    page.fill("#filter", "no such thing")
    expect(page.locator("#none")).to_be_visible()


def test_a_refused_edit_is_shown_as_the_command_line_shows_it(page: Page, service: Service, file: Path) -> None:
    file.write_text(YAML.replace("timeout: 2s", "timeot: 2s"), encoding="utf-8")
    service.registry.reload()
    expect(page.locator("pre.error")).to_contain_text("unknown field 'timeot'")
    file.write_text(YAML.replace("timeout: 2s", "timeout: 1s"), encoding="utf-8")
    service.registry.reload()
    expect(page.locator("pre.error")).to_have_count(0)
    expect(page.locator(".config dd").first).to_have_text("2")


def test_it_asks_nobody_but_its_own_server(browser: Browser, service: Service) -> None:
    asked: list[str] = []
    page = browser.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.goto(service.url)
    expect(page.locator("#refreshed")).to_contain_text("refreshed ")
    page.close()
    assert set(asked) == {service.url}
    assert len(asked) > 1


def test_it_says_so_when_the_server_is_gone(page: Page, service: Service) -> None:
    service.stop()
    expect(page.locator("#refreshed")).to_contain_text("not refreshed")
    assert len(names(page)) == 4


def test_a_phone_needs_no_sideways_scrolling(browser: Browser, service: Service) -> None:
    service.call("payments", fail=True, times=5)
    page = browser.new_page(viewport={"width": 360, "height": 740})
    page.goto(service.url)
    page.locator(".policy[data-name=payments] summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.close()


def test_without_scripts_the_page_is_whole_and_reloads_itself(browser: Browser, service: Service) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(service.url)
    expect(page.locator(".policy")).to_have_count(4)
    service.call("quotes", times=7)
    expect(page.locator(".policy[data-name=quotes] .signs")).to_contain_text("at its rate")
    context.close()


def test_a_circuit_that_is_open_is_known_without_colour(page: Page, service: Service) -> None:
    service.call("payments", fail=True, times=5)
    mark = page.locator(".policy[data-name=payments] .sign.trouble b")
    expect(mark).to_have_text("✖")


def test_a_picture_can_be_taken_for_the_docs(browser: Browser, tmp_path: Path) -> None:
    picture = Path(PICTURE or tmp_path / "status.png")
    service = Service(Registry.from_text(YAML, "resilience.yaml", environ={}))
    page = browser.new_page(viewport={"width": 1100, "height": 860})
    try:
        page.goto(service.url)
        service.call("search", times=40)
        service.call("quotes", times=9)
        service.call("payments", fail=True, times=6)
        page.locator(".policy[data-name=payments] summary").click()
        expect(page.locator(".policy[data-name=payments] .rejections li")).to_have_count(2)
        expect(page.locator(".policy[data-name=search] .numbers")).not_to_contain_text("–")
        picture.write_bytes(page.screenshot())
    finally:
        page.close()
        service.stop()
    assert picture.stat().st_size > 10_000
