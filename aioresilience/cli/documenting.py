"""Pages of docs/ that are generated from the code."""

from __future__ import annotations

from collections.abc import Iterator

from aioresilience.config import CATALOGUE


def diagnostics_page() -> str:
    """Return docs/diagnostics.md: every diagnostic with its cause, its fix and an example."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield "# Diagnostics\n"
    yield "AR1xx YAML, AR2xx schema and AR3xx references refuse a file; AR4xx, lint, never does.\n"
    for code, entry in CATALOGUE.items():
        yield f"## {code}\n\n**{entry.title}** ({entry.severity})\n\n{entry.cause}\n\nFix: {entry.fix}\n"
        if entry.example:
            shown = "\n".join(f"    {line}" for line in entry.example.splitlines())
            yield f"Example:\n\n{shown}\n"
