"""What is wrong with a text while it is read: findings with their places, and the points past which nobody reads on."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from typing import NoReturn

from aioresilience.config.diagnostics import Diagnostic, diagnose
from aioresilience.config.parsing import (
    AliasEvent,
    CollectionStartEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)
from aioresilience.config.places import Block, Source
from aioresilience.config.syntax import TEMPLATE, template

MAX_ERRORS = 100

_ANCHOR = re.compile(r"&[^\s,\[\]{}]+\s+")
_SURROGATE = re.compile("[\ud800-\udfff]")


class StopReading(Exception):
    """What was found makes it useless, or dangerous, to read on."""


class Findings(list[Diagnostic]):
    """The findings of one text in the order of reading."""

    def __init__(self, source: Source) -> None:
        """Start with none in `source`."""
        self.source = source
        self.path: list[str | int] = []

    def report(self, code: str, event: Event, message: str, hint: str = "") -> None:
        """Add a finding at an event; raises StopReading at the hundredth."""
        place = self.source.place(*_extent(self.source, event))
        self.add(diagnose(code, place, message, hint=hint, path=tuple(self.path)))

    def stop(self, code: str, event: Event, message: str, hint: str) -> NoReturn:
        """Add a finding that ends the reading."""
        self.report(code, event, message, hint)
        raise StopReading

    def add(self, finding: Diagnostic) -> None:
        """Add a finding once; raises StopReading at the hundredth."""
        if finding in self:
            return
        self.append(finding)
        if len(self) >= MAX_ERRORS:
            message = f"reading stopped here, at {MAX_ERRORS} errors"
            self.append(replace(finding, id="AR199", message=message, hint="mend these and check again"))
            raise StopReading

    def tag(self, event: NodeEvent) -> None:
        """Refuse the tag of a value, if it has one."""
        if event.tag is not None:
            hint = "quote the value instead" if event.tag == "tag:yaml.org,2002:str" else "delete the tag"
            self.report("AR112", event, "tags are not allowed", hint)

    def duplicate(self, event: ScalarEvent, block: Block) -> None:
        """Report a key that the block has already."""
        first, second = block.key_place(event.value).line, event.start_mark.line + 1
        lines = f"on lines {first} and {second}" if first != second else f"on line {first}"
        message = f"'{_short(event.value)}' stands twice in this block, {lines}"
        self.report("AR109", event, message, "delete one, or merge the two")

    def no_string(self, event: ScalarEvent) -> None:
        """Report a key that YAML takes for a number, a boolean or nothing."""
        if event.value:
            shown = _short(event.value)
            self.report("AR110", event, f"the key {shown} is not a string", f'quote it: "{shown}"')
        else:
            self.report("AR110", event, "the key before this ':' is missing", "write the key")

    def invisible(self, event: ScalarEvent, text: str) -> bool:
        """Report a character of `text`, part of an unquoted scalar, that nobody sees; say whether there was one."""
        if text.isprintable():
            return False
        char = next(char for char in text if not char.isprintable())
        name = unicodedata.name(char, "a control character").lower()
        message = f"the character U+{ord(char):04X} ({name}) stands here unseen"
        self.report("AR104", event, message, "replace it by a plain space, or delete it")
        return True

    def complex_key(self, event: Event) -> None:
        """Report a key that is a block, a list or an alias; most often it was meant as a template."""
        start = event.start_mark.index
        found = TEMPLATE.match(self.source.text, max(0, start - 1)) or TEMPLATE.match(self.source.text, start)
        if found and isinstance(event, CollectionStartEvent):
            self.add(template(self.source, found.start(), found.group()))
        elif isinstance(event, AliasEvent):
            self.report("AR110", event, "an alias cannot be a key", "write the key itself")
        else:
            kind = "block" if isinstance(event, MappingStartEvent) else "list"
            self.report("AR110", event, f"a {kind} cannot be a key", "quote the key if it is text")

    def flow_template(self, event: NodeEvent) -> bool:
        """Report an unrendered template that YAML takes for a block whose key is a block; say whether it is one."""
        if not isinstance(event, MappingStartEvent) or not event.flow_style:
            return False
        found = TEMPLATE.match(self.source.text, event.start_mark.index)
        if found:
            self.add(template(self.source, found.start(), found.group()))
        return found is not None

    def plain_template(self, event: ScalarEvent) -> bool:
        """Report an unrendered template inside an unquoted value; say whether there was one."""
        if "{{" not in event.value and "{%" not in event.value:
            return False
        return self._template(event)

    def quoted(self, event: ScalarEvent) -> bool:
        """Refuse what quotes can hold and a document cannot; say whether there was a template."""
        if not event.value.isascii() and _SURROGATE.search(event.value):
            message = "the backslash does not begin an escape"
            self.stop("AR105", event, message, "half a surrogate pair is no character")
        return event.value.startswith(("{{", "{%")) and event.style in ("'", '"') and self._template(event)

    def _template(self, event: ScalarEvent) -> bool:
        found = TEMPLATE.search(self.source.text, event.start_mark.index, event.end_mark.index)
        if found:
            self.add(template(self.source, found.start(), found.group()))
        return found is not None


def _extent(source: Source, event: Event) -> tuple[int, int]:
    """Return where the token of an event starts, without its anchor, and how long it is."""
    start, end = event.start_mark.index, event.end_mark.index
    if isinstance(event, CollectionStartEvent) and event.tag is None:
        return start, 1
    found = _ANCHOR.match(source.text, start, end) if isinstance(event, ScalarEvent) and event.anchor else None
    return (found.end(), end - found.end()) if found else (start, end - start)


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
