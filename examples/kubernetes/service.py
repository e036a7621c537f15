"""A service under a mounted ConfigMap: changed without a restart, and its probes say which generation it runs.

`uvicorn service:app`; the Deployment beside this file sets the variables.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aioresilience import configure, get_registry, resilient
from aioresilience.integrations.extras import extra

with extra("fastapi", "FastAPI"):
    from fastapi import FastAPI, Response


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # A name in @resilient that the file lacks fails the start here, not the first payment.
    registry = configure(watch=True)
    registry.reload_on_signal()
    yield
    await asyncio.to_thread(registry.stop_watching)
    registry.ignore_signals()


app = FastAPI(lifespan=lifespan)


@resilient("payments")
async def charge(cents: int) -> dict[str, object]:
    await asyncio.sleep(0.01)  # the call of the provider
    return {"status": "charged", "cents": cents}


@app.post("/charge/{cents}")
async def charged(cents: int) -> dict[str, object]:
    return await charge(cents)


@app.get("/livez")
async def alive() -> dict[str, object]:
    """Tell which generation is in effect.

    It does not fail over a broken file: the last good one is in force, and restarting the fleet would lose that.
    """
    status = get_registry().status()
    return {key: status[key] for key in ("generation", "revision", "last_reload_successful", "on_fallback", "metadata")}


@app.get("/readyz")
async def ready(response: Response) -> dict[str, object]:
    """Take no traffic on the fallback file in the image: somebody forgot the ConfigMap, or it is broken."""
    status = get_registry().status()
    response.status_code = 503 if status["on_fallback"] else 200
    return {"generation": status["generation"], "on_fallback": status["on_fallback"], "error": status["last_error"]}
