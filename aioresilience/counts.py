"""Counters with a closed set of labels."""

from __future__ import annotations

import functools
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
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

    def end(self) -> None:
        """Note that nobody counts in it any more."""
        members, self.members = self.members, ()
        for counts in members:
            counts.passed += 1


class Counts:
    """What happened, in numbers with a closed set of labels."""

    __slots__ = ("_reasons", "_rows", "delayed", "done", "failed", "neutral", "observed", "passed", "rejected")

    def __init__(self, reasons: type[IntEnum] | None, *, refuses: bool = True) -> None:
        self.done = 0
        """Calls that succeeded beside those of the rows."""
        self._rows: list[Row] | tuple[()] = ()
        self.passed = 0
        """The rows in which nobody counts any more."""
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
            rows, passed = self._rows, self.passed
            self.__init__(self._reasons, refuses=self.rejected is not _nobody(self._reasons))  # type: ignore[misc]
            self.done = -sum(row.succeeded for row in rows)
            self._rows, self.passed = rows, passed

    def line_up(self, row: Row) -> None:
        """Count what is counted in the row too; a block that is shared by thousands of policies has thousands."""
        if self._rows:
            self._rows.append(row)
        else:
            self._rows = [row]

    def fold(self) -> None:
        """Put one number in the place of rows in which nobody counts any more; readers see all of it or nothing.

        Not before they are half of all: so that the many who leave a shared block do not go through it one by one.
        """
        if 2 * self.passed >= len(self._rows):
            living = [row for row in self._rows if row.members]
            past = sum(row.succeeded for row in self._rows if not row.members)
            self._rows, self.passed = [Row((), past), *living], 1

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
                counts.line_up(row)
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
    touched: set[Counts] = set()
    while _gone:
        user = _gone.popleft()
        _users.discard(user)
        for row in user.rows:
            row.users -= 1
            if not row.users:
                del _rows[row.members]
                touched.update(row.members)
                row.end()
    for counts in touched:
        counts.fold()
