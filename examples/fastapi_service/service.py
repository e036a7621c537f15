"""A checkout: requests come in under policies, payments go out under another, all of them in resilience.yaml."""

from __future__ import annotations

import contextlib
import os
import secrets
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from aioresilience.integrations.fastapi import (
    PolicyMiddleware,
    RequestStart,
    add_problem_handlers,
    get_client_ip,
    problem_responses,
    protect,
    resilience_lifespan,
)
from aioresilience.integrations.httpx import ResilienceTransport
from aioresilience.integrations.prometheus import register
from aioresilience.integrations.status import status_router
from aioresilience.logging import configure_logging

# After those of the library, which name the extra that is missing.
# isort: split
import httpx
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

CONFIG = os.environ.get("AIORESILIENCE_CONFIG", str(Path(__file__).with_name("resilience.yaml")))
PSP_URL = os.environ.get("PSP_URL", "https://psp.example.invalid")
TRUSTED_PROXIES = os.environ.get("TRUSTED_PROXIES", "").split()
STATUS_PASSWORD = os.environ.get("STATUS_PASSWORD", "")
NOT_GUARDED = ["/health", "/metrics", "/resilience"]
"""What must answer above all when the service is too busy for anything else."""
KEPT = 10_000


class Order(BaseModel):
    """What a client asks for."""

    cents: Annotated[int, Field(gt=0, le=1_000_000)]
    card: Annotated[str, Field(pattern=r"^[0-9]{4,19}$")]


class Payment(BaseModel):
    """What became of it."""

    id: str
    cents: int


class Detail(BaseModel):
    """What FastAPI answers with an HTTPException."""

    detail: str


payments: dict[str, Payment] = {}


@contextlib.asynccontextmanager
async def connected(app: FastAPI) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
    """Keep one client of the provider for as long as the service runs."""
    async with httpx.AsyncClient(base_url=PSP_URL, transport=ResilienceTransport(policy="psp")) as client:
        yield {"psp": client}


def client_of(connection: Request) -> str:
    """Return who pays for a request: the address of the client, as our own proxies say it."""
    return get_client_ip(connection, TRUSTED_PROXIES)


def on_call(credentials: Annotated[HTTPBasicCredentials, Depends(HTTPBasic(realm="checkout"))]) -> None:
    """Let in who knows the password, whatever the name; nobody where none is set."""
    right = secrets.compare_digest(credentials.password.encode(), STATUS_PASSWORD.encode())
    if not (STATUS_PASSWORD and right):
        raise HTTPException(401, "wrong password", {"WWW-Authenticate": 'Basic realm="checkout"'})


configure_logging()
app = FastAPI(title="checkout", lifespan=resilience_lifespan(CONFIG, inner=connected), responses=problem_responses())
app.add_middleware(
    PolicyMiddleware, policy="public-api", exclude_paths=NOT_GUARDED, arrived=RequestStart(TRUSTED_PROXIES)
)
add_problem_handlers(app)
app.include_router(status_router(dependencies=[Depends(on_call)]))
register()


@app.get("/metrics", include_in_schema=False)
def metrics() -> Response:
    """Answer Prometheus; a plain function, so that no request waits for a scrape."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


@app.get("/health")
async def health(request: Request) -> dict[str, object]:
    """Say that the process lives, and which configuration it runs."""
    return {"ok": True, "generation": request.state.resilience.generation}


@app.post(
    "/payments",
    status_code=201,
    dependencies=[Depends(protect("per-client", key=client_of))],
    responses={
        400: {"model": Detail, "description": "No text that could be read"},
        502: {"model": Detail, "description": "The provider refused or failed"},
    },
)
async def pay(order: Order, request: Request) -> Payment:
    """Charge a card."""
    try:
        answer = await request.state.psp.post("/charges", json=order.model_dump())
    except httpx.TransportError as error:  # refusals and overruns are none: the problem handlers answer them
        raise HTTPException(502, "the payment provider cannot be reached") from error
    if answer.status_code != 201:
        raise HTTPException(502, "the payment provider did not accept the charge")
    payment = Payment(id=uuid.uuid4().hex, cents=order.cents)
    payments[payment.id] = payment
    while len(payments) > KEPT:
        del payments[next(iter(payments))]
    return payment


@app.get("/payments/{payment_id}", responses={404: {"model": Detail, "description": "No such payment"}})
async def payment_of(payment_id: str) -> Payment:
    """Return a payment."""
    found = payments.get(payment_id)
    if found is None:
        raise HTTPException(404, "no such payment")
    return found


@app.get("/report", response_class=StreamingResponse)
async def report() -> StreamingResponse:
    """Stream all payments as CSV; the request is in flight to the last line."""

    async def lines() -> AsyncIterator[str]:
        yield "id,cents\n"
        for payment in list(payments.values()):
            yield f"{payment.id},{payment.cents}\n"

    return StreamingResponse(lines(), media_type="text/csv")
