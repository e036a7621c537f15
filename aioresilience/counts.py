"""Counters with a closed set of labels."""

from __future__ import annotations

from enum import IntEnum

from aioresilience.failures import FAILURE, SUCCESS, Outcome

_NUMBERS = ("started", "succeeded", "failed", "neutral", "observed", "delayed")


class Counts:
    """What happened, in numbers with a closed set of labels: started = succeeded + failed + neutral + in flight."""

    __slots__ = ("_reasons", "delayed", "failed", "neutral", "observed", "rejected", "started", "succeeded")

    def __init__(self, reasons: type[IntEnum] | None) -> None:
        self.started = self.succeeded = self.failed = self.neutral = 0
        self.observed = 0
        """Calls that `observe` let through though the machine would have refused or delayed them."""
        self.delayed = 0
        self._reasons = reasons
        self.rejected: dict[str, int] = {reason.name: 0 for reason in reasons or ()}

    def reset(self) -> None:
        """Start counting anew."""
        self.__init__(self._reasons)  # type: ignore[misc]

    def settle(self, outcome: Outcome) -> None:
        """Count how a started call ended; throttled calls and inner rejections are neutral."""
        if outcome is SUCCESS:
            self.succeeded += 1
        elif outcome is FAILURE:
            self.failed += 1
        else:
            self.neutral += 1

    def as_dict(self) -> dict[str, object]:
        """Return the counts by name."""
        numbers: dict[str, object] = {name: getattr(self, name) for name in _NUMBERS}
        return numbers | {"rejected": dict(self.rejected)}
