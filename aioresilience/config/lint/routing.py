"""Rules about routes."""

from __future__ import annotations

from collections.abc import Iterator

from aioresilience.config.diagnostics import Diagnostic, diagnose
from aioresilience.config.document import Route
from aioresilience.config.lint.subject import Subject
from aioresilience.config.places import Items
from aioresilience.config.routes import covers


def unreachable(subject: Subject) -> Iterator[Diagnostic]:
    """AR430: every request that fits this route fits an earlier one already."""
    items = subject.tree.get("routes")
    routes = subject.routes
    for index, route in enumerate(routes):
        before = next((number for number, other in enumerate(routes[:index]) if covers(other, route)), None)
        if before is not None and isinstance(items, Items):
            message = f"no request comes this far: {_told(routes[before])} stands before it"
            hint = "move it up, or delete it"
            yield diagnose("AR430", items.value_place(index), message, hint=hint, path=("routes", index))


def _told(route: Route) -> str:
    said = [" or ".join(route.method), route.host or "", route.path or ""]
    return f"the route of {' '.join(part for part in said if part) or 'every request'} to '{route.policy}'"
