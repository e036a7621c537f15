"""Where things were written: texts, places in them, and the dicts and lists that remember their places.

Places are packed into one integer per entry and unpacked only when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

Scalar: TypeAlias = str | int | float | bool | None
Node: TypeAlias = "Block | Items | Scalar"
Path: TypeAlias = tuple[str | int, ...]
Origin: TypeAlias = Literal["file", "environment", "override", "code"]

MAX_DEPTH = 32
"""Levels of blocks and lists that a document may have, the outermost included."""

MAX_CHAIN = 50
"""Places that a value remembers: where it was said, and what that lies over."""

# A span is a start and a length in one integer; an entry holds two of them in one, the key's above the value's.
LENGTH_BITS = 12
LENGTH_MAX = (1 << LENGTH_BITS) - 1
SPAN_BITS = 48
SPAN_MASK = (1 << SPAN_BITS) - 1

STRETCH_BITS = 12
"""Line numbers are known at every 4,096th character and counted from there."""
EXCERPT_MARGIN = 4000
"""Characters kept on either side of a token: enough to show it, and to recognise a secret around it."""


class Source:
    """A text with its name as the user gave it; lines and columns are counted when somebody asks."""

    __slots__ = ("_flat", "_line_starts", "_lines_before", "literals", "name", "text")

    def __init__(self, name: str, text: str) -> None:
        """Keep `text`, without a byte order mark, under `name`."""
        self.name = name
        self.text = text
        self.literals: tuple[tuple[int, int], ...] = ()
        """Start and end of quoted and block scalars with a `#` in them, ascending: no comment begins inside."""
        self._flat: str | None = None
        self._lines_before: list[int] = []  # for each stretch: line breaks before it
        self._line_starts: list[int] = []  # for each stretch: where the line begins that it begins in

    def position(self, index: int) -> tuple[int, int]:
        """Return line and column, counted from 1, of the character at `index`."""
        flat = self._measured()
        stretch = min(index >> STRETCH_BITS, len(self._lines_before) - 1)
        begin = stretch << STRETCH_BITS
        line_break = flat.rfind("\n", begin, index)
        start = line_break + 1 if line_break >= 0 else self._line_starts[stretch]
        return self._lines_before[stretch] + flat.count("\n", begin, index) + 1, index - start + 1

    def line(self, number: int) -> str:
        """Return a line without its break; past the end it is empty."""
        return self.text[slice(*self.bounds(number))]

    def bounds(self, number: int) -> tuple[int, int]:
        """Return where a line starts and where it ends, its break not included."""
        flat = self._measured()
        start = self._line_start(number)
        end = flat.find("\n", start)
        end = len(flat) if end < 0 else end
        return start, end - 1 if self.text[end - 1 : end + 1] == "\r\n" and end > start else end

    def place(self, start: int, length: int = 1) -> Place:
        """Return the place of `length` characters from the index `start`."""
        line, column = self.position(min(start, len(self.text)))
        return Place("file", self.name, line, column, max(length, 1), source=self)

    def _line_start(self, number: int) -> int:
        breaks = number - 1
        stretch = max(0, bisect_left(self._lines_before, breaks) - 1)
        start = stretch << STRETCH_BITS if breaks > 0 else 0
        for _ in range(breaks - self._lines_before[stretch]):
            start = self._measured().find("\n", start) + 1
            if not start:
                return len(self.text)
        return start

    def _measured(self) -> str:
        """Return the text with every break ending in a plain line feed, as long as it was; measure it once."""
        if self._flat is None:
            flat = self.text
            if "\r" in flat:
                flat = flat.replace("\r\n", " \n").replace("\r", "\n")
            breaks, start = 0, 0
            for begin in range(0, len(flat) + 1, 1 << STRETCH_BITS):
                self._lines_before.append(breaks)
                self._line_starts.append(start)
                breaks += flat.count("\n", begin, begin + (1 << STRETCH_BITS))
                start = flat.rfind("\n", begin, begin + (1 << STRETCH_BITS)) + 1 or start
            self._flat = flat
        return self._flat


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was said: a stretch of a file, an environment variable, an override, or code.

    Line and column count characters from 1 and are 0 where there are none; `shadows` is the place this one won over.
    """

    origin: Origin
    name: str
    line: int = 0
    column: int = 0
    length: int = 1
    shadows: Place | None = field(default=None, compare=False)
    source: Source | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        """Return the place as messages show it."""
        spot = f"{self.name}:{self.line}:{self.column}" if self.line else self.name
        return spot if self.origin == "file" else f"{self.origin} {spot}"

    def chain(self) -> tuple[Place, ...]:
        """Return this place and all that it shadows, the winner first."""
        chain, place = [self], self.shadows
        while place is not None:
            chain.append(place)
            place = place.shadows
        return tuple(chain)

    def over(self, shadowed: Place) -> Place:
        """Return this place as the winner over `shadowed`; of a very long chain the nearest places stay."""
        below: Place | None = shadowed
        chain, rest = self.chain(), shadowed.chain()
        if len(chain) + len(rest) > MAX_CHAIN:
            chain, below = (*chain, *rest)[:MAX_CHAIN], None
        for place in reversed(chain):
            below = replace(place, shadows=below)
        assert below is not None
        return below

    def text(self) -> str:
        """Return the source text at this place, raw, at most up to the end of its line."""
        if self.source is None:
            return ""
        start, end = self.source.bounds(self.line)
        start += self.column - 1
        return self.source.text[start : min(start + self.length, end)]

    def excerpt(self) -> tuple[str, int]:
        """Return what stands around this place in its line, and how many characters of the line come before that."""
        if self.source is None:
            return "", 0
        start, end = self.source.bounds(self.line)
        token = start + self.column - 1
        first = max(start, token - EXCERPT_MARGIN)
        last = token + min(self.length, EXCERPT_MARGIN) + EXCERPT_MARGIN
        return self.source.text[first : min(end, last)], first - start


NOWHERE = Place("code", "<unknown>")

Pair: TypeAlias = tuple[Place, Place]


class Block(dict[str, "Node"]):
    """A mapping that remembers the place of every key and every value."""

    __slots__ = ("places", "source")

    def __init__(self, source: Source | None = None) -> None:
        """Start empty; packed places mean stretches of `source`."""
        self.source = source
        self.places: dict[str, int | Pair] = {}

    def key_place(self, key: str) -> Place:
        """Return where the key stands."""
        return self.pair(key)[0]

    def value_place(self, key: str) -> Place:
        """Return where the value stands, with the chain of what it shadows."""
        return self.pair(key)[1]

    def put(self, key: str, value: Node, places: int | Pair) -> None:
        """Add an entry while the block is being built."""
        self[key] = value
        self.places[key] = places

    def pair(self, key: str) -> Pair:
        """Return the places of key and value."""
        packed = self.places.get(key, (NOWHERE, NOWHERE))
        if not isinstance(packed, int):
            return packed
        return unpack(self.source, packed >> SPAN_BITS), unpack(self.source, packed & SPAN_MASK)


class Items(list["Node"]):
    """A list that remembers the place of every item."""

    __slots__ = ("places", "source")

    def __init__(self, source: Source | None = None) -> None:
        """Start empty; packed places mean stretches of `source`."""
        self.source = source
        self.places: list[int | Place] = []

    def value_place(self, index: int) -> Place:
        """Return where the item stands."""
        if not -len(self.places) <= index < len(self.places):
            return NOWHERE
        packed = self.places[index]
        return unpack(self.source, packed) if isinstance(packed, int) else packed


def unpack(source: Source | None, span: int) -> Place:
    """Return the place that a packed span of `source` means."""
    return source.place(span >> LENGTH_BITS, span & LENGTH_MAX) if source else NOWHERE
