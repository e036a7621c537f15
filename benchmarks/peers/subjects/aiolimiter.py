"""aiolimiter."""

from aiolimiter import AsyncLimiter


def subjects(bare):
    limiter = AsyncLimiter(1_000_000_000, 1)

    async def limited():
        async with limiter:
            return await bare()

    return {"rate limiter": limited}
