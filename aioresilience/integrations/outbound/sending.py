"""One request under a policy: whether it may be sent twice, what is forwarded, what is kept of its responses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from aioresilience.failures import FAILURE, THROTTLE
from aioresilience.policy import Policy
from aioresilience.scope import current_deadline

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""RFC 9110, 9.2.2."""


def is_idempotent(method: str, headers: Mapping[str, str], policy: Policy, wished: bool | None) -> bool | None:
    """Tell whether a request may be carried out twice: as it says itself, else its policy, else its method.

    An Idempotency-Key makes any method safe to repeat. None leaves it to the policy, which says it.
    """
    if wished is not None or policy.snapshot.context.idempotent is not None:
        return wished
    return method in IDEMPOTENT or "idempotency-key" in headers


def wants_retry(policy: Policy, response: object) -> bool:
    """Tell whether the policy might make the request again after this response."""
    retry = policy.retry
    if retry is None:
        return False
    outcome = policy.snapshot.context.classify.of_result(response)
    return outcome is FAILURE or outcome is THROTTLE or retry.config.retry_on_result is not None


def milliseconds_left(policy: Policy) -> str | None:
    """Return what the deadline leaves, for a header; None without a deadline."""
    deadline = current_deadline()
    return None if deadline is None else str(max(0, int((deadline - policy.clock.monotonic()) * 1000)))


class Sending:
    """The exchange of one request, as the retry and the guards of its policy see it."""

    __slots__ = ("_can_send", "_when_closed", "idempotent")

    def __init__(
        self,
        idempotent: bool | None,
        can_send: Callable[[], bool],
        when_closed: Callable[[object, Callable[[], object]], bool],
    ) -> None:
        self.idempotent = idempotent
        self._can_send = can_send
        self._when_closed = when_closed

    def can_send(self) -> bool:
        """Tell whether there is still something to send."""
        return self._can_send()

    def when_closed(self, result: object, callback: Callable[[], object]) -> bool:
        """Call back once an open response is closed; False for what is not open."""
        return self._when_closed(result, callback)
