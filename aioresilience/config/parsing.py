"""The parsers, libyaml's and the pure-Python one behind one face; nothing else of the package imports yaml."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypeAlias

import yaml.error
from yaml import YAMLError
from yaml.error import MarkedYAMLError
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.scanner import Scanner, ScannerError
from yaml.tokens import ScalarToken

from aioresilience.config.syntax import Problem

try:
    from yaml import cyaml
except ImportError:  # pragma: no cover - PyYAML built without libyaml
    cyaml = None  # type: ignore[assignment]

if TYPE_CHECKING:

    class Mark:
        """A place in the text; index, line and column count characters from 0."""

        index: int
        line: int

    class Event:
        """What a parser says next, as far as we read it: yaml's own stubs allow None where no parser gives it."""

        start_mark: Mark
        end_mark: Mark

    class DocumentStartEvent(Event):
        """A document begins."""

        version: tuple[int, int] | None
        tags: dict[str, str] | None

    class StreamEndEvent(Event):
        """The text ends."""

    class NodeEvent(Event):
        """A value begins."""

        anchor: str | None
        tag: str | None

    class AliasEvent(NodeEvent):
        """A value that stands elsewhere."""

    class ScalarEvent(NodeEvent):
        """A text; its style is empty where it is not quoted."""

        value: str
        style: str | None

    class CollectionStartEvent(NodeEvent):
        """A block or a list begins."""

    class MappingStartEvent(CollectionStartEvent):
        """A block begins."""

        flow_style: bool

    class CollectionEndEvent(Event):
        """A block or a list ends."""

    class MappingEndEvent(CollectionEndEvent):
        """A block ends."""

    class SequenceEndEvent(CollectionEndEvent):
        """A list ends."""

else:
    from yaml.events import (
        AliasEvent,
        CollectionEndEvent,
        CollectionStartEvent,
        DocumentStartEvent,
        Event,
        MappingEndEvent,
        MappingStartEvent,
        NodeEvent,
        ScalarEvent,
        SequenceEndEvent,
        StreamEndEvent,
    )

__all__ = [
    "AliasEvent",
    "CollectionEndEvent",
    "CollectionStartEvent",
    "DocumentStartEvent",
    "Event",
    "MappingEndEvent",
    "MappingStartEvent",
    "NodeEvent",
    "ParserName",
    "ScalarEvent",
    "SequenceEndEvent",
    "StreamEndEvent",
    "YAMLError",
    "events_of",
    "problem_of",
]

ParserName: TypeAlias = Literal["auto", "libyaml", "pure"]


# What an unquoted scalar may hold up to the next blank, in block and in flow style.
_BLOCK_CHUNK = re.compile(r"(?:[^\0\s:]|[^\S \t\r\n]|:(?![\0 \t\r\n]))+")
_FLOW_CHUNK = re.compile(r"(?:[^\0\s:,\[\]{}]|[^\S \t\r\n]|:(?![\0 \t\r\n,?\[\]{}]))+")
_HEADER = re.compile(r"([+-]?)([1-9]?)((?(1)|[+-])?)(?=[ \t\r\n\0#])")


class _PureParser(Reader, Scanner, Parser):
    """PyYAML's own reader, scanner and parser in one object, taught what libyaml knows of tabs and of `?`."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)

    def following(self) -> Event:
        """Return the next event; an escape beyond Unicode is a mistake of the text, not a ValueError."""
        try:
            event: Event = self.get_event()  # type: ignore[no-untyped-call]
        except (ValueError, OverflowError):
            raise ScannerError(None, None, "found invalid Unicode character escape code", self.get_mark()) from None
        return event

    def scan_to_next_token(self) -> None:
        """Pass blanks, comments and line breaks; a tab is a blank wherever no key can begin."""
        while True:
            while self.peek() == " " or (self.peek() == "\t" and (self.flow_level or not self.allow_simple_key)):
                self.forward()
            if self.peek() == "#":
                self._pass_comment()
            if not self.scan_line_break():  # type: ignore[no-untyped-call]
                return
            if not self.flow_level:
                self.allow_simple_key = True

    def scan_directive_name(self, start_mark: yaml.error.Mark) -> str:
        """Read the name of a directive; there are two."""
        name: str = super().scan_directive_name(start_mark)  # type: ignore[no-untyped-call]
        if name not in ("YAML", "TAG"):
            raise ScannerError("while scanning a directive", start_mark, "unknown directive name", self.get_mark())
        return name

    def scan_block_scalar_indicators(self, start_mark: object) -> tuple[bool | None, int | None]:
        """Read what may stand after `|` and `>`: how the last line break is kept, and how far the text is indented."""
        found = _HEADER.match(self.buffer, self.pointer)
        if found is None:
            indicators: tuple[bool | None, int | None] = super().scan_block_scalar_indicators(start_mark)
            return indicators
        self.forward(len(found[0]))
        return {"+": True, "-": False}.get(found[1] or found[3]), int(found[2]) if found[2] else None

    def scan_block_scalar_ignored_line(self, start_mark: object) -> None:
        """Pass the rest of the line that opens a block scalar, tabs too."""
        while self.peek() in (" ", "\t"):
            self.forward()
        super().scan_block_scalar_ignored_line(start_mark)

    def scan_plain(self) -> ScalarToken:
        """Read an unquoted scalar."""
        chunk = _FLOW_CHUNK if self.flow_level else _BLOCK_CHUNK
        start = end = self.get_mark()
        parts: list[str] = []
        blanks = ""
        while found := chunk.match(self.buffer, self.pointer):
            if parts and (found[0][0] == "#" or not blanks or (not self.flow_level and self.column <= self.indent)):
                break
            self.allow_simple_key = False
            parts += blanks, found[0]
            self.forward(len(found[0]))
            end = self.get_mark()
            if self.flow_level and self.peek() == ":" and self.peek(1) in ",?[]{}":
                raise ScannerError("while scanning a plain scalar", start, "found unexpected ':'", self.get_mark())
            blanks = self._plain_blanks(start)
        return ScalarToken("".join(parts), True, start, end)

    def _plain_blanks(self, start: yaml.error.Mark) -> str:
        """Pass the blanks inside an unquoted scalar and return what they mean: blanks, or folded line breaks."""
        blanks, breaks = "", 0
        while self.peek() in " \t\r\n":
            if self.peek() in "\r\n":
                self.scan_line_break()  # type: ignore[no-untyped-call]
                breaks += 1
                self.allow_simple_key = True
                if self.prefix(3) in ("---", "...") and self.peek(3) in "\0 \t\r\n":
                    return ""
                continue
            if breaks and self.peek() == "\t" and self.column <= self.indent:
                raise ScannerError(
                    "while scanning a plain scalar",
                    start,
                    "found a tab character that violates indentation",
                    self.get_mark(),
                )
            blanks += self.peek()
            self.forward()
        return ("\n" * (breaks - 1) or " ") if breaks else blanks

    def _pass_comment(self) -> None:
        while self.peek() not in "\0\r\n":
            self.forward()


def events_of(text: str, parser: ParserName) -> Callable[[], Event]:
    """Return the function that gives the next event of a text; ImportError where libyaml is asked for and missing."""
    if parser == "libyaml" and cyaml is None:
        raise ImportError("PyYAML was built without libyaml")
    if parser == "pure" or cyaml is None:
        return _PureParser(text).following
    following: Callable[[], Event] = cyaml.CParser(text).get_event  # type: ignore[attr-defined, assignment]
    return following


def problem_of(error: YAMLError) -> Problem:
    """Return what a parser complained of; where it does not say, the beginning of the text."""
    if not isinstance(error, MarkedYAMLError):
        return Problem(str(error).partition("\n")[0], 0)
    context, mark = error.context_mark, error.problem_mark or error.context_mark
    words = ": ".join(filter(None, (error.context, error.problem)))
    return Problem(words, mark.index if mark else 0, context.index if context else None)
