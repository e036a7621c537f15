"""What a client is told of a request that was refused or cut: a problem detail (RFC 9457), and when to come back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from http import HTTPStatus
from typing import Final

from aioresilience.exceptions import FallbackFailedError, OperationTimeoutError, RateLimitExceededError, RejectionError

MEDIA_TYPE: Final = "application/problem+json"

_DETAILS: Final = {
    "circuit_breaker": "Something that this request needs is failing; it is left alone until it recovers.",
    "bulkhead": "Too many requests are being answered at once.",
    "adaptive_concurrency": "Too many requests are being answered at once.",
    "rate_limiter": "Too many requests in this time.",
    "load_shedding": "The service is too busy.",
    "backpressure": "The service is too busy.",
    "timeout": "The answer was not ready in time.",
    "deadline": "The answer was not ready in time.",
}
"""By pattern; an error's own text stays inside, since it names what is nobody else's business."""
_OTHERWISE: Final = "The request cannot be answered now."


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem detail; `retry_after` in whole seconds, None where nobody knows."""

    status: int
    detail: str
    reason: str | None
    retry_after: int | None

    def content(self) -> dict[str, object]:
        """Return the members: those of RFC 9457, and `reason`, one of a closed set of names."""
        members: dict[str, object] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        return members if self.reason is None else members | {"reason": self.reason}

    def headers(self) -> dict[str, str]:
        """Return the header Retry-After (RFC 9110, 10.2.3), where it is known."""
        return {} if self.retry_after is None else {"retry-after": str(self.retry_after)}


def rejection_in(error: BaseException | None) -> RejectionError | None:
    """Find the refusal in an error, which an ExceptionConfig may have made into another one."""
    if error is not None and not isinstance(error, RejectionError):
        error = error.__cause__
    return error if isinstance(error, RejectionError) else None


def whole_seconds(seconds: float | None) -> int | None:
    """Round seconds up, so that nobody comes too early."""
    return None if seconds is None or not math.isfinite(seconds) else max(0, math.ceil(seconds))


def problem_of(error: BaseException) -> Problem | None:
    """Return the problem that an error of ours is to the client; None for any other error, and for our user's mistakes.

    A spent rate is 429, any other refusal and a failed fallback 503, what was not ready in time 504.
    """
    known = error if isinstance(error, (OperationTimeoutError, FallbackFailedError)) else rejection_in(error)
    if known is None:
        return None
    status = 429 if isinstance(known, RateLimitExceededError) else 503
    if isinstance(known, OperationTimeoutError):
        status = 504
    detail = _DETAILS.get(known.pattern_type or "", _OTHERWISE)
    reason = known.reason.name if isinstance(known.reason, IntEnum) else None
    return Problem(status, detail, reason, whole_seconds(known.retry_after))
