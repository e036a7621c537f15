"""Events to tree: one recursive walk that builds blocks and keeps the place of every key and value."""

from __future__ import annotations

import re
from collections.abc import Callable

from aioresilience.config.findings import Findings
from aioresilience.config.interpolate import Absent
from aioresilience.config.parsing import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
)
from aioresilience.config.places import LENGTH_BITS, LENGTH_MAX, MAX_DEPTH, SPAN_BITS, Block, Items, Node, Scalar
from aioresilience.config.scalars import is_string, plain_scalar

MAX_ALIASES = 10_000
MAX_ALIASED_NODES = 100_000
BLOCK_WEIGHT = 2
"""Values that a block counts for beside its entries: so much more memory does it take."""
CHARACTERS_PER_BREATH = 4096
"""A few hundred values of a policy file, less than a millisecond of work."""
MAX_REMEMBERED = 4096
"""Keys and unquoted values that are looked at only once."""

REFUSED = Absent("")
"""Stands for a value that was refused, so that nobody complains about it twice."""

_PLAIN_KEY = re.compile(
    r"(?!(?:null|true|false)$)[a-z][a-z0-9_.-]*"
)  # most keys; the others are looked at more closely


class Builder:
    """Builds the tree of one document from parser events."""

    def __init__(
        self, events: Callable[[], Event], findings: Findings, max_nodes: int, breathe: Callable[[], None]
    ) -> None:
        """Read `events`; `breathe` is called every few thousand characters, within a millisecond of work."""
        self._next = events
        self._findings = findings
        self._source = findings.source
        self._max_nodes = max_nodes
        self._breathe = breathe
        self._nodes = 0
        self._pause = 0
        self._keys: dict[str, str] = {}
        self._known: dict[str, Scalar] = {}
        self._anchors: dict[str, tuple[Node, int, int] | None] = {}  # node, size, height; None while it is open
        self._aliases = 0
        self._aliased = 0
        self._deepest = 0
        self._literals: list[tuple[int, int]] = []

    def build(self, event: Event) -> Node:
        """Build the node that `event` begins; raises StopReading once it makes no sense to go on."""
        try:
            return self._node(event, 0, None)
        finally:
            self._source.literals = tuple(self._literals)

    def _block(self, depth: int) -> Block:
        block = Block(self._source)
        places, keys, known, following = block.places, self._keys, self._known, self._next
        while True:
            event = following()
            if type(event) is MappingEndEvent:
                self._nodes += len(block) + BLOCK_WEIGHT
                return block
            start = event.start_mark.index
            if (
                type(event) is ScalarEvent
                and event.value in keys
                and not event.style
                and event.anchor is event.tag is None
            ):
                key: str | None = keys[event.value]
                length = len(event.value)
                if key in block:
                    self._findings.duplicate(event, block)
            else:
                length = min(event.end_mark.index - start, LENGTH_MAX)
                key = self._odd_key(event, block)
            event = following()
            at = event.start_mark.index
            if (
                type(event) is ScalarEvent
                and event.value in known
                and not event.style
                and event.anchor is event.tag is None
            ):
                value: Node = known[event.value]
                extent = len(event.value)
            else:
                value = self._node(event, depth, key)
                extent = min(event.end_mark.index - at, LENGTH_MAX)
            if at >= self._pause:
                self._rest(event, len(block))
            if key is not None:
                block[key] = value
                places[key] = (start << LENGTH_BITS | length) << SPAN_BITS | at << LENGTH_BITS | extent

    def _items(self, depth: int) -> Items:
        items = Items(self._source)
        while True:
            event = self._next()
            if type(event) is SequenceEndEvent:
                self._nodes += len(items)
                return items
            start = event.start_mark.index
            if start >= self._pause:
                self._rest(event, len(items))
            length = min(event.end_mark.index - start, LENGTH_MAX)
            items.append(self._node(event, depth, len(items)))
            items.places.append(start << LENGTH_BITS | length)

    def _odd_key(self, event: Event, block: Block) -> str | None:
        if not isinstance(event, ScalarEvent):
            self._findings.complex_key(event)
            self._skip(event)
            return None
        plain = _PLAIN_KEY.fullmatch(event.value) and not event.style and event.anchor is event.tag is None
        key = self._remembered(event.value) if plain else self._checked_key(event)
        if key is not None and key in block:
            self._findings.duplicate(event, block)
        return key

    def _checked_key(self, event: ScalarEvent) -> str | None:
        self._findings.tag(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = (event.value, 1, 0)
            self._nodes += 1
        if event.style:
            return self._quoted(event)
        if event.value == "<<":
            self._findings.report("AR111", event, "merge keys are not used here", "name a template with 'extends'")
        elif not is_string(event.value):
            self._findings.no_string(event)
        elif not self._findings.plain_template(event) and not self._findings.invisible(event, event.value):
            return self._remembered(event.value)
        return None

    def _remembered(self, key: str) -> str:
        if len(self._keys) < MAX_REMEMBERED:
            self._keys[key] = key
        return key

    def _skip(self, event: Event) -> None:
        """Pass over the rest of a block or list."""
        depth = int(isinstance(event, CollectionStartEvent))
        while depth:
            event = self._next()
            self._nodes += 1
            if event.start_mark.index >= self._pause:
                self._rest(event, 0)
            self._refuse_depth(event, depth)
            depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)

    def _node(self, event: Event, depth: int, step: str | int | None) -> Node:
        if type(event) is ScalarEvent and event.tag is None and event.anchor is None:
            return self._quoted(event) if event.style else self._plain(event)
        assert isinstance(event, NodeEvent)
        if isinstance(event, AliasEvent):
            return self._alias(event, depth)
        self._findings.tag(event)
        if event.anchor is None:
            return self._content(event, depth, step)
        self._anchors[event.anchor] = None
        self._nodes += 1
        size, deepest = self._nodes + self._aliased, self._deepest
        self._deepest = depth
        node = self._content(event, depth, step)
        self._anchors[event.anchor] = (node, self._nodes + self._aliased - size + 1, self._deepest - depth)
        self._deepest = max(deepest, self._deepest)
        return node

    def _content(self, event: NodeEvent, depth: int, step: str | int | None) -> Node:
        if isinstance(event, ScalarEvent):
            return self._quoted(event) if event.style else self._plain(event)
        depth += 1
        if depth > self._deepest:
            self._refuse_depth(event, depth)
            self._deepest = depth
        path = self._findings.path
        if self._findings.flow_template(event):
            self._skip(event)
            return REFUSED
        if step is not None:
            path.append(step)
        node = self._block(depth) if type(event) is MappingStartEvent else self._items(depth)
        if step is not None:
            path.pop()
        return node

    def _alias(self, event: AliasEvent, depth: int) -> Node:
        name = str(event.anchor)
        anchored = self._anchors.get(name)
        if anchored is None:
            self._no_anchor(event, name)
            return REFUSED
        node, size, height = anchored
        self._aliases += 1
        self._aliased += size
        if self._aliases > MAX_ALIASES or self._aliased > MAX_ALIASED_NODES:
            self._findings.stop("AR114", event, "the aliases repeat too much", "use templates and 'extends' instead")
        self._refuse_depth(event, depth + height)
        self._deepest = max(self._deepest, depth + height)
        return node

    def _no_anchor(self, event: AliasEvent, name: str) -> None:
        if name in self._anchors:
            message, hint = f"the alias '*{name}' stands inside its own anchor", "write the value itself"
            self._findings.report("AR115", event, message, hint)
        else:
            message, hint = f"no anchor '&{name}' comes before this alias", "quote the value if it is text"
            self._findings.report("AR116", event, message, hint)

    def _plain(self, event: ScalarEvent) -> Scalar:
        text = event.value
        if text in self._known:
            return self._known[text]
        if self._findings.plain_template(event) or self._findings.invisible(event, text[:1] + text[-1:]):
            return REFUSED
        try:
            value = plain_scalar(text)
        except ValueError as error:
            self._findings.report("AR121", event, str(error), "quote it if it is text")
            return REFUSED
        if len(text) <= LENGTH_MAX and len(self._known) < MAX_REMEMBERED:
            self._known[text] = value
        return value

    def _quoted(self, event: ScalarEvent) -> str:
        if "#" in event.value:
            self._literals.append((event.start_mark.index, event.end_mark.index))
        return REFUSED if self._findings.quoted(event) else event.value

    def _refuse_depth(self, event: Event, depth: int) -> None:
        if depth > MAX_DEPTH:
            self._findings.path.clear()
            message = f"more than {MAX_DEPTH} levels of blocks and lists"
            self._findings.stop("AR113", event, message, "flatten the document")

    def _rest(self, event: Event, growing: int) -> None:
        """Let others run, and stop at too many values; `growing` are those of the block or list that is being built."""
        self._pause = event.start_mark.index + CHARACTERS_PER_BREATH
        self._breathe()
        if self._nodes + growing > self._max_nodes:
            hint = "split the file with include, or raise AIORESILIENCE_MAX_BYTES"
            self._findings.stop("AR114", event, f"more than {self._max_nodes} values", hint)
