"""The public types, as a user's type checker sees them: checked by mypy --strict, never run."""

from __future__ import annotations

from typing import assert_type

from aioresilience import CircuitBreaker, Policy, Registry, ResilienceError, resilient, retry
from aioresilience.retry import RetryPolicy


class User:
    id: str


@resilient("payments", key=lambda user, *_, **__: user.id)
async def pay(user: User, amount: int) -> bytes:
    return b""


@retry(max_attempts=3)
async def fetch(url: str, *, verbose: bool = False) -> str:
    return url


class Client:
    @resilient("payments")
    async def charge(self, amount: int) -> str:
        return ""


async def decorated_functions_keep_their_signature(user: User) -> None:
    assert_type(await pay(user, 3), bytes)
    assert_type(await fetch("/", verbose=True), str)
    assert_type(await Client().charge(3), str)
    await pay(user, "3")  # type: ignore[arg-type]
    await fetch(1)  # type: ignore[arg-type]


async def a_call_has_the_type_of_its_function(registry: Registry, breaker: CircuitBreaker, user: User) -> None:
    policy = registry.get("payments")
    assert_type(policy, Policy)
    assert_type(await policy.call(fetch, "/", verbose=True), str)
    assert_type(await policy.bind(key="user-7", priority="high").call(pay, user, 3), bytes)
    assert_type(await breaker.call(fetch, "/"), str)
    assert_type(await RetryPolicy().execute(fetch, "/"), str)


async def a_policy_is_a_decorator_and_admits(policy: Policy) -> None:
    @policy
    async def quote(symbol: str) -> float:
        return 0.0

    assert_type(await quote("A"), float)
    async with policy.admit():
        pass


def an_error_says_what_refused(error: ResilienceError) -> None:
    assert_type(error.retry_after, float | None)
