"""Overrides end by themselves, whether files are watched or not: a quarter of an hour before, people are told."""

from __future__ import annotations

import logging
import os
import random
import threading
import weakref
from typing import TYPE_CHECKING, Final

from aioresilience.config import Document, OverrideSpec
from aioresilience.logging import log_error
from aioresilience.registry import reporting

if TYPE_CHECKING:
    from aioresilience.registry.registry import Registry

AHEAD: Final = 900.0
"""Seconds before the end at which it is announced."""
SPREAD: Final = 60.0
"""Seconds over which the processes of a fleet spread the end."""
TICK: Final = 0.5
"""Seconds between two looks at the clock, which may jump."""


class Overrides:
    """The overrides of the document in effect, each with the time at which this process takes it away."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._due: dict[OverrideSpec, float] = {}
        self._announced: set[OverrideSpec] = set()

    @property
    def pending(self) -> bool:
        """Whether any override is still to end."""
        return bool(self._due)

    def follow(self, document: Document) -> None:
        """Take in the document that is in effect now; tell what has expired with the one before."""
        now = self._registry.clock.wall()
        active = [override for override in document.overrides if override.active]
        gone = [override for override in self._due if override not in active and override.expires <= now]
        self._due = {one: self._due.get(one) or one.expires + random.uniform(0, SPREAD) for one in active}
        self._announced &= set(active)
        for override in gone:
            self._tell("override_expired", override, "is over", logging.WARNING)
        if active:
            timekeeper.add(self)
            self._announce(now)

    def look(self) -> None:
        """Announce what ends soon, and take away what has ended."""
        now = self._registry.clock.wall()
        self._announce(now)
        late = [override for override, due in self._due.items() if due <= now]
        if late and self._registry.expire_overrides().outcome == "rejected":
            self._due.update(dict.fromkeys(late, now + SPREAD))

    def _announce(self, now: float) -> None:
        for override in list(self._due):
            if override.expires - AHEAD <= now and override not in self._announced:
                self._announced.add(override)
                left = max(0.0, override.expires - now)
                self._tell("override_expiring", override, f"ends in {left / 60:.0f} minutes", logging.WARNING)

    def _tell(self, name: str, override: OverrideSpec, what: str, level: int) -> None:
        message = f"the override of {override.policy!r} ({override.reason}, by {override.by}) {what}"
        reporting.tell(self._registry, name, message, level, **reporting.described(override))


class Timekeeper:
    """One daemon thread for all registries of the process, which runs only while an override is to end."""

    def __init__(self) -> None:
        self._followed: weakref.WeakSet[Overrides] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, overrides: Overrides) -> None:
        """Look after these until none of them is pending."""
        with self._lock:
            self._followed.add(overrides)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="aioresilience-overrides", daemon=True)
                self._thread.start()

    def restart_in_child(self) -> None:
        """Go on in a forked child, where the thread is gone."""
        self._lock = threading.Lock()
        self._thread = None
        for overrides in list(self._followed):
            self.add(overrides)

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(TICK) and self._look():
            pass

    def _look(self) -> bool:
        with self._lock:
            followed = [overrides for overrides in self._followed if overrides.pending]
            if not followed:
                self._thread = None
                return False
        for overrides in followed:
            try:
                overrides.look()
            except Exception as error:  # the others' time goes on
                log_error(reporting.LOGGER, error, looking="at overrides")
        return True


timekeeper: Final = Timekeeper()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=timekeeper.restart_in_child)
