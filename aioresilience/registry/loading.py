"""Turning a registry's sources into a document, the same way every time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypedDict

from aioresilience.clock import Clock
from aioresilience.config import AnySource, ConfigError, Document, FileSource, PolicySpec, TextSource, diagnose, load
from aioresilience.config.load import paced
from aioresilience.config.process import PREFIX, process_settings
from aioresilience.extras import LIBRARIES, install, is_installed, needs
from aioresilience.pattern import AnyPattern
from aioresilience.registry.fingerprint import Fingerprint, fingerprint
from aioresilience.registry.sources import file_sources, read_settled

TRIES: Final = 5
"""How often a set of files is read that changes meanwhile."""
REST: Final = 50e-6
"""Seconds of a pause in the work: long enough for a waiting thread to take the interpreter, which sleep(0) is not."""


Callables = Mapping[str, Callable[..., object]]


class Options(TypedDict, total=False):
    """What every way of building a registry takes: names for callables, patterns, clock, overlay, variables."""

    callables: Callables | None
    patterns: tuple[type[AnyPattern], ...]
    clock: Clock | None
    environment: str | None
    environ: Mapping[str, str] | None


class _Moving(Exception):
    """The files changed while they were read."""


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
    looked: dict[str, Fingerprint] = field(default_factory=dict)
    """Every file that the registry's own sources need, found or not, as it was when what was read of it was tried."""

    def patch(self, name: str, fields: Mapping[str, object] | None) -> None:
        """Lay fields over a policy in place of those that lie there, or take these off."""
        others = {other: laid for other, laid in self.patches.items() if other != name}  # whoever reads has the old
        self.patches = others if fields is None else others | {name: dict(fields)}

    def own(self, known: Mapping[str, PolicySpec], looked: dict[str, Fingerprint]) -> Document:
        """Read the registry's own sources; `looked` is filled with the files that they need, whatever comes of it."""
        return self._settled(self.sources, known, looked)

    def document(self, sources: Sequence[AnySource], known: Mapping[str, PolicySpec]) -> Document:
        """Read, merge and validate; ConfigError with everything that is wrong.

        Policies that equal one of `known` are taken from it.
        """
        return self._settled(sources, known, {})

    def _settled(
        self, sources: Sequence[AnySource], known: Mapping[str, PolicySpec], looked: dict[str, Fingerprint]
    ) -> Document:
        """Read a set of files as it was at one time, though one of them is written while another is read."""
        for _ in range(TRIES):
            try:
                return self._once(sources, known, looked)
            except _Moving:
                time.sleep(REST)
        message = "the files change while they are read"
        raise ConfigError([diagnose("AR101", None, message, hint="replace them at once, by a rename")])

    def _once(
        self, sources: Sequence[AnySource], known: Mapping[str, PolicySpec], looked: dict[str, Fingerprint]
    ) -> Document:
        looked.clear()
        try:
            document = self._load(sources, known, partial(_note, looked))
        except ConfigError:
            _refuse_moving(looked)
            raise
        _refuse_moving(looked)
        return document

    def _load(
        self, sources: Sequence[AnySource], known: Mapping[str, PolicySpec], looked: Callable[[str], None]
    ) -> Document:
        process = process_settings(self.environ)
        document = load(
            sources,
            patterns=self.patterns,
            environ=self.environ,
            environment=self.environment or process.environment,
            callables=self.callables,
            now=self.clock.wall(),
            root=process.root,
            read=read_settled,
            patches=self.patches,
            breathe=breathe,
            strict=process.strict,
            max_bytes=process.max_bytes,
            known=known,
            looked=looked,
        )
        _refuse_lacking(document)
        return document

    def fallback(self) -> Sequence[AnySource] | None:
        """Return the sources named by AIORESILIENCE_FALLBACK_CONFIG, None where it is unset."""
        path = process_settings(self.environ).fallback_config
        return None if path is None else [FileSource(path)]


def _refuse_lacking(document: Document) -> None:
    """Raise ConfigError where a policy needs what is not installed here: its calls would raise instead."""
    rest, found, lacking = pace(), [], {extra for extra, library in LIBRARIES.items() if not is_installed(library)}
    for name, policy in document.policies.items() if lacking else ():
        rest()
        for key, config in policy.patterns:
            extra = config.needs
            if extra in lacking and (config.mode or policy.mode) != "off":
                path = ("policies", name, key)
                found.append(diagnose("AR325", None, needs(key, extra), hint=install(extra), path=path))
    if found:
        raise ConfigError(found)


def _note(looked: dict[str, Fingerprint], path: str) -> None:
    looked.setdefault(path, fingerprint([path]))


def _refuse_moving(looked: Mapping[str, Fingerprint]) -> None:
    if any(fingerprint([path]) != before for path, before in looked.items()):
        raise _Moving


def breathe() -> None:
    """Let the threads of event loops have the interpreter."""
    time.sleep(REST)


def pace() -> Callable[[], None]:
    """Return a function to call between small steps of work: it breathes about every millisecond."""
    return paced(breathe)


def env_sources(environ: Mapping[str, str]) -> tuple[AnySource, ...]:
    """Return the sources that variables name; none at all means that variables define the policies."""
    process = process_settings(environ)
    inline = process.config_inline
    return (*file_sources(process.config), *([TextSource(inline, PREFIX + "CONFIG_INLINE")] if inline else []))
