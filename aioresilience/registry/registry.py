"""The registry: owns the policies of one document, builds aside, swaps once."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Unpack

from aioresilience.clock import SYSTEM_CLOCK, Clock
from aioresilience.config import AnySource, ConfigError, Document, MappingSource, PolicySpec, TextSource, json_schema
from aioresilience.events import EventEmitter
from aioresilience.pattern import AnyPattern
from aioresilience.policy import BUILTIN, Policy
from aioresilience.registry import forking, reporting
from aioresilience.registry.building import Builder
from aioresilience.registry.ledger import Ledger
from aioresilience.registry.loading import Callables, Loader, Options, env_sources
from aioresilience.registry.names import unknown
from aioresilience.registry.overrides import Overrides
from aioresilience.registry.results import Plan, ReloadResult
from aioresilience.registry.signals import SignalReloads
from aioresilience.registry.sources import Given, absolute, file_sources, given_source
from aioresilience.registry.transaction import Transaction
from aioresilience.registry.watch import Watcher, Watching


class Registry:
    """Policies by name, from one document, kept current by reloads that are all or nothing.

    Raises `ConfigError` with every diagnostic when the document is wrong; safe from any thread and loop.
    """

    def __init__(
        self,
        sources: Sequence[AnySource],
        *,
        callables: Callables | None = None,
        patterns: tuple[type[AnyPattern], ...] = BUILTIN,
        clock: Clock | None = None,
        environment: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.clock: Clock = clock or SYSTEM_CLOCK
        self.loader = Loader(
            tuple(sources), patterns, self.clock, os.environ if environ is None else environ, environment,
            dict(callables or {}),
        )  # fmt: skip
        self.events = EventEmitter("registry")
        self.lock, self.swapping = threading.RLock(), threading.RLock()
        self.builder = Builder(patterns, self.clock, self.lock)
        self.is_default = False
        self.policies: dict[str, Policy] = {}
        self.specs: dict[str, PolicySpec] = {}
        self._transaction = Transaction(self)
        self._watcher = Watcher(self)
        self.overrides = Overrides(self)
        self._signals = SignalReloads(self)
        self._start()
        forking.follow(self)

    def _start(self) -> None:
        loader, fallback = self.loader, self.loader.fallback()
        try:
            document, error = loader.own({}, loader.looked), None
        except ConfigError as caught:
            if fallback is None:
                raise caught.with_traceback(None) from caught.__cause__
            document, error = self._fall_back(fallback, caught), caught
        self.ledger = Ledger(document, applied_at=self.clock.wall(), ended=set(document.ended), seen=document.files)
        if error is not None:
            self.ledger.seen, self.ledger.on_fallback, self.ledger.last_error = (), True, str(error)
            reporting.started_on_fallback(self, error)
        self.builder.backends.follow(document.backends)
        reporting.findings(self)
        self.overrides.follow(document)

    def _fall_back(self, fallback: Sequence[AnySource], error: ConfigError) -> Document:
        try:
            return self.loader.document(fallback, {})
        except ConfigError as worse:
            raise ConfigError([*error.diagnostics, *worse.diagnostics]) from error

    @classmethod
    def from_file(cls, path: str | Path | Sequence[str | Path], **options: Unpack[Options]) -> Registry:
        """Build a registry from one file or several, low to high; `environment` picks an overlay."""
        return cls(file_sources(path), **options)

    @classmethod
    def from_text(cls, text: str, name: str = "<text>", **options: Unpack[Options]) -> Registry:
        """Build a registry from YAML text; `name` stands for the file in errors."""
        return cls([TextSource(text, name)], **options)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, object], **options: Unpack[Options]) -> Registry:
        """Build a registry from a document that is a mapping already."""
        return cls([MappingSource(mapping)], **options)

    @classmethod
    def from_env(cls, **options: Unpack[Options]) -> Registry:
        """Build a registry from what AIORESILIENCE_CONFIG or AIORESILIENCE_CONFIG_INLINE names, else from variables."""
        environ = options.get("environ")
        return cls(env_sources(os.environ if environ is None else environ), **options)

    @staticmethod
    def json_schema(patterns: tuple[type[AnyPattern], ...] = BUILTIN) -> dict[str, object]:
        """Return the JSON Schema (draft-07) of the file."""
        return json_schema(patterns)

    @property
    def document(self) -> Document:
        """The document in effect."""
        return self.ledger.document

    @property
    def generation(self) -> int:
        """How many documents have been applied."""
        return self.ledger.generation

    @property
    def revision(self) -> str:
        """The hash of the effective document."""
        return self.ledger.document.revision

    def get(self, name: str) -> Policy:
        """Return the policy of that name, the same handle every time; UnknownPolicyError lists near names."""
        return self.policies.get(name) or self._make(name)

    __getitem__ = get

    def _make(self, name: str) -> Policy:
        with self.lock:
            policy = self.policies.get(name)
            if policy is None:
                spec = self.spec_of(name, self.document)
                if spec is None:
                    raise unknown(name, self.document.policies)
                policy = self.builder.policy(spec, name, self.generation)
                for pattern in () if self.ledger.keyed.isdisjoint((name, spec.name)) else policy.patterns:
                    pattern.brought_in(None)  # as where the policy was in use when the reload came
                self.policies[name] = policy
                self.specs[name] = spec  # last: a swap under way takes every name here for one that has its policy
            return policy

    @staticmethod
    def spec_of(name: str, document: Document) -> PolicySpec | None:
        """Return what `document` means by the name, None where it knows none."""
        found = document.policies.get(name)
        if found is None and document.settings.on_unknown_policy == "default":
            return document.default
        return found

    def __contains__(self, name: object) -> bool:
        return name in self.document.policies

    def __iter__(self) -> Iterator[str]:
        return iter(self.document.policies)

    def __bool__(self) -> bool:
        """Tell that there is a registry, however few policies it has."""
        return True

    def __len__(self) -> int:
        return len(self.document.policies)

    def register(self, name: str, func: Callable[..., object]) -> None:
        """Name a callable that later reloads may use."""
        if not callable(func):
            raise TypeError(f"{name!r} must be a function, got {type(func).__name__}")
        self.loader.callables[name] = func

    def verify(self) -> None:
        """Raise where code names policies that do not exist, or exception paths never resolved to a class."""
        reporting.verify(self)

    def reload(self, *, expected_revision: str | None = None, trigger: str = "api") -> ReloadResult:
        """Read the sources anew and apply them, all or nothing; blocks. RevisionConflictError if another came first."""
        return self._transaction.reload(trigger, expected_revision)

    async def areload(self, *, expected_revision: str | None = None) -> ReloadResult:
        """Reload in a worker thread, for coroutines."""
        return await asyncio.to_thread(self.reload, expected_revision=expected_revision)

    def apply(self, source: Given, *, expected_revision: str | None = None) -> ReloadResult:
        """Apply another document: a str is YAML text, a Path a file, a mapping a document; blocks.

        It stays until the registry's own files differ from what was last read of them.
        """
        return self._transaction.apply([given_source(source)], expected_revision)

    async def aapply(self, source: Given, *, expected_revision: str | None = None) -> ReloadResult:
        """Apply another document in a worker thread, for coroutines."""
        return await asyncio.to_thread(self.apply, source, expected_revision=expected_revision)

    def patch(self, name: str, fields: Mapping[str, object] | None) -> None:
        """Lay fields over one policy from code, above every other layer, or take them off; for tests.

        Raises ConfigError, and changes nothing, where the policy with them is wrong; RuntimeError after a rollback.
        What cannot be taken off now, since the rest is wrong or another reload hangs, the next reload leaves out.
        """
        before = self.loader.patches.get(name)
        result = self._transaction.patch(lambda: self.loader.patch(name, fields), lays=fields is not None)
        if result.outcome == "rejected":
            self.loader.patch(name, None if fields is None else before)
            if fields is not None:
                raise ConfigError(result.diagnostics)

    def patched(self, name: str) -> Mapping[str, object] | None:
        """Return what code lays over a policy, None for nothing."""
        return self.loader.patches.get(name)

    def plan(self, source: Given | None = None) -> Plan:
        """Return what applying `source`, or the files as they are now, would change and meet; change nothing.

        Raises ConfigError where the document is wrong; what else would keep it out is in the plan's `refusals`.
        """
        return self._transaction.plan(None if source is None else [given_source(source)])

    async def aplan(self, source: Given | None = None) -> Plan:
        """Plan in a worker thread, for coroutines."""
        return await asyncio.to_thread(self.plan, source)

    def rollback(self, steps: int = 1) -> ReloadResult:
        """Apply the document of `steps` applications ago; it stays until the files change again."""
        return self._transaction.rollback(steps)

    async def arollback(self, steps: int = 1) -> ReloadResult:
        """Roll back in a worker thread, for coroutines."""
        return await asyncio.to_thread(self.rollback, steps)

    def expire_overrides(self) -> ReloadResult:
        """Take away the overrides whose time is over; the registry does so by itself, watching or not."""
        return self._transaction.expire()

    def restart_in_child(self) -> None:
        """Go on in a forked child, whose other threads are gone: with locks that nobody holds, and threads anew."""
        self.lock, self.swapping = threading.RLock(), threading.RLock()
        self.builder.lock = self.lock
        self._transaction = Transaction(self)
        self._watcher.restart_in_child()
        self._signals.restart_in_child()

    def start_watching(self) -> None:
        """Apply changes of the files from now on, by a daemon thread; harmless when it watches already."""
        self._watcher.start()

    def stop_watching(self) -> None:
        """Stop watching; returns when the thread has ended."""
        self._watcher.stop()

    def reload_on_signal(self, number: int | None = None) -> None:
        """Reload whenever the signal comes, SIGHUP by default; for the main thread, where Python sets handlers.

        What handled the signal before is called as well. The reload runs on a thread of its own, and its result is in
        the log, the events and the status.
        """
        self._signals.start(signal.SIGHUP if number is None else number)

    def ignore_signals(self) -> None:
        """Put back what handled the signals before."""
        self._signals.stop()

    def close(self) -> None:
        """Stop watching, give leased permits back and close the connections of the backends; blocks for a moment.

        The policies go on as they are; a check on a backend opens it again.
        """
        self.stop_watching()
        self.builder.backends.close()

    async def aclose(self) -> None:
        """Close in a worker thread, for coroutines."""
        await asyncio.to_thread(self.close)

    def watching(self) -> Watching:
        """Watch inside an `async with` block."""
        return Watching(self._watcher)

    def status(self, *names: str) -> dict[str, object]:
        """Return generation, revision, sources, last errors, watcher and policies, fit for JSON.

        Of all policies, or of those that are named: UnknownPolicyError where there is none of a name.
        """
        return reporting.status(self, self._watcher, self._transaction.begun(), names)

    def overview(self) -> dict[str, object]:
        """Return what `status` does without the policies, for who asks often."""
        return reporting.overview(self, self._watcher, self._transaction.begun())

    def source_names(self) -> list[str]:
        """Return the sources as people know them, files by absolute path."""
        return [absolute(source) for source in self.loader.sources]
