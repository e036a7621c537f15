"""Noticing that files changed: fingerprints are the truth, watchfiles makes it quick."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
import weakref
from types import TracebackType
from typing import TYPE_CHECKING

import watchfiles

from aioresilience.registry import reporting
from aioresilience.registry.fingerprint import Fingerprint, fingerprint, folders

if TYPE_CHECKING:
    from aioresilience.registry.registry import Registry

POLL = 1.0
QUIET = 0.05
LONGEST_QUIET = 2.0


_watchers: weakref.WeakSet[Watcher] = weakref.WeakSet()


def _after_fork() -> None:
    for watcher in list(_watchers):
        watcher.restart_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Watcher:
    """One daemon thread that looks at the files about once a second, and at once when the system reports a change."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._kind = "none"
        self._tick = 0.0
        self._seen: Fingerprint = ()
        self._lock = threading.Lock()
        _watchers.add(self)

    def restart_in_child(self) -> None:
        """Watch again in a forked child, where only the forking thread goes on, with locks that nobody holds."""
        self._lock = threading.Lock()
        self._registry.renew_locks()
        if self._thread is not None:
            self._thread = None
            self.start()

    def start(self) -> None:
        """Start the thread unless it runs; what changed since the last load is noticed at once."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            self._stop = threading.Event()
            self._seen = ()
            self._thread = threading.Thread(
                target=self._run, args=(self._stop,), name="aioresilience-watch", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Stop the thread and wait for its end."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def status(self) -> dict[str, object]:
        """Return whether the thread lives, how it notices, and how long ago it looked."""
        alive = self._thread is not None and self._thread.is_alive()
        age = time.monotonic() - self._tick if alive and self._tick else None
        return {"alive": alive, "kind": self._kind if alive else "none", "last_tick_age_seconds": age}

    def _paths(self) -> list[str]:
        registry = self._registry
        own = [path for path in registry.source_names() if path.startswith(("/", "\\")) or path[1:2] == ":"]
        return list(dict.fromkeys([*own, *(path for path, _ in registry.ledger.seen)]))

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self._look(stop)
                self._await_change(stop)
            except Exception as error:  # the watcher outlives everything, and says what happened
                reporting.tell(self._registry, "watcher_degraded", f"{type(error).__name__}: {error}", logging.ERROR)
                stop.wait(POLL)

    def _look(self, stop: threading.Event) -> None:
        self._tick = time.monotonic()
        now = fingerprint(self._paths())
        if now == self._seen:
            return
        self._settle(now, stop)
        if not stop.is_set():
            self._registry.reload(trigger="file")
            self._seen = self._settled  # what was there before the reload read it: a later save is seen next time

    def _settle(self, now: Fingerprint, stop: threading.Event) -> None:
        """Wait until the files hold still, but not for ever."""
        end = time.monotonic() + LONGEST_QUIET
        while time.monotonic() < end and not stop.wait(QUIET):
            before, now = now, fingerprint(self._paths())
            if before == now:
                break
        self._settled = now

    def _await_change(self, stop: threading.Event) -> None:
        """Return when something moved or the poll is due; without inotify the poll alone does."""
        try:
            self._kind = "watchfiles"
            for _ in watchfiles.watch(
                *folders(self._paths()),
                watch_filter=None,
                recursive=False,
                stop_event=stop,
                debounce=20,
                step=10,
                rust_timeout=int(POLL * 1000),
                yield_on_timeout=True,
                raise_interrupt=False,
            ):
                before = folders(self._paths())
                self._look(stop)
                if folders(self._paths()) != before:
                    return
        except (OSError, RuntimeError):
            self._kind = "polling"
            stop.wait(POLL)


class Watching:
    """`async with registry.watching():` starts the watcher and stops it without blocking the loop."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    async def __aenter__(self) -> None:
        self._watcher.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._watcher.stop)
