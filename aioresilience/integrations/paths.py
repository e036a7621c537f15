"""Which requests a rule means: by method and path, as the app that is protected sees them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

NOT_GUARDED: Final = ("/health", "/metrics", "/ready", "/healthz")
"""Paths that are let through unless others are named: probes must not be refused."""

_RULE: Final = re.compile(r"(?:(?P<method>[A-Z]+) )?(?P<path>/[^?#\s]*)")
_PLACE: Final = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}")


def route_path(scope: MutableMapping[str, Any]) -> str:
    """Return the path within the app: decoded by the server, without the part under which the app is mounted."""
    path: str = scope["path"]
    root = scope.get("root_path")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        return path[len(root) :]
    return path


class Paths:
    """A set of paths, each exact: no prefix, no pattern, and a slash at the end is another path."""

    __slots__ = ("paths",)

    def __init__(self, paths: Iterable[str]) -> None:
        if isinstance(paths, str):
            raise TypeError(f"expected a list of paths, got the string {paths!r}")
        self.paths = frozenset(paths)
        for path in self.paths:
            if not path.startswith("/"):
                raise ValueError(f"a path begins with '/', got {path!r}")

    def __contains__(self, path: str) -> bool:
        return path in self.paths


class Routes(Generic[T]):
    """What is meant by method and path: `"POST /pay"`, `"/pay"` for every method, `"GET /users/{id}"`.

    Exact: `{name}` stands for one segment that is not empty, and a slash at the end is another path. A path comes
    before a pattern, then a rule with a method before one without, then the order given. GET means HEAD too.
    Raises ValueError for what is no rule.
    """

    __slots__ = ("_exact", "_patterns")

    def __init__(self, rules: Mapping[str, T]) -> None:
        self._exact: dict[tuple[str | None, str], T] = {}
        self._patterns: list[tuple[str | None, re.Pattern[str], T]] = []
        for rule, value in rules.items():
            method, path = _read(rule)
            if "{" in path:
                self._patterns.append((method, _pattern(path), value))
            else:
                self._exact[method, path] = value

    def find(self, method: str, path: str) -> T | None:
        """Return what is meant, None where no rule fits."""
        wanted = ("HEAD", "GET", None) if method == "HEAD" else (method, None)
        for one in wanted:
            found = self._exact.get((one, path))
            if found is not None:
                return found
        return self._by_pattern(wanted, path) if self._patterns else None

    def _by_pattern(self, wanted: Iterable[str | None], path: str) -> T | None:
        fitting = [(method, value) for method, pattern, value in self._patterns if pattern.fullmatch(path)]
        return next((value for one in wanted for method, value in fitting if method == one), None)


def _read(rule: str) -> tuple[str | None, str]:
    found = _RULE.fullmatch(rule)
    if found is None:
        raise ValueError(f"a rule is a method and a path, as in 'POST /pay', or a path alone; got {rule!r}")
    path = found["path"]
    if not path.isascii() or any(brace in _PLACE.sub("", path) for brace in "{}"):
        raise ValueError(f"a path is plain, with {{name}} for a whole segment; got {rule!r}")
    return found["method"], path


def _pattern(path: str) -> re.Pattern[str]:
    parts = []
    for segment in path.split("/"):
        if "{" in segment and not _PLACE.fullmatch(segment):
            raise ValueError(f"{{name}} stands for a whole segment, not for a part of one: {path!r}")
        parts.append("[^/]+" if "{" in segment else re.escape(segment))
    return re.compile("/".join(parts))
