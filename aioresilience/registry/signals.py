"""Reloading at a signal, such as SIGHUP: the handler only leaves word, a daemon thread reloads."""

from __future__ import annotations

import logging
import queue
import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING

from aioresilience.logging import log_error, log_event
from aioresilience.registry.reporting import LOGGER
from aioresilience.registry.results import ReloadResult

if TYPE_CHECKING:
    from aioresilience.registry.registry import Registry


class SignalReloads:
    """Reloads a registry whenever a signal comes, besides what was done at the signal before."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._word: queue.SimpleQueue[str | None] = queue.SimpleQueue()  # may be put to from a signal handler
        self._before: dict[int, object] = {}
        self._thread: threading.Thread | None = None

    def start(self, number: int) -> None:
        """Handle the signal from now on; ValueError off the main thread, where Python sets no handlers."""
        if number not in self._before:
            self._before[number] = signal.signal(number, self._handle)
        self._run_thread()

    def stop(self) -> None:
        """Put back what handled the signals before, and end the thread."""
        for number, before in self._before.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, before)  # type: ignore[arg-type]  # what signal() returned
        self._before = {}
        thread, self._thread = self._thread, None
        if thread is not None:
            self._word.put(None)
            thread.join()

    def restart_in_child(self) -> None:
        """Go on in a forked child, where the thread is gone and the handlers are still set."""
        self._word = queue.SimpleQueue()
        if self._thread is not None:
            self._run_thread(anew=True)

    def _run_thread(self, *, anew: bool = False) -> None:
        if anew or self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="aioresilience-signal", daemon=True)
            self._thread.start()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._word.put(signal.Signals(number).name.lower())
        before = self._before.get(number)
        if callable(before):
            before(number, frame)

    def _run(self) -> None:
        while (trigger := self._word.get()) is not None:
            try:
                self._tell(self._registry.reload(trigger=trigger))
            except BaseException as error:  # the next signal is served all the same
                log_error(LOGGER, error, reloading=f"at {trigger}")

    @staticmethod
    def _tell(result: ReloadResult) -> None:
        """Answer whoever sent the signal where the reload itself has nothing to say."""
        if result.outcome == "unchanged":
            what = f"nothing changed, by {result.trigger}; generation {result.generation} stays"
            log_event(LOGGER, logging.INFO, f"reload_unchanged: {what}, revision {result.revision[:12]}")
