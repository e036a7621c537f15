"""Text to tree: everything that YAML allows and a policy file must not hold is refused, with all findings at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from aioresilience.collector import collector_paused
from aioresilience.config.building import Builder
from aioresilience.config.diagnostics import ConfigError, Diagnostic, diagnose
from aioresilience.config.encoding import MAX_BYTES, decode
from aioresilience.config.findings import Findings, StopReading
from aioresilience.config.parsing import (
    DocumentStartEvent,
    Event,
    ParserName,
    StreamEndEvent,
    YAMLError,
    events_of,
    problem_of,
)
from aioresilience.config.places import Block, Items, Node, Place, Source
from aioresilience.config.suppressions import Suppression, suppressions
from aioresilience.config.syntax import explain

__all__ = [
    "MAX_BYTES",
    "ParserName",
    "Reading",
    "Suppression",
    "read",
    "read_bytes",
    "read_file",
    "read_tree",
    "suppressions",
]

CHUNK = 2**18
MIN_NODES, BYTES_PER_NODE = 100_000, 50
_HEADING = re.compile(r"\[[\w.-]+\][ ]*\r?\n")
"""How many values a document may have: so many, and one for so many bytes of the allowed size if that is more."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text gave: its tree, None where there is none worth validating, and every finding by position."""

    root: Block | None
    source: Source
    diagnostics: tuple[Diagnostic, ...]


def read(
    text: str | bytes,
    name: str = "<text>",
    *,
    max_bytes: int = MAX_BYTES,
    breathe: Callable[[], None] | None = None,
    parser: ParserName = "auto",
) -> Block:
    """Return the tree of a YAML text; raises ConfigError with all findings. The arguments are those of `read_tree`."""
    reading = read_tree(text, name, max_bytes=max_bytes, breathe=breathe, parser=parser)
    if reading.root is None or reading.diagnostics:
        raise ConfigError(reading.diagnostics)
    return reading.root


def read_tree(
    text: str | bytes,
    name: str = "<text>",
    *,
    max_bytes: int = MAX_BYTES,
    breathe: Callable[[], None] | None = None,
    parser: ParserName = "auto",
) -> Reading:
    """Read a YAML text without raising: a tree with findings can still be validated for more of them.

    `breathe` is called about every millisecond of work, so that a background thread can let others run;
    `parser` picks libyaml or the pure-Python parser, by default the first that is there.
    """
    breathe = breathe or _hold
    source, findings = decode(text, name, max_bytes, breathe)
    if findings:
        return _reading(None, source, findings)
    with collector_paused():
        return _parse(source, max(MIN_NODES, max_bytes // BYTES_PER_NODE), breathe, parser)


def read_file(
    path: str | Path,
    name: str | None = None,
    *,
    max_bytes: int = MAX_BYTES,
    breathe: Callable[[], None] | None = None,
    parser: ParserName = "auto",
) -> Reading:
    """Read a file as `read_tree` does, never more of it than `max_bytes` and one; `name` is what messages call it."""
    shown = str(path) if name is None else name
    try:
        data = read_bytes(Path(path), max_bytes + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        finding = diagnose("AR101", Place("file", shown), f"the file cannot be read: {reason.lower()}")
        return _reading(None, Source(shown, ""), [finding])
    return read_tree(data, shown, max_bytes=max_bytes, breathe=breathe, parser=parser)


def read_bytes(path: Path, most: int) -> bytes:
    """Return the content of a file, at most so many bytes, without setting memory aside for all of them."""
    parts = []
    with path.open("rb") as file:
        while most > 0 and (part := file.read(min(most, CHUNK))):
            parts.append(part)
            most -= len(part)
    return b"".join(parts)


def _hold() -> None:
    """Go on without a break."""


def _reading(root: Block | None, source: Source, findings: list[Diagnostic]) -> Reading:
    return Reading(root, source, ConfigError(findings).diagnostics)


def _parse(source: Source, max_nodes: int, breathe: Callable[[], None], parser: ParserName) -> Reading:
    findings = Findings(source)
    root: Node = None
    try:
        events = events_of(source.text, parser)
        root = _document(Builder(events, findings, max_nodes, breathe), findings, events)
    except StopReading:
        pass
    except YAMLError as error:
        _add_quietly(findings, explain(source, problem_of(error)))
    return _reading(root if isinstance(root, Block) else None, source, findings)


def _add_quietly(findings: Findings, finding: Diagnostic) -> None:
    with suppress(StopReading):
        findings.add(finding)


def _document(builder: Builder, findings: Findings, events: Callable[[], Event]) -> Node:
    """Build the only document of the stream."""
    events()
    event = events()
    if isinstance(event, StreamEndEvent):
        _report_empty(findings)
        return None
    _refuse_directive(findings, event)
    start = events()
    root = builder.build(start)
    _refuse_root(findings, start, root)
    events()
    event = events()
    if not isinstance(event, StreamEndEvent):
        hint = "keep one document in a file; join files with include"
        findings.report("AR117", event, "a second document begins here", hint)
    return root


def _refuse_directive(findings: Findings, event: Event) -> None:
    version = event.version if isinstance(event, DocumentStartEvent) else None
    if version is not None and version != (1, 2):
        asked = ".".join(map(str, version))
        findings.report("AR120", event, f"YAML {asked} has other rules than YAML 1.2", "delete the line")
    elif isinstance(event, DocumentStartEvent) and event.tags:
        findings.report("AR112", event, "tags are not allowed", "delete the line")


def _refuse_root(findings: Findings, event: Event, root: Node) -> None:
    if isinstance(root, Block) or findings:
        return
    if root is None:
        _report_empty(findings)
    elif isinstance(root, Items):
        heading = _HEADING.match(findings.source.text, event.start_mark.index)
        hint = "this looks like TOML or INI; write YAML" if heading else "begin with 'version: 1'"
        findings.report("AR119", event, "a list stands where 'key: value' lines belong", hint)
    else:
        hint = "write a space after each ':'" if ":" in str(root) else "begin with 'version: 1'"
        hint = "write ':' and a space instead of '='" if " = " in str(root) else hint
        hint = "this looks like XML or HTML; write YAML" if str(root).startswith("<") else hint
        findings.report("AR119", event, "a value stands where 'key: value' lines belong", hint)


def _report_empty(findings: Findings) -> None:
    place = findings.source.place(0)
    findings.add(diagnose("AR118", place, "the document is empty", hint="begin with 'version: 1'"))
