from aioresilience import resilient


@resilient("payments")
async def pay(user, amount:
    return amount
