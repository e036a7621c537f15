"""The default registry of a process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from aioresilience.clock import Clock
from aioresilience.config.process import process_settings
from aioresilience.pattern import AnyPattern
from aioresilience.policy import BUILTIN
from aioresilience.registry import reporting
from aioresilience.registry.registry import Registry

_lock = threading.RLock()
_default: Registry | None = None


def configure(
    path: str | Path | Sequence[str | Path] | None = None,
    *,
    watch: bool | None = None,
    environment: str | None = None,
    callables: Mapping[str, Callable[..., object]] | None = None,
    patterns: tuple[type[AnyPattern], ...] = BUILTIN,
    clock: Clock | None = None,
    environ: Mapping[str, str] | None = None,
) -> Registry:
    """Set the default registry, from files or else from AIORESILIENCE_* variables, and return it.

    Raises ConfigError for a bad document, and UnknownPolicyError for a `@resilient` name known by now that the
    document lacks; the default registry then stays as it was. `watch` applies changes of the files by itself; unset,
    AIORESILIENCE_WATCH decides.
    """
    environ = os.environ if environ is None else environ
    if path is None:
        registry = Registry.from_env(
            environ=environ, environment=environment, callables=callables, patterns=patterns, clock=clock
        )
    else:
        registry = Registry.from_file(
            path, environment=environment, callables=callables, patterns=patterns, clock=clock, environ=environ
        )
    reporting.ready(registry, default=True)
    _install(registry)
    if watch if watch is not None else process_settings(environ).watch:
        registry.start_watching()
    return registry


def _install(registry: Registry) -> None:
    global _default
    with _lock:
        before, _default = _default, registry
        registry.is_default = True
    if before is not None:
        before.is_default = False
        before.stop_watching()


def get_registry() -> Registry:
    """Return the default registry; the first use without `configure` reads AIORESILIENCE_CONFIG."""
    registry = _default
    if registry is not None:
        return registry
    with _lock:
        return configure() if _default is None else _default


def _renew_lock() -> None:
    """Take a lock that nobody holds, in a forked child: a thread of the parent may have been reading files with it."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
