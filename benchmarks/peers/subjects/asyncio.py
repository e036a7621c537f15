"""What the standard library brings."""

import asyncio


def subjects(bare):
    async def timed():
        async with asyncio.timeout(5):
            return await bare()

    semaphore = asyncio.Semaphore(100)

    async def bounded():
        async with semaphore:
            return await bare()

    return {"timeout": timed, "bulkhead": bounded}
