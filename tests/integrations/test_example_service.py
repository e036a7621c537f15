"""The example service in a process of its own, with a payment provider beside it, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tests.integrations.servers import serving

EXAMPLES = Path(__file__).parents[2] / "examples"
EXAMPLE = EXAMPLES / "fastapi_service"
ORDER = {"cents": 1999, "card": "4242424242424242"}


class Provider:
    """A payment provider whose status the test sets; with None it breaks off in the middle of its answer."""

    def __init__(self) -> None:
        self.status: int | None = 201
        self.charges = 0
        self.app = Starlette(routes=[Route("/charges", self.charge, methods=["POST"])])

    async def charge(self, request: Request) -> Response:
        self.charges += 1
        return JSONResponse({}, self.status) if self.status is not None else BrokenOff({})


class BrokenOff(JSONResponse):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 201, "headers": self.raw_headers})
        raise ConnectionError


@contextlib.asynccontextmanager
async def running(folder: Path, provider: int, log: list[str]) -> AsyncIterator[httpx.AsyncClient]:
    """Run the service as `uvicorn service:app` does; stop it by SIGTERM, and add what it wrote to the log."""
    environ = os.environ | {
        "PSP_URL": f"http://127.0.0.1:{provider}", "AIORESILIENCE_ENVIRONMENT": "development",
        "TRUSTED_PROXIES": "127.0.0.1", "STATUS_PASSWORD": "secret",
    }  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        command = [sys.executable, "-m", "uvicorn", "service:app", "--fd", str(listening.fileno())]
        process = await asyncio.create_subprocess_exec(
            *command, cwd=folder, env=environ, pass_fds=[listening.fileno()], stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    assert process.stderr is not None
    written = asyncio.ensure_future(process.stderr.read())
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 30)
        log.append((await written).decode())
        print(log[-1])


async def until_it_answers(client: httpx.AsyncClient, generation: int) -> None:
    deadline = asyncio.get_running_loop().time() + 30
    while True:
        with contextlib.suppress(httpx.TransportError):
            if (await client.get("/health")).json()["generation"] == generation:
                return
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)


async def paid(client: httpx.AsyncClient, who: str) -> httpx.Response:
    return await client.post("/payments", json=ORDER, headers={"X-Forwarded-For": who})


async def test_the_service_under_its_file(tmp_path: Path):
    folder = shutil.copytree(EXAMPLE, tmp_path / "service")
    file, provider, log = folder / "resilience.yaml", Provider(), list[str]()
    file.write_text(
        file.read_text().replace("rate: 20/minute, burst: 5", "rate: 1/minute, burst: 5")
    )  # none comes back
    async with serving(provider.app, "uvicorn-h11") as port, running(folder, port, log) as client:
        await until_it_answers(client, 1)

        answers = [await paid(client, "203.0.113.1") for _ in range(6)]
        assert [answer.status_code for answer in answers] == [201] * 5 + [429]
        assert answers[5].headers["content-type"] == "application/problem+json"
        assert 1 <= int(answers[5].headers["retry-after"]) <= 60
        assert (await paid(client, "203.0.113.2")).status_code == 201

        await the_metrics_tell_of(client, paid=6, refused=1)
        await the_status_page_is_for_who_knows_the_password(client)

        payment = answers[0].json()
        assert (await client.get(f"/payments/{payment['id']}")).json() == payment
        assert (await client.get("/payments/nobody")).status_code == 404
        assert len((await client.get("/report")).text.splitlines()) == 7

        file.write_text(file.read_text().replace("rate: 1/minute, burst: 5", "rate: 1000/second, burst: 1000"))
        await until_it_answers(client, 2)
        file.write_text(file.read_text().replace("deadline: 5s", "deadline: nonsense"))
        await until_the_status_tells(client, "nonsense")

        provider.status = None
        assert (await paid(client, "203.0.113.3")).json() == {"detail": "the payment provider cannot be reached"}
        provider.status = 503
        statuses = [(await paid(client, "203.0.113.3")).status_code for _ in range(45)]
        assert set(statuses[:20]) == {502}
        assert statuses[-1] == 503  # the circuit is open
        charges = provider.charges
        refused = await paid(client, "203.0.113.3")
        assert (refused.json()["reason"], provider.charges) == ("CIRCUIT_OPEN", charges)
        assert int(refused.headers["retry-after"]) >= 1
        assert (await client.get("/health")).json() == {"ok": True, "generation": 2}
        assert await samples(client, "aioresilience_circuit_states", policy="psp", state="open") == 1
        assert await samples(client, "aioresilience_config_last_reload_successful") == 0
    assert "'nonsense' is not a duration" in log[0]


async def samples(client: httpx.AsyncClient, name: str, **labels: str) -> float:
    """Return the sum of the samples of that name that have these labels."""
    families = text_string_to_metric_families((await client.get("/metrics")).text)
    found = [sample for family in families for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in found if labels.items() <= sample.labels.items())


async def the_metrics_tell_of(client: httpx.AsyncClient, paid: int, refused: int) -> None:
    answered = {"policy": "public-api", "pattern": "deadline"}
    assert await samples(client, "aioresilience_calls_total", **answered, outcome="success") == paid + refused
    assert await samples(client, "aioresilience_calls_total", policy="psp", pattern="circuit_breaker") == paid
    limited = {"policy": "per-client", "pattern": "rate_limiter", "reason": "rate_limit_exceeded"}
    assert await samples(client, "aioresilience_rejections_total", **limited) == refused

    scraped = (await client.get("/metrics")).text
    for reader in ("grafana/aioresilience.json", "prometheus/alerts.yaml"):
        read = set(re.findall(r"\baioresilience_\w+", (EXAMPLES / reader).read_text()))
        assert read - {name.split()[2] for name in scraped.splitlines() if name.startswith("# TYPE")} == set()


async def the_status_page_is_for_who_knows_the_password(client: httpx.AsyncClient) -> None:
    for wrong in (None, ("", ""), ("admin", "guessed")):
        refused = await client.get("/resilience", auth=wrong)
        assert (refused.status_code, "psp" in refused.text) == (401, False)
        assert refused.headers["www-authenticate"].startswith("Basic")
    page = await client.get("/resilience", auth=("", "secret"), headers={"Accept": "text/html"})
    assert "https://example.invalid/runbooks/psp" in page.text


async def until_the_status_tells(client: httpx.AsyncClient, mistake: str) -> None:
    deadline = asyncio.get_running_loop().time() + 30
    while mistake not in str((await client.get("/resilience", auth=("", "secret"))).json()["last_error"]):
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)


def test_the_manifest_mounts_the_folder_and_asks_a_path_that_is_let_through():
    documents: list[Any] = list(yaml.safe_load_all((EXAMPLE / "kubernetes.yaml").read_text()))
    pod = documents[0]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    environ = {entry["name"]: entry.get("value") for entry in container["env"]}
    mount = container["volumeMounts"][0]
    assert environ["AIORESILIENCE_CONFIG"] == f"{mount['mountPath']}/resilience.yaml"
    assert "subPath" not in mount
    assert {container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")} == {"/health"}
    readme = (EXAMPLE / "README.md").read_text()
    assert pod["volumes"][0]["configMap"]["name"] in readme
    secret = next(
        entry["valueFrom"]["secretKeyRef"] for entry in container["env"] if entry["name"] == "STATUS_PASSWORD"
    )
    assert f"secret generic {secret['name']} --from-literal={secret['key']}=" in readme
    scrape = documents[0]["spec"]["template"]["metadata"]["annotations"]
    assert (scrape["prometheus.io/path"], scrape["prometheus.io/port"]) == ("/metrics", "8000")
