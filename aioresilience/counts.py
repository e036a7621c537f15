"""Counters with a closed set of labels."""

from __future__ import annotations

import functools
import threading
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable
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

    __slots__ = ("members", "succeeded", "users")

    def __init__(self, members: tuple[Counts, ...], succeeded: int = 0) -> None:
        self.members = members
        self.succeeded = succeeded
        self.users = 0
        """The functions that count in it, those still to be made included."""


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
        with _lining_up:
            rows = self._rows
            self.__init__(self._reasons, refuses=self.rejected is not _nobody(self._reasons))  # type: ignore[misc]
            self.done = -sum(row.succeeded for row in rows)
            self._rows = rows

    def fold(self, over: Collection[Row]) -> None:
        """Put one number in the place of rows in which nobody counts any more; readers see all of it or nothing."""
        past = [row for row in self._rows if row in over or not row.members]
        living = [row for row in self._rows if row not in past]
        self._rows = Row((), sum(row.succeeded for row in past)), *living

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


class _User(weakref.ref[Callable[..., object]]):
    """A function that counts in rows; a call under way keeps it alive."""

    __slots__ = ("rows",)
    rows: tuple[Row, ...]


_rows: dict[tuple[Counts, ...], Row] = {}
_users: set[_User] = set()
_gone: deque[_User] = deque()


def row_of(*members: Counts) -> Row:
    """Return the row of these patterns in this order, for a function that `counted_by` is to be told of."""
    with _lining_up:
        row = _rows.get(members)
        if row is None:
            row = _rows[members] = Row(members)
            for counts in members:
                counts._rows = *counts._rows, row
        row.users += 1
    return row


def counted_by(function: Callable[..., object], rows: Iterable[Row]) -> None:
    """Keep rows apart for as long as this function lives, which counts in them."""
    user = _User(function, _left)
    user.rows = tuple(rows)
    if user.rows:
        _users.add(user)


def _left(user: weakref.ref[Callable[..., object]]) -> None:
    """Fold what nobody counts in now; the collector may call this anywhere, even while this thread has the lock."""
    assert isinstance(user, _User)
    _gone.append(user)
    while _gone and _lining_up.acquire(blocking=False):
        try:
            _fold_gone()
        finally:
            _lining_up.release()


def _fold_gone() -> None:
    over = set()
    while _gone:
        user = _gone.popleft()
        _users.discard(user)
        for row in user.rows:
            row.users -= 1
            if not row.users:
                over.add(row)
                del _rows[row.members]
    for counts in {counts for row in over for counts in row.members}:
        counts.fold(over)
