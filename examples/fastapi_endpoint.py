"""A FastAPI endpoint under a policy: refused calls become 429 and 503 with Retry-After. Runs in-process."""

import asyncio
import math

from aioresilience import RateLimitExceededError, Registry, RejectionError, resilient
from aioresilience.integrations.extras import extra

with extra("httpx"):
    import httpx
with extra("fastapi", "FastAPI"):
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse

registry = Registry.from_text(
    """
version: 1
policies:
  quotes:
    timeout: 1s
    rate_limiter: {rate: 2/minute, scope: key}
    bulkhead: 10
"""
)
app = FastAPI()


@app.exception_handler(RejectionError)
async def refused(request: Request, error: RejectionError) -> JSONResponse:
    headers = {} if error.retry_after is None else {"Retry-After": str(math.ceil(error.retry_after))}
    status = 429 if isinstance(error, RateLimitExceededError) else 503
    return JSONResponse({"detail": "too busy", "reason": str(error.pattern_type)}, status, headers)


@app.get("/quotes/{symbol}")
@resilient("quotes", key=lambda symbol, user: user, registry=registry)
async def quote(symbol: str, user: str) -> dict[str, object]:
    """Keep the signature: FastAPI still sees a path and a query parameter."""
    return {"symbol": symbol, "price": 1.0837}


async def main() -> None:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        answers = [await client.get("/quotes/EURUSD", params={"user": "ada"}) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert 0 < int(answers[2].headers["Retry-After"]) <= 30
        other = await client.get("/quotes/EURUSD", params={"user": "bob"})
        assert other.status_code == 200
        print("ada:", [answer.status_code for answer in answers], "bob:", other.status_code)


if __name__ == "__main__":
    asyncio.run(main())
