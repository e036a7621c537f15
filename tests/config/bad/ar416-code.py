from aioresilience import get_registry, resilient


@resilient("paymets")
async def pay(): ...


policy = get_registry().get("search")
