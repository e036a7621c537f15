"""Noticing that files changed: fingerprints are the truth, watchfiles makes it quick."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Final

import watchfiles

from aioresilience.logging import describe, log_error
from aioresilience.registry import reporting
from aioresilience.registry.fingerprint import Fingerprint, Folders, fingerprint, folders
from aioresilience.registry.mounts import mounted_alone
from aioresilience.registry.sources import touch

if TYPE_CHECKING:
    from aioresilience.registry.registry import Registry

POLL = 0.5
"""Seconds: polling alone has a change in effect within one."""
QUIET = 0.05
LONGEST_QUIET = 2.0
THREAD: Final = "aioresilience-watch"

# It would log every change of every file in the folders.
logging.getLogger("watchfiles.main").addFilter(lambda record: record.threadName != THREAD)


class Watcher:
    """One daemon thread that looks at the files twice a second, and at once when the system reports a change."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._kind = "none"
        self._tick = 0.0
        self._seen: Fingerprint = ()
        self._settled: Fingerprint = ()
        self._trouble: str | None = None
        self._mounted: list[str] = []
        self._lock = threading.Lock()

    def restart_in_child(self) -> None:
        """Watch again in a forked child, where only the forking thread goes on, with locks that nobody holds."""
        self._lock = threading.Lock()
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
            self._begin(self._stop)

    def _begin(self, stop: threading.Event) -> None:
        self._thread = threading.Thread(target=self._run, args=(stop,), name=THREAD, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and wait for its end."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def status(self) -> dict[str, object]:
        """Return whether the thread lives, how it notices, how long ago it looked, and what is in its way."""
        alive = self._thread is not None and self._thread.is_alive()
        age = time.monotonic() - self._tick if alive and self._tick else None
        return {
            "wanted": self._thread is not None,
            "alive": alive,
            "kind": self._kind if alive else "none",
            "last_tick_age_seconds": age,
            "trouble": self._trouble,
            "mounted_alone": list(self._mounted),
        }

    def _paths(self) -> list[str]:
        return list(self._registry.loader.looked)

    def _run(self, stop: threading.Event) -> None:
        """Watch until told to stop; what ends the thread otherwise has another one take over."""
        try:
            while not stop.is_set():
                self._watch(stop)
        except BaseException as error:
            log_error(reporting.LOGGER, error, ending="the watcher's thread")
        finally:
            self._take_over(stop)

    def _take_over(self, stop: threading.Event) -> None:
        with self._lock:
            if not stop.is_set() and self._thread is threading.current_thread():
                self._begin(stop)

    def _watch(self, stop: threading.Event) -> None:
        try:
            self._look(stop)
            self._await_change(stop)
        except BaseException as error:  # the watcher outlives everything, and says what happened
            self._troubled(describe(error), logging.ERROR)
            stop.wait(POLL)

    def _look(self, stop: threading.Event) -> None:
        self._tick = time.monotonic()
        now = fingerprint(self._paths())
        if now == self._seen:
            return
        self._settle(now, stop)
        touch(self._paths())
        if not stop.is_set():
            self._registry.reload(trigger="file")
            self._see()

    def _see(self) -> None:
        """Remember what was there before the reload read it, so that a later save is seen next time.

        A file that only this reload has looked for counts as it was then.
        """
        before = {look[0]: look for look in self._settled}
        looked = self._registry.loader.looked
        self._seen = tuple(before[path] if path in before else looks[0] for path, looks in looked.items())
        self._warn_of_mounts()

    def _settle(self, now: Fingerprint, stop: threading.Event) -> None:
        """Wait until the files hold still, but not for ever."""
        end = time.monotonic() + LONGEST_QUIET
        while time.monotonic() < end and not stop.wait(QUIET):
            before, now = now, fingerprint(self._paths())
            if before == now:
                break
        self._settled = now

    def _await_change(self, stop: threading.Event) -> None:
        """Return when the folders are others, or the system cannot tell of changes; the poll goes on either way."""
        watched = folders(self._paths())
        self._kind = "polling" if self._trouble else "watchfiles"
        try:
            for _ in watchfiles.watch(
                *(path for path, _, _ in watched),
                watch_filter=None,
                recursive=False,
                stop_event=stop,
                debounce=20,
                step=10,
                rust_timeout=int(POLL * 1000),
                yield_on_timeout=True,
                raise_interrupt=False,
            ):
                if self._look_again(watched, stop):
                    return
        except (OSError, RuntimeError) as error:
            self._kind = "polling"
            self._troubled(f"changes are noticed by polling alone: {type(error).__name__}: {error}", logging.WARNING)
            stop.wait(POLL)

    def _look_again(self, watched: Folders, stop: threading.Event) -> bool:
        """Look at the files; return whether other folders are to be watched now."""
        self._kind = "watchfiles"
        self._recovered()
        self._look(stop)
        return folders(self._paths()) != watched

    def _troubled(self, trouble: str, level: int) -> None:
        before, self._trouble = self._trouble, trouble
        if trouble != before:
            reporting.tell(self._registry, "watcher_degraded", trouble, level)

    def _recovered(self) -> None:
        if self._trouble is not None:
            before, self._trouble = self._trouble, None
            reporting.tell(self._registry, "watcher_recovered", f"no more: {before}")

    def _warn_of_mounts(self) -> None:
        before, self._mounted = self._mounted, mounted_alone(self._paths())
        if self._mounted and self._mounted != before:
            message = (
                f"{', '.join(self._mounted)}: mounted as a single file (a bind mount or subPath), so that a change "
                f"made by a rename never arrives; mount its folder"
            )
            reporting.tell(self._registry, "watcher_degraded", message, logging.WARNING, mounted_alone=self._mounted)


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
