"""A fork copies what another thread was in the middle of, and that thread is not there to finish it."""

from __future__ import annotations

import os
from typing import Protocol


class AnyLock(Protocol):
    """A lock of `threading`, reentrant or not."""

    def acquire(self) -> bool:
        """Wait for it."""

    def release(self) -> None:
        """Let the next one have it."""


def held_at_forks(lock: AnyLock) -> None:
    """Let no fork come while another thread has the lock; for locks of the process that are held for a moment.

    Forks take such locks in the order in which threads do: what is imported first, the lowest floor, comes last.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
