"""Which outgoing HTTP requests a policy is for: routes, of which the first that fits counts."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence

from aioresilience.config.diagnostics import suggest
from aioresilience.config.document import Route
from aioresilience.config.places import Block, Items
from aioresilience.config.report import Report, shown


@functools.lru_cache(maxsize=4096)
def _glob(pattern: str) -> re.Pattern[str]:
    """Compile a pattern in which `*` stands for any characters, dots included."""
    return re.compile(".*".join(map(re.escape, pattern.lower().split("*"))), re.DOTALL)


def find(routes: Sequence[Route], method: str, host: str, port: int | None, path: str) -> str | None:
    """Return the policy of the first route that fits a request, None where none does.

    `host` is in ASCII, an IPv6 address in brackets; `port` is the one that is connected to, `path` without its query.
    """
    host = host.lower().rstrip(".")
    return next((route.policy for route in routes if _fits(route, method, host, port, path)), None)


def _fits(route: Route, method: str, host: str, port: int | None, path: str) -> bool:
    if route.method and method.upper() not in route.method:
        return False
    if route.host is not None and not _names(route.host, host, f"{host}:{port}"):
        return False
    return route.path is None or is_below(path, route.path)


def _names(pattern: str, host: str, with_port: str) -> bool:
    glob = _glob(pattern)
    return glob.fullmatch(host) is not None or glob.fullmatch(with_port) is not None


def is_below(path: str, prefix: str) -> bool:
    """Tell whether a path is the prefix, or goes on below it at a `/`."""
    return path.startswith(prefix) and (prefix.endswith("/") or path[len(prefix) : len(prefix) + 1] in ("", "/"))


def covers(broad: Route, narrow: Route) -> bool:
    """Tell whether every request that fits `narrow` fits `broad`."""
    if broad.method and not (narrow.method and set(narrow.method) <= set(broad.method)):
        return False
    if broad.host is not None and not (narrow.host is not None and _covers_host(broad.host, narrow.host)):
        return False
    return broad.path is None or (narrow.path is not None and is_below(narrow.path, broad.path))


def _covers_host(broad: str, narrow: str) -> bool:
    """Tell whether the broad pattern fits the text of the narrow one, whose star only a star can fit."""
    narrow = narrow.lower()
    return _names(broad, re.sub(r":[0-9]+$", "", narrow), narrow)


def check_routes(tree: Block, policies: Mapping[str, object], report: Report) -> None:
    """Report routes to policies that do not exist, AR330."""
    for index, route in _written(tree):
        name = route.get("policy")
        if not isinstance(name, str) or name in policies:
            continue
        near = suggest(name, policies)
        hint = f"did you mean '{near}'?" if near else "add it under policies"
        place, path = route.value_place("policy"), ("routes", index, "policy")
        report.add("AR330", place, f"unknown policy {shown(name)}", hint=hint, path=path)


def _written(tree: Block) -> Iterator[tuple[int, Block]]:
    items = tree.get("routes")
    for index, one in enumerate(items if isinstance(items, Items) else ()):
        if isinstance(one, Block):
            yield index, one
