"""Comments that silence a lint finding on their line: `# aioresilience: ignore[AR402] reason`."""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import islice
from typing import NamedTuple

from aioresilience.config.places import Place, Source

_COMMENT = re.compile(
    r"(?:^|(?<=[ \t\r\n]))#[ \t]*aioresilience:[ \t]*ignore\b(?:\[(?P<ids>[^\]\r\n]*)\])?(?=(?P<reason>[^\r\n]*))"
)
_WORD = "aioresilience:"
MAX_SUPPRESSIONS = 10_000


class Suppression(NamedTuple):
    """One comment: where it stands, the ids it silences on that line, and why; without ids it is malformed."""

    place: Place
    ids: tuple[str, ...]
    reason: str

    @property
    def line(self) -> int:
        """Return the line that the comment speaks of."""
        return self.place.line


def suppressions(source: Source) -> tuple[Suppression, ...]:
    """Return the suppressions of a text that has been read, in order, at most one more than the text may have.

    What stands inside quotes is none.
    """
    if _WORD not in source.text:
        return ()
    found = (one for one in _COMMENT.finditer(source.text) if not _is_literal(source, one.start()))
    return tuple(_suppression(source, one) for one in islice(found, MAX_SUPPRESSIONS + 1))


def _suppression(source: Source, found: re.Match[str]) -> Suppression:
    ids = tuple(filter(None, re.split(r"[\s,]+", found["ids"] or "")))
    return Suppression(source.place(found.start(), len(found.group())), ids, found["reason"].strip())


def _is_literal(source: Source, index: int) -> bool:
    following = bisect_right(source.literals, (index, len(source.text) + 1))
    return following > 0 and index < source.literals[following - 1][1]
