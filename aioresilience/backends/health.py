"""Whether a server may be asked: the breaker in front of it, which opens at the first sign and learns by probes."""

from __future__ import annotations

import statistics
from collections import deque
from typing import Final

WATCHED: Final = 1.0
"""Seconds for which answers must be slow before the server counts as away."""
ENOUGH: Final = 3
"""Answers that a median is taken of."""
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0
FLAPPING: Final = 10.0
"""Seconds: a server that goes away again within them is probed less often from the start."""


class Health:
    """Takes every answer and every failure, `now` in monotonic seconds; `reason` is None while the server is well."""

    __slots__ = ("_answers", "_pause", "_recovered_at", "_slow_since", "reason", "slow")

    def __init__(self, slow: float) -> None:
        self.slow = slow
        self.reason: str | None = None
        self._answers: deque[tuple[float, float]] = deque()
        self._slow_since: float | None = None
        self._pause = FIRST_PAUSE
        self._recovered_at = float("-inf")

    def answered(self, now: float, latency: float) -> bool:
        """Note an answer; return whether the median has been too slow for a second by now."""
        answers = self._answers
        answers.append((now, latency))
        while answers[0][0] < now - WATCHED:
            answers.popleft()
        if latency <= self.slow and self._slow_since is None:
            return False
        if len(answers) < ENOUGH or self.median() <= self.slow:
            self._slow_since = None
            return False
        if self._slow_since is None:
            self._slow_since = now
        return now - self._slow_since >= WATCHED

    def median(self) -> float:
        """Return the median latency of the last second, 0 where nothing was asked; from any thread."""
        answers = self._answers.copy()  # in one step: answers come meanwhile
        return statistics.median(latency for _, latency in answers) if answers else 0.0

    def forget(self) -> None:
        """Begin to watch anew."""
        self._answers.clear()
        self._slow_since = None

    def failed(self, now: float, reason: str) -> None:
        """Count the server as away."""
        self.reason = reason
        self.forget()
        if now - self._recovered_at > FLAPPING:
            self._pause = FIRST_PAUSE

    def pause(self) -> float:
        """Return the seconds until the next probe, longer each time."""
        pause, self._pause = self._pause, min(LONGEST_PAUSE, 2 * self._pause)
        return pause

    def recovered(self, now: float) -> None:
        """Count the server as well again."""
        self.reason = None
        self._recovered_at = now
