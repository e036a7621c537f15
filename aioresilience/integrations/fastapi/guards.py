"""The middlewares of 0.2 around one guard each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from aioresilience.adaptive_concurrency import AdaptiveConcurrencyLimiter
from aioresilience.backpressure import BackpressureManager
from aioresilience.backpressure.pattern import PatientCaller
from aioresilience.bulkhead import Bulkhead
from aioresilience.calls import Caller
from aioresilience.circuit_breaker import CircuitBreaker
from aioresilience.exceptions import RejectionError
from aioresilience.integrations.asgi.answers import json_answer, retry_after as retry_after_header
from aioresilience.integrations.asgi.callers import RANKS, PriorityHeader
from aioresilience.integrations.asgi.types import App, Scope
from aioresilience.integrations.extras import extra
from aioresilience.integrations.fastapi.base import PatternMiddleware, as_answer, made
from aioresilience.load_shedding import BasicLoadShedder

with extra("fastapi", "Starlette"):
    from starlette.requests import Request


_CALLERS: Final = {priority: Caller(priority=priority) for priority in RANKS}


class CircuitBreakerMiddleware(PatternMiddleware):
    """Refuses requests while the circuit is open; an answer from 500 on is a failure, and passes unchanged.

    `error_detail_factory(circuit)` gives the body of a refusal, `response_factory(circuit, request)` all of it.
    """

    def __init__(
        self,
        app: App,
        circuit_breaker: CircuitBreaker,
        exclude_paths: Iterable[str] | None = None,
        error_message: str = "Service temporarily unavailable due to circuit breaker",
        error_detail_factory: Callable[[CircuitBreaker], object] | None = None,
        status_code: int = 503,
        retry_after: int | None = None,
        include_circuit_info: bool = True,
        response_factory: Callable[[CircuitBreaker, Request], object] | None = None,
        *,
        cancel_on_disconnect: bool = True,
    ) -> None:
        super().__init__(app, circuit_breaker, exclude_paths, cancel_on_disconnect)
        self.circuit_breaker = circuit_breaker
        self.error_message = error_message
        self.error_detail_factory = error_detail_factory
        self.status_code = status_code
        self.retry_after = retry_after
        self.include_circuit_info = include_circuit_info
        self.response_factory = response_factory

    async def refuse(self, rejection: RejectionError, request: Request) -> App:
        """Say that the circuit is open, and when it probes next."""
        if self.response_factory is not None:
            return as_answer(await made(self.response_factory(self.circuit_breaker, request)), self.status_code)
        known = rejection.retry_after if self.retry_after is None else self.retry_after
        headers = retry_after_header(1 if known is None else known)  # half-open: the probes under way will tell soon
        return json_answer(await self._content(), self.status_code, headers)

    async def _content(self) -> object:
        circuit = self.circuit_breaker
        if self.error_detail_factory is not None:
            return await made(self.error_detail_factory(circuit))
        content: dict[str, object] = {"detail": self.error_message, "reason": "CIRCUIT_OPEN"}
        if self.include_circuit_info:
            content |= {"circuit": circuit.name, "state": circuit.state.name.lower()}
        return content


class BulkheadMiddleware(PatternMiddleware):
    """Limits how many requests are answered at once; a place is held to the last byte."""

    def __init__(
        self,
        app: App,
        bulkhead: Bulkhead,
        exclude_paths: Iterable[str] | None = None,
        *,
        cancel_on_disconnect: bool = True,
    ) -> None:
        super().__init__(app, bulkhead, exclude_paths, cancel_on_disconnect)
        self.bulkhead = bulkhead

    async def refuse(self, rejection: RejectionError, request: Request) -> App:
        """Say that all places are taken."""
        content = {"detail": "Service at capacity", "bulkhead": self.bulkhead.name, "reason": reason_of(rejection)}
        return json_answer(content, 503, retry_after_header(1))


class LoadSheddingMiddleware(PatternMiddleware):
    """Sheds requests while the process is too busy for them, low priorities first.

    `priority_header` may ask for less than the default; for more only with `allow_priority`, which is a bool or is
    asked with the scope. `response_factory(load_shedder, request)` gives another answer.
    """

    def __init__(
        self,
        app: App,
        load_shedder: BasicLoadShedder,
        exclude_paths: Iterable[str] | None = None,
        error_message: str = "Service temporarily overloaded. Please retry later.",
        status_code: int = 503,
        retry_after: int = 5,
        priority_header: str = "X-Priority",
        default_priority: str = "normal",
        response_factory: Callable[[BasicLoadShedder, Request], object] | None = None,
        *,
        allow_priority: bool | Callable[[Scope], bool] = False,
        cancel_on_disconnect: bool = True,
    ) -> None:
        super().__init__(app, load_shedder, exclude_paths, cancel_on_disconnect)
        self.load_shedder = load_shedder
        self.error_message = error_message
        self.status_code = status_code
        self.retry_after = retry_after
        self.response_factory = response_factory
        self._priority = PriorityHeader(priority_header, default_priority, allow=allow_priority).__call__

    def caller(self, scope: Scope) -> Caller:
        """Say with what priority a request comes."""
        return _CALLERS[self._priority(scope)]

    async def refuse(self, rejection: RejectionError, request: Request) -> App:
        """Say that the request was shed."""
        if self.response_factory is not None:
            return as_answer(await made(self.response_factory(self.load_shedder, request)), self.status_code)
        return json_answer({"detail": self.error_message}, self.status_code, retry_after_header(self.retry_after))


class BackpressureMiddleware(PatternMiddleware):
    """Lets requests wait while too much is pending, at most `timeout` seconds."""

    def __init__(
        self,
        app: App,
        backpressure: BackpressureManager,
        exclude_paths: Iterable[str] | None = None,
        error_message: str = "System under backpressure",
        status_code: int = 503,
        retry_after: int = 5,
        timeout: float = 5.0,
        *,
        cancel_on_disconnect: bool = True,
    ) -> None:
        super().__init__(app, backpressure, exclude_paths, cancel_on_disconnect)
        self.backpressure = backpressure
        self.error_message = error_message
        self.status_code = status_code
        self.retry_after = retry_after
        self._caller = PatientCaller(patience=timeout)

    def caller(self, scope: Scope) -> Caller:
        """Say how long a request waits."""
        return self._caller

    async def refuse(self, rejection: RejectionError, request: Request) -> App:
        """Say that no relief came in time."""
        return json_answer({"detail": self.error_message}, self.status_code, retry_after_header(self.retry_after))


class AdaptiveConcurrencyMiddleware(PatternMiddleware):
    """Limits how many requests are answered at once, and finds the limit by itself."""

    def __init__(
        self,
        app: App,
        limiter: AdaptiveConcurrencyLimiter,
        exclude_paths: Iterable[str] | None = None,
        error_message: str = "Concurrency limit reached",
        status_code: int = 503,
        retry_after: int = 1,
        *,
        cancel_on_disconnect: bool = True,
    ) -> None:
        super().__init__(app, limiter, exclude_paths, cancel_on_disconnect)
        self.limiter = limiter
        self.error_message = error_message
        self.status_code = status_code
        self.retry_after = retry_after

    async def refuse(self, rejection: RejectionError, request: Request) -> App:
        """Say that the limit is reached."""
        return json_answer({"detail": self.error_message}, self.status_code, retry_after_header(self.retry_after))


def reason_of(rejection: RejectionError) -> str | None:
    """Return the reason by name."""
    return getattr(rejection.reason, "name", None)
