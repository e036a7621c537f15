"""0.2's middleware of several patterns."""

from __future__ import annotations

from collections.abc import Iterable

from aioresilience.bulkhead import Bulkhead
from aioresilience.calls import ANYONE
from aioresilience.circuit_breaker import CircuitBreaker
from aioresilience.exceptions import OperationTimeoutError, RejectionError
from aioresilience.integrations.asgi.answers import json_answer, retry_after
from aioresilience.integrations.asgi.callers import ClientAddress
from aioresilience.integrations.asgi.exchange import Exchange
from aioresilience.integrations.asgi.middleware import AdmissionMiddleware, Gate
from aioresilience.integrations.asgi.types import App, Receive, Scope, Send
from aioresilience.integrations.fastapi.rate_limits import ChecksRates
from aioresilience.integrations.paths import route_path
from aioresilience.integrations.problems import rejection_in
from aioresilience.load_shedding import BasicLoadShedder
from aioresilience.policy import Admission, Entrance
from aioresilience.timeout import TimeoutConfig, TimeoutManager

_REFUSALS = {
    "load_shedding": ("Service overloaded", 5),
    "bulkhead": ("Service at capacity", 1),
    "circuit_breaker": ("Circuit breaker open", 1),
}
"""What is said, and after how many seconds one may come again where the pattern does not know."""


class ResilienceMiddleware(AdmissionMiddleware):
    """Puts requests through, in this order: rate limit per client, load shedder, bulkhead, circuit breaker, timeout.

    Each is left out where it is not given. `timeout` (seconds) bounds the time until the answer begins. The client is
    who connects; `X-Forwarded-For` counts only from `trusted_proxies`.
    """

    def __init__(
        self,
        app: App,
        rate_limiter: ChecksRates | None = None,
        rate: str | None = None,
        load_shedder: BasicLoadShedder | None = None,
        bulkhead: Bulkhead | None = None,
        circuit_breaker: CircuitBreaker | None = None,
        timeout: float | None = None,
        exclude_paths: Iterable[str] | None = None,
        *,
        trusted_proxies: Iterable[str] = (),
        cancel_on_disconnect: bool = True,
    ) -> None:
        super().__init__(app, exclude_paths, cancel_on_disconnect=cancel_on_disconnect)
        if (rate_limiter is None) is not (rate is None):
            raise ValueError("rate_limiter and rate go together: one of them is missing")
        self._limiter = rate_limiter
        self._rate = rate or ""
        self._client = ClientAddress(trusted_proxies)
        self._gate = Gate([guard for guard in (load_shedder, bulkhead, circuit_breaker) if guard is not None])
        self.timeout = timeout
        self._timer = None if timeout is None else _timer(timeout)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if await self._in_rate(scope):
            await super().__call__(scope, receive, send)
        else:
            answer = json_answer({"detail": f"Rate limit exceeded: {self._rate}"}, 429, retry_after(60))
            await answer(scope, receive, send)

    async def _in_rate(self, scope: Scope) -> bool:
        if self._limiter is None or scope["type"] != "http" or route_path(scope) in self._excluded:
            return True
        return await self._limiter.check_rate_limit(self._client(scope), self._rate)

    def entrance(self, scope: Scope, path: str) -> Entrance:
        """Return that of the guards."""
        return self._gate.entrance()

    def prepare(self, exchange: Exchange, scope: Scope) -> None:
        """Bound the time until the answer begins."""
        exchange.first = None if self._timer is None else Admission(self._timer.entrance(), ANYONE)

    async def answer(self, error: Exception, scope: Scope, receive: Receive) -> App | None:
        """Say who refused, or that it took too long."""
        if isinstance(error, OperationTimeoutError):
            return json_answer({"detail": f"Request timeout ({self.timeout}s)"}, 408)
        rejection = rejection_in(error)
        return None if rejection is None else _refusal(rejection)


def _timer(seconds: float) -> Gate:
    return Gate([TimeoutManager(TimeoutConfig(timeout=seconds), name="request")])


def _refusal(rejection: RejectionError) -> App:
    detail, seconds = _REFUSALS[str(rejection.pattern_type)]
    known = rejection.retry_after
    return json_answer({"detail": detail}, 503, retry_after(seconds if known is None else known))
