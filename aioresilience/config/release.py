"""Which releases of the library a document asks for."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Final

_CLAUSE = re.compile(r"\s*(>=|<=|==|!=|>|<|~=)\s*([0-9]{1,6}(?:\.[0-9]{1,6}){0,4})\s*", re.ASCII)
_Version = tuple[int, ...]
_COMPARE: Final[Mapping[str, Callable[[_Version, _Version], bool]]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


def fits(release: str, wanted: str) -> bool:
    """Tell whether a release fits clauses such as `>=0.3,<1`; raises ValueError where they are malformed."""
    clauses = [_clause(text) for text in wanted.split(",")]
    version = _numbers(re.match(r"[0-9.]*[0-9]", release)[0])  # type: ignore[index]  # releases begin with a digit
    return all(_holds(version, sign, numbers) for sign, numbers in clauses)


def _clause(text: str) -> tuple[str, _Version]:
    found = _CLAUSE.fullmatch(text)
    if not found:
        raise ValueError(f"{text.strip()!r} is not a range of releases; write for example >=0.3,<1")
    return found[1], _numbers(found[2])


def _numbers(text: str) -> _Version:
    return tuple(map(int, text.split(".")))


def _holds(version: _Version, sign: str, wanted: _Version) -> bool:
    if sign == "~=":
        return _holds(version, ">=", wanted) and version[: len(wanted) - 1] == wanted[:-1]
    length = max(len(version), len(wanted))
    return _COMPARE[sign](_padded(version, length), _padded(wanted, length))


def _padded(version: _Version, length: int) -> _Version:
    return version + (0,) * (length - len(version))
