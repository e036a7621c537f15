"""The breaker's own bound in time: a call that takes longer is cut, and has failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aioresilience.calls import Call, Caller, Exit, Handler, Trace
from aioresilience.exceptions import CircuitBreakerReason, OperationTimeoutError
from aioresilience.guard import Guard
from aioresilience.scope import Scope, Timeline


class OwnTimeout:
    """Cuts what a guard has admitted after `limit` seconds; under observe it reports that and cuts nothing."""

    __slots__ = ("_enforced", "_guard", "_limit", "_line")

    def __init__(self, guard: Guard[Any], limit: float, enforced: Callable[[Caller], bool]) -> None:
        self._guard = guard
        self._limit = limit
        self._enforced = enforced
        self._line = Timeline(clock=guard.clock, on_stall=self._stalled)

    def around(self, inner: Handler) -> Handler:
        """Return `inner` within the bound."""

        async def bounded(call: Call) -> object:
            leave = self.open(call.caller, call.noted())
            try:
                result = await inner(call)
            except BaseException as error:
                after = leave(error)
                if after is None or after is error:
                    raise
                raise after from error
            leave(None)
            return result

        return bounded

    def open(self, caller: Caller, trace: Trace) -> Exit:
        """Begin the bound; what is returned ends it and says what to raise."""
        if not self._enforced(caller):
            return self._watched(trace)
        scope = self._line.open(self._limit)

        def leave(error: BaseException | None) -> BaseException | None:
            return self._timed_out(scope, error, trace) if scope.leave(error) else error

        return leave

    def _watched(self, trace: Trace) -> Exit:
        guard, begun = self._guard, self._guard.clock.monotonic()

        def leave(error: BaseException | None) -> BaseException | None:
            elapsed = guard.clock.monotonic() - begun
            if elapsed > self._limit:
                guard.counts.observed += 1
                guard.decide(trace, "would_cut", waited=elapsed)
            return error

        return leave

    def _timed_out(self, scope: Scope, cut: BaseException | None, trace: Trace) -> OperationTimeoutError:
        guard, limit = self._guard, self._limit
        error = OperationTimeoutError(
            f"timeout of {limit:g} s exceeded in circuit breaker {guard.name!r}",
            guard.name, guard.type_name, CircuitBreakerReason.TIMEOUT, policy=guard.policy, timeout=limit,
        )  # fmt: skip
        error.neutral, error.waited, error.earlier = scope.stalled, limit, tuple(trace)
        error.__cause__ = cut  # a thread that runs on is found by it
        guard.decided(error)
        return error

    def _stalled(self, late: float) -> None:
        self._guard.decide([], "loop_stalled", waited=late)
