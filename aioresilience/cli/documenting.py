"""Pages of docs/ that are generated from the code."""

from __future__ import annotations

from collections.abc import Iterator

from aioresilience.config import CATALOGUE
from aioresilience.integrations.metrics import CATALOGUE as CATALOGUE_OF_METRICS


def diagnostics_page() -> str:
    """Return docs/diagnostics.md: every diagnostic with its cause, its fix and an example."""
    return "\n".join(_lines())


def metrics_table() -> str:
    """Return the table of docs/metrics.md: every metric by both of its names."""
    rows = ["| Prometheus | OpenTelemetry | kind, unit | labels | what it is |", "|---|---|---|---|---|"]
    for one in CATALOGUE_OF_METRICS:
        labels = ", ".join(f"`{label}`" for label in one.labels)
        names = f"`{one.prometheus_name}` | `{one.otel_name}`"
        rows.append(f"| {names} | {one.kind}, {one.otel_unit} | {labels} | {one.text} |")
    return "\n".join(rows) + "\n"


def _lines() -> Iterator[str]:
    yield "# Diagnostics\n"
    yield "AR1xx YAML, AR2xx schema and AR3xx references refuse a file; AR4xx, lint, never does.\n"
    for code, entry in CATALOGUE.items():
        yield f"## {code}\n\n**{entry.title}** ({entry.severity})\n\n{entry.cause}\n\nFix: {entry.fix}\n"
        if entry.example:
            shown = "\n".join(f"    {line}" for line in entry.example.splitlines())
            yield f"Example:\n\n{shown}\n"
