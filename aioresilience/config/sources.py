"""What a document is read from, and the reading of it: files, texts, mappings, with everything that they include."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aioresilience import __version__, resources
from aioresilience.collector import collector_resumed
from aioresilience.config.checking import Checker
from aioresilience.config.complaints import Spot, complain
from aioresilience.config.diagnostics import suggest
from aioresilience.config.document import FileFrame
from aioresilience.config.foreign import foreign
from aioresilience.config.interpolate import Interpolation, copy
from aioresilience.config.places import NOWHERE, Block, Items, Place
from aioresilience.config.reading import read_bytes, read_tree
from aioresilience.config.release import fits
from aioresilience.config.report import Report, either, shown
from aioresilience.config.suppressions import MAX_SUPPRESSIONS, Suppression, suppressions
from aioresilience.config.tree import from_plain
from aioresilience.config.vocabulary import TOP_LEVEL

PACK: Final = "pack:"
MAX_INCLUDES: Final = 1000
_NOTHING_FETCHED: Final = (
    "nothing is fetched: name a file at or below the folder of this one, or a pack, as pack:http-client"
)


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file, with its includes."""

    path: Path | str


@dataclass(frozen=True, slots=True)
class TextSource:
    """YAML text; `name` appears in messages."""

    text: str | bytes
    name: str = "<text>"


@dataclass(frozen=True, slots=True)
class MappingSource:
    """A document as Python values; `name` appears in messages."""

    mapping: Mapping[str, object]
    name: str = "<mapping>"


AnySource = FileSource | TextSource | MappingSource
ReadBytes = Callable[[Path], bytes]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where one text came from: its name in messages, and the folders that its includes start at and stay below."""

    name: str
    folder: Path | None
    root: Path | None
    trail: tuple[str, ...] = ()


class Gathering:
    """Reads sources and what they include, each file once, lowest first."""

    def __init__(
        self, report: Report, checker: Checker, interpolation: Interpolation, *, root: Path | None, max_bytes: int,
        read: ReadBytes | None, breathe: Callable[[], None], looked: Callable[[str], None] | None = None,
    ) -> None:  # fmt: skip
        self.trees: list[Block] = []
        self.files: dict[str, str] = {}
        """Path to SHA-256 of the content, roots and includes."""
        self.ended: set[str] = set()
        """Paths that carried `end: true`."""
        self.whole = True
        """Whether every source, includes aside, carried `end: true`."""
        self.suppressions: list[Suppression] = []
        """Comments that silence lint, of all files."""
        self._report = report
        self._checker = checker
        self._interpolation = interpolation
        self._root = root
        self._max_bytes = max_bytes
        self._read = read or (lambda path: read_bytes(path, max_bytes + 1))
        self._breathe = breathe
        self._looked = looked or (lambda path: None)
        self._seen: set[str] = set()

    def add(self, source: AnySource) -> None:
        """Read one source."""
        self.whole &= self._add(source)

    def add_variable(self, tree: Block) -> None:
        """Read the document that a variable stands for; its includes start at the root."""
        self._take(tree, Origin("", self._root, self._root), tree.value_place("version"))

    def _add(self, source: AnySource) -> bool:
        if isinstance(source, FileSource):
            path = Path(source.path)
            return self._file(path, Origin(str(source.path), path.parent, self._root or path.parent), NOWHERE)
        origin = Origin(source.name, self._root, self._root)
        return self._text(source.text, origin) if isinstance(source, TextSource) else self._mapping(source, origin)

    def _mapping(self, source: MappingSource, origin: Origin) -> bool:
        place = Place("code", source.name)
        try:
            tree = from_plain(source.mapping, place)
            repr(tree)
        except ValueError as error:  # also for a whole number too long to be written
            self._report.add("AR203", place, str(error))
            return False
        if isinstance(tree, Block):
            return self._take(tree, origin, place)
        self._report.add("AR119", place, "the document is not a mapping")
        return False

    def _file(self, path: Path, origin: Origin, place: Place) -> bool:
        """Read a file, once; return whether it carries `end: true`."""
        self._looked(str(path))
        real = os.path.realpath(path)
        if real in origin.trail:
            steps = " -> ".join(map(os.path.basename, (*origin.trail[origin.trail.index(real) :], real)))
            self._report.add("AR311", place, f"files include each other in a circle: {steps}", path="include")
            return False
        if real in self._seen:
            return str(path) in self.ended
        self._seen.add(real)
        try:
            with collector_resumed():
                data = self._read(path)
        except (OSError, ValueError) as error:
            self._unreadable(error, origin, place)
            return False
        self.files[str(path)] = hashlib.sha256(data).hexdigest()
        trail = (*origin.trail, real)
        whole = self._text(data, Origin(origin.name, origin.folder, origin.root, trail))
        if whole:
            self.ended.add(str(path))
        return whole

    def _unreadable(self, error: Exception, origin: Origin, place: Place) -> None:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        if place is NOWHERE:
            hint = f"looked for {os.path.abspath(origin.name)}"
            self._report.add("AR101", Place("file", origin.name), f"the file cannot be read: {reason}", hint=hint)
        else:
            self._report.add("AR309", place, f"the included file cannot be read: {reason}", path="include")

    def _text(self, text: str | bytes, origin: Origin) -> bool:
        reading = read_tree(text, origin.name, max_bytes=self._max_bytes, breathe=self._breathe)
        self._report.extend(reading.diagnostics)
        self._silence(suppressions(reading.source))
        if reading.root is None:
            return False
        return self._take(reading.root, origin, Place("file", origin.name, 1, 1, 1, source=reading.source))

    def _silence(self, comments: Sequence[Suppression]) -> None:
        self.suppressions.extend(comments[:MAX_SUPPRESSIONS])
        if len(comments) > MAX_SUPPRESSIONS:
            message = f"more than {MAX_SUPPRESSIONS} comments silence lint"
            self._report.add("AR114", comments[-1].place, message, hint="mend what they silence")

    def _take(self, tree: Block, origin: Origin, place: Place) -> bool:
        """Check what concerns this file alone, read its includes, then put it above them."""
        what = foreign(tree)
        if what:
            first = next(iter(tree))
            self._report.add("AR220", tree.key_place(first), f"this is {what.name}", hint=what.hint)
            return False
        own = {key: tree[key] for key in FileFrame.model_fields if key in tree}
        checked = self._checker.part(FileFrame, own)
        spot = Spot(tree, (), place, FileFrame, more_keys=TOP_LEVEL)
        complain(self._report, spot, checked.errors)
        self._requires(tree)
        whole = self._end(tree)
        self._includes(tree, origin)
        rest = copy(tree)
        for key in ("requires", "include", "end"):
            if key in rest:
                del rest[key], rest.places[key]
        self.trees.append(rest)
        return whole

    def _requires(self, tree: Block) -> None:
        wanted = tree.get("requires")
        if not isinstance(wanted, str):
            return
        try:
            if not fits(__version__, wanted):
                message = f"this file asks for aioresilience {wanted}, and {__version__} is installed"
                hint = "install a release that fits, or change requires"
                self._report.add("AR212", tree.value_place("requires"), message, hint=hint, path="requires")
        except ValueError as error:
            message, _, hint = str(error).partition("; ")
            self._report.add("AR203", tree.value_place("requires"), message, hint=hint, path="requires")

    def _end(self, tree: Block) -> bool:
        if "end" in tree and next(reversed(tree)) != "end":
            hint = "move it to the end of the file"
            self._report.add("AR218", tree.key_place("end"), "'end' must be the last key", hint=hint, path="end")
        elif "end" in tree and tree["end"] is None:
            message = "'end' must be true, got null"
            self._report.add("AR218", tree.key_place("end"), message, hint="write end: true", path="end")
        return tree.get("end") is True

    def _includes(self, tree: Block, origin: Origin) -> None:
        entries = tree.get("include")
        if isinstance(entries, str):
            entries = _listed(entries)
            entries.places = [tree.value_place("include")]
        if not isinstance(entries, Items):
            return
        filled = self._interpolation.node(entries, lambda: NOWHERE, ("include",))
        for index, entry in enumerate(filled if isinstance(filled, Items) else ()):
            if isinstance(entry, str) and entry:
                self._include(entry, entries.value_place(index), origin)

    def _include(self, entry: str, place: Place, origin: Origin) -> None:
        if len(self._seen) >= MAX_INCLUDES:
            self._report.add("AR309", place, f"more than {MAX_INCLUDES} files are included", path="include")
        elif entry.startswith(PACK):
            self._pack(entry.removeprefix(PACK), place, origin)
        elif origin.folder is None or origin.root is None:
            message = f"{shown(entry)} cannot be found: this text has no folder of its own"
            hint = (
                "set AIORESILIENCE_ROOT to the folder that such paths start at, or include a pack, as pack:http-client"
            )
            self._report.add("AR309", place, message, hint=hint, path="include")
        else:
            self._included(origin.folder / entry, entry, place, origin)

    def _included(self, path: Path, entry: str, place: Place, origin: Origin) -> None:
        root = os.path.realpath(origin.root or "")
        real = os.path.realpath(path) if "\0" not in entry else root
        if not real.startswith(root.rstrip(os.sep) + os.sep):
            hint = "move it below the root folder, or set AIORESILIENCE_ROOT"
            message = f"{shown(entry)} lies outside of the root folder"
            self._report.add("AR310", place, message, hint=hint, path="include")
        elif not os.path.isfile(real):
            self._looked(str(path))
            near = suggest(os.path.basename(entry), _files_in(path.parent))
            hint = f"did you mean '{near}'?" if near else f"looked for {path}"
            hint = f"write pack:{entry}" if entry in packs_known() else hint
            hint = _NOTHING_FETCHED if "://" in entry else hint
            self._report.add("AR309", place, f"{shown(entry)} cannot be found", hint=hint, path="include")
        else:
            name = os.path.normpath(os.path.join(os.path.dirname(origin.name), entry))
            self._file(path, Origin(name, path.parent, origin.root, origin.trail), place)

    def _pack(self, name: str, place: Place, origin: Origin) -> None:
        if f"{PACK}{name}" in self._seen:
            return
        self._seen.add(f"{PACK}{name}")
        try:
            data = resources.resource("policies", f"{name}.yaml").read_bytes()
        except (OSError, ValueError):
            self._unknown_pack(name, place)
            return
        self._text(data, Origin(f"{PACK}{name}", None, None, origin.trail))

    def _unknown_pack(self, name: str, place: Place) -> None:
        packs = packs_known()
        near = suggest(name, packs)
        hint = f"did you mean '{near}'?" if near else f"there are {either(packs)}" if packs else ""
        self._report.add("AR312", place, f"no pack is called {shown(name)}", hint=hint, path="include")


def packs_known() -> list[str]:
    """Return the names of the packs that come with the library."""
    try:
        return sorted(path.stem for path in resources.folder("policies").glob("*.yaml"))
    except FileNotFoundError:
        return []


def _listed(entry: str) -> Items:
    items = Items()
    items.append(entry)
    return items


def _files_in(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_file())[:MAX_INCLUDES]
    except OSError:
        return []
