"""From sources to a document: read, lay over each other, inherit, check; every finding at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from aioresilience.backends import BackendConfig
from aioresilience.collector import collector_paused
from aioresilience.config.assemble import Assembly, revision
from aioresilience.config.checking import Checker
from aioresilience.config.diagnostics import ConfigError, Diagnostic, Severity, suggest
from aioresilience.config.document import Frame, Settings
from aioresilience.config.inherit import Inheritance
from aioresilience.config.interpolate import Interpolation
from aioresilience.config.layers import Layers
from aioresilience.config.lean import dismantle, lean
from aioresilience.config.lint import Subject, lint
from aioresilience.config.names import KnownNames
from aioresilience.config.overriding import overridden
from aioresilience.config.places import Block, Place
from aioresilience.config.process import PREFIX
from aioresilience.config.reading import MAX_BYTES
from aioresilience.config.report import Report, either, shown
from aioresilience.config.routes import check_routes
from aioresilience.config.secret_files import keep_secrets
from aioresilience.config.shorthand import Shorthand
from aioresilience.config.sources import AnySource, FileSource, Gathering, MappingSource, ReadBytes, TextSource
from aioresilience.config.spec import Document, PolicySpec
from aioresilience.config.tree import from_plain, nest
from aioresilience.config.variables import Variables
from aioresilience.config.vocabulary import Vocabulary
from aioresilience.config.written import Written
from aioresilience.pattern import AnyPattern

BREATH: Final = 0.001
NO_CALLABLES: Mapping[str, Callable[..., object]] = {}


@dataclass(frozen=True, slots=True)
class _Setting:
    """What a document is read for."""

    vocabulary: Vocabulary
    environ: Mapping[str, str]
    environment: str | None
    callables: Mapping[str, Callable[..., object]]
    in_service: bool
    strict: bool
    now: float
    patches: Mapping[str, Mapping[str, object]]
    breathe: Callable[[], None]
    known: Mapping[str, PolicySpec] | None
    looked: Callable[[str], None]


def load(
    sources: AnySource | Sequence[AnySource],
    *,
    patterns: Iterable[type[AnyPattern]],
    environ: Mapping[str, str] | None = None,
    environment: str | None = None,
    callables: Mapping[str, Callable[..., object]] | None = None,
    in_service: bool = True,
    now: float | None = None,
    root: Path | str | None = None,
    max_bytes: int = MAX_BYTES,
    breathe: Callable[[], None] | None = None,
    read: ReadBytes | None = None,
    patches: Mapping[str, Mapping[str, object]] | None = None,
    strict: bool = False,
    known: Mapping[str, PolicySpec] | None = None,
    looked: Callable[[str], None] | None = None,
) -> Document:
    """Read a document; raises ConfigError with all findings, never anything else.

    Sources go from low to high; without any, environment variables define the policies. `now` is in seconds since the
    epoch, `patches` lie over everything else, `breathe` is called about every millisecond of work, and `read` may
    replace how files are read (OSError: unreadable). With `in_service=False`, absent packages, callables, variables
    and secret files are notes; with `strict`, stale environment variables are errors. With `known`, the policies in
    effect, equal ones are taken over and no tree is kept, so that ten thousand policies cost the collector nothing.
    `looked` is told every path that is looked for, found or not.
    """
    chosen = (sources,) if isinstance(sources, (FileSource, TextSource, MappingSource)) else tuple(sources)
    environ = {} if environ is None else environ
    setting = _Setting(
        Vocabulary(patterns), environ, environment, callables or NO_CALLABLES, in_service, strict,
        time.time() if now is None else now, {} if patches is None else patches, paced(breathe), known,
        looked or (lambda path: None),
    )  # fmt: skip
    loading = _Loading(setting, Report())
    with collector_paused():  # from the first tree to the last policy
        gathered = loading.gather(chosen, None if root is None else Path(root), max_bytes, read)
        return loading.document(chosen, gathered)


def paced(breathe: Callable[[], None] | None) -> Callable[[], None]:
    """Return a function that calls `breathe` once a millisecond has passed since the last time."""
    if breathe is None:
        return lambda: None
    last = time.perf_counter()

    def pace() -> None:
        nonlocal last
        if time.perf_counter() - last >= BREATH:
            breathe()
            last = time.perf_counter()

    return pace


class _Loading:
    """One document on its way through the steps."""

    def __init__(self, setting: _Setting, report: Report) -> None:
        self._setting = setting
        self._report = report
        self._shorthand = Shorthand(setting.vocabulary, setting.breathe)
        self._layers = Layers(setting.vocabulary.types)
        self._interpolation = Interpolation(
            setting.environ, report, in_service=setting.in_service, breathe=setting.breathe
        )

    def document(self, sources: Sequence[AnySource], gathered: Gathering) -> Document:
        """Run every step; what one step finds does not keep the next from finding more."""
        if sources and not gathered.trees:
            raise self._error()
        layers = self._merged(gathered.trees, alone=not sources)
        merged = self._filled(layers)
        document = self._assembled(merged, sources, gathered)
        if self._setting.known is None:
            return replace(document, layers=layers)
        if any(override.active for override in document.overrides):
            return replace(document, later=partial(self._later, merged, sources, gathered))
        kept = lean(document, self._setting.known, self._setting.breathe)
        dismantle(document, [*gathered.trees, merged], self._setting.breathe)
        return kept

    def _later(self, merged: Block, sources: Sequence[AnySource], gathered: Gathering, now: float) -> Document:
        """Return the document as the same layers give it at another time."""
        with collector_paused():
            loading = _Loading(replace(self._setting, now=now), Report())
            document = loading._assembled(merged, sources, gathered)
        if any(override.active for override in document.overrides):
            return replace(document, later=partial(self._later, merged, sources, gathered))
        return lean(document, self._setting.known or {}, self._setting.breathe)

    def _assembled(self, tree: Block, sources: Sequence[AnySource], gathered: Gathering) -> Document:
        frame_checker = Checker(self._setting.vocabulary, KnownNames((), {}, in_service=True))
        frame = frame_checker.part(Frame, _frame_of(tree)).value or Frame()
        settings = frame.settings or Settings()
        names = KnownNames(settings.import_from, self._setting.callables, in_service=self._setting.in_service)
        checker = Checker(self._setting.vocabulary, names)
        inheritance = Inheritance(tree, self._layers)
        written = Written(tree, self._setting.vocabulary, checker, inheritance, self._report, self._setting.breathe)
        written.check()
        self._service(tree, frame)
        tree, overrides, everywhere = overridden(tree, checker, self._layers, self._report, self._setting.now)
        tree = self._patched(tree)
        inheritance = Inheritance(tree, self._layers)
        assembly = Assembly(
            tree, self._setting.vocabulary, checker, inheritance, self._report,
            everywhere=everywhere, refused=written.refused, breathe=self._setting.breathe,
        )  # fmt: skip
        shared, policies, default = assembly.shared(), assembly.policies(), assembly.default()
        check_routes(tree, policies, self._report)
        if self._report.errors:
            raise self._error()
        subject = Subject(
            tree, policies, frame.routes or (), overrides, self._setting.vocabulary, tuple(gathered.suppressions),
            frozenset(map(_name_of, sources)), self._setting.now, self._setting.breathe,
        )  # fmt: skip
        document = Document(
            policies=policies, default=default, settings=settings, service=frame.service,
            metadata=frame.metadata or {}, backends=_backends(frame), routes=frame.routes or (),
            shared=shared, overrides=overrides,
            revision=revision(tree, policies, default, self._setting.breathe),
            findings=self._findings(lint(subject)),
            files=tuple(gathered.files.items()), ended=frozenset(gathered.ended),
            whole=gathered.whole, secrets=frozenset(self._report.secrets), tree=tree,
            exception_names=names.pending,
        )  # fmt: skip
        checker.forget(self._setting.breathe)
        return document

    def _error(self) -> ConfigError:
        return self._report.error()

    def _findings(self, lint: Sequence[Diagnostic]) -> tuple[Diagnostic, ...]:
        return ConfigError((*self._report.findings, *lint), secrets=self._report.secrets).diagnostics

    def gather(
        self, sources: Sequence[AnySource], root: Path | None, max_bytes: int, read: ReadBytes | None
    ) -> Gathering:
        """Read the sources and what they include."""
        checker = Checker(self._setting.vocabulary, KnownNames((), {}, in_service=True))
        gathering = Gathering(
            self._report, checker, self._interpolation, root=root, max_bytes=max_bytes, read=read,
            breathe=self._setting.breathe, looked=self._setting.looked,
        )  # fmt: skip
        for source in sources:
            gathering.add(source)
        included = self._variables(alone=not sources).includes()
        if included:
            gathering.add_variable(included)
        return gathering

    def _merged(self, trees: Sequence[Block], *, alone: bool) -> Block:
        """Lay the files, the overlay and the variables over each other."""
        merged = Block()
        for tree in trees:
            merged = self._laid(merged, tree)
        merged = self._with_overlay(merged)
        for patch in self._variables(alone=alone).patches(merged):
            merged = self._laid(merged, patch)
        return merged

    def _filled(self, layers: Block) -> Block:
        """Fill in `${…}`."""
        filled = self._interpolation.document(layers)
        keep_secrets(filled, self._report, in_service=self._setting.in_service, looked=self._setting.looked)
        return filled

    def _variables(self, *, alone: bool) -> Variables:
        stale: Severity = "error" if self._setting.strict or not self._setting.in_service else "warning"
        return Variables(self._setting.environ, self._report, alone=alone, stale=stale)

    def _laid(self, low: Block, high: Block) -> Block:
        expanded = self._shorthand.document(high)
        return self._layers.document(low, expanded) if low else expanded

    def _with_overlay(self, merged: Block) -> Block:
        chosen, overlays = self._setting.environment, merged.get("environments")
        self._report.environments = tuple(overlays) if isinstance(overlays, Block) else ()
        if chosen is None or not isinstance(overlays, Block):
            return merged
        if chosen not in overlays:
            near = suggest(chosen, overlays)
            there = f"there is {either(list(overlays)[:8])}; " if overlays else ""
            hint = f"did you mean '{near}'?" if near else f"{there}write {chosen}: {{}} for one that changes nothing"
            place = merged.key_place("environments")
            self._report.add("AR313", place, f"unknown environment {shown(chosen)}", hint=hint, path="environments")
            return merged
        overlay = overlays[chosen]
        return self._layers.document(merged, overlay) if isinstance(overlay, Block) else merged

    def _service(self, tree: Block, frame: Frame) -> None:
        expected = self._setting.environ.get(f"{PREFIX}SERVICE")
        if expected and frame.service is not None and frame.service != expected:
            message = f"this document is for {shown(frame.service)}, and this service is {shown(expected)}"
            self._report.add("AR213", tree.value_place("service"), message, path="service")

    def _patched(self, tree: Block) -> Block:
        for name, fields in self._setting.patches.items():
            place = Place("code", f"override of {name}")
            try:
                patch = nest(("policies", name), from_plain(fields, place), place)
            except ValueError as error:
                self._report.add("AR203", place, str(error))
                continue
            tree = self._laid(tree, patch)
        return tree


def _name_of(source: AnySource) -> str:
    return str(source.path) if isinstance(source, FileSource) else source.name


def _frame_of(tree: Block) -> dict[str, object]:
    return {key: value for key, value in tree.items() if key in Frame.model_fields}


def _backends(frame: Frame) -> dict[str, BackendConfig]:
    return {name: one for name, one in (frame.backends or {}).items() if one is not None}
