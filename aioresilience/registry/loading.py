"""Turning a registry's sources into a document, the same way every time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aioresilience.clock import Clock
from aioresilience.config import AnySource, ConfigError, Document, FileSource, diagnose, load
from aioresilience.config.encoding import MAX_BYTES
from aioresilience.pattern import AnyPattern
from aioresilience.registry.sources import read_settled

PREFIX = "AIORESILIENCE_"


@dataclass(slots=True)
class Loader:
    """What loading needs beside the sources; `callables` grows by `Registry.register`."""

    sources: Sequence[AnySource]
    patterns: tuple[type[AnyPattern], ...]
    clock: Clock
    environ: Mapping[str, str]
    environment: str | None = None
    callables: dict[str, Callable[..., object]] = field(default_factory=dict)
    patches: dict[str, Mapping[str, object]] = field(default_factory=dict)

    def document(self, sources: Sequence[AnySource] | None = None) -> Document:
        """Read, merge and validate; ConfigError with everything that is wrong."""
        root = self.environ.get(PREFIX + "ROOT")
        return load(
            self.sources if sources is None else sources,
            patterns=self.patterns,
            environ=self.environ,
            environment=self.environment or self.environ.get(PREFIX + "ENVIRONMENT"),
            callables=self.callables,
            now=self.clock.wall(),
            root=Path(root) if root else None,
            read=read_settled,
            patches=self.patches,
            breathe=_breathe,
            strict=self.environ.get(PREFIX + "STRICT", "").lower() in ("1", "true"),
            max_bytes=self._max_bytes(),
        )

    def _max_bytes(self) -> int:
        given = self.environ.get(PREFIX + "MAX_BYTES")
        if given is None:
            return MAX_BYTES
        if not given.isdecimal() or int(given) < 1:
            raise ConfigError([diagnose("AR323", None, f"{PREFIX}MAX_BYTES={given!r} is not a number of bytes")])
        return int(given)

    def fallback(self) -> Sequence[AnySource] | None:
        """Return the sources named by AIORESILIENCE_FALLBACK_CONFIG, None where it is unset."""
        path = self.environ.get(PREFIX + "FALLBACK_CONFIG")
        return None if not path else [FileSource(Path(path))]


def _breathe() -> None:
    time.sleep(0)
