"""Counters with a closed set of labels."""

from __future__ import annotations

import functools
import threading
from enum import IntEnum

from aioresilience.failures import FAILURE, SUCCESS, Outcome
from aioresilience.forks import held_at_forks

_lining_up = threading.Lock()
held_at_forks(_lining_up)


@functools.cache
def _nobody(reasons: type[IntEnum] | None) -> dict[str, int]:
    """Return the refusals of all that refuse nobody, which are never written to."""
    return _zeros(reasons)


def _zeros(reasons: type[IntEnum] | None) -> dict[str, int]:
    return {reason.name: 0 for reason in reasons or ()}


class Row:
    """Calls that went well through a row of patterns, counted once for all of them."""

    __slots__ = ("members", "succeeded")

    def __init__(self, members: tuple[Counts, ...]) -> None:
        self.members = members
        self.succeeded = 0


class Counts:
    """What happened, in numbers with a closed set of labels."""

    __slots__ = ("_reasons", "_rows", "delayed", "done", "failed", "neutral", "observed", "rejected")

    def __init__(self, reasons: type[IntEnum] | None, *, refuses: bool = True) -> None:
        self.done = 0
        """Calls that succeeded beside those of the rows."""
        self._rows: tuple[Row, ...] = ()
        self.failed = self.neutral = 0
        self.observed = 0
        """Calls that `observe` let through though the machine would have refused or delayed them."""
        self.delayed = 0
        self._reasons = reasons
        self.rejected = _zeros(reasons) if refuses else _nobody(reasons)

    @property
    def started(self) -> int:
        """Calls that were let in and have ended."""
        return self.succeeded + self.failed + self.neutral

    @property
    def succeeded(self) -> int:
        """Calls that ended well."""
        return self.done + sum(row.succeeded for row in self._rows)

    def reset(self) -> None:
        """Start counting anew."""
        rows = self._rows
        self.__init__(self._reasons, refuses=self.rejected is not _nobody(self._reasons))  # type: ignore[misc]
        self.done = -sum(row.succeeded for row in rows)
        self._rows = rows

    def settle(self, outcome: Outcome) -> None:
        """Count how a started call ended; throttled calls and inner rejections are neutral."""
        if outcome is SUCCESS:
            self.done += 1
        elif outcome is FAILURE:
            self.failed += 1
        else:
            self.neutral += 1

    def as_dict(self) -> dict[str, object]:
        """Return the counts by name."""
        counts = self.beside(None)
        del counts["name"]
        return counts

    def beside(self, name: str | None) -> dict[str, object]:
        """Return the counts by name, beside the name of the pattern: in one go, since there may be ten thousand."""
        succeeded, failed, neutral = self.done, self.failed, self.neutral
        for row in self._rows:
            succeeded += row.succeeded
        return {
            "name": name, "started": succeeded + failed + neutral, "succeeded": succeeded, "failed": failed,
            "neutral": neutral, "observed": self.observed, "delayed": self.delayed, "rejected": self.rejected.copy(),
        }  # fmt: skip


def row_of(*members: Counts) -> Row:
    """Return the row of these patterns in this order; there is one for as long as they live."""
    with _lining_up:
        known = members[0]._rows if members else ()
        row = next((row for row in known if row.members == members), None)
        if row is None:
            row = Row(members)
            for counts in members:
                counts._rows = *counts._rows, row
        return row
