"""Pages of docs/ that are generated from the code; `python -m aioresilience.cli.documenting` writes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from typer.testing import CliRunner

from aioresilience.cli.app import app
from aioresilience.cli.diagnostics_page import diagnostics_page
from aioresilience.cli.reference import reference_page
from aioresilience.integrations.metrics import CATALOGUE as CATALOGUE_OF_METRICS

DOCS: Final = Path(__file__).parents[2] / "docs"
_HELP: Final = re.compile(r"(?<=^```console\n)\$ aioresilience ([a-z ]*)--help\n.*?(?=^```$)", re.M | re.S)
_METRICS: Final = re.compile(r"^\| Prometheus \| OpenTelemetry \|.*\n(?:\|.*\n)*", re.M)


def metrics_table() -> str:
    """Return the table of docs/metrics.md: every metric by both of its names."""
    rows = ["| Prometheus | OpenTelemetry | kind, unit | labels | what it is |", "|---|---|---|---|---|"]
    for one in CATALOGUE_OF_METRICS:
        labels = ", ".join(f"`{label}`" for label in one.labels)
        names = f"`{one.prometheus_name}` | `{one.otel_name}`"
        rows.append(f"| {names} | {one.kind}, {one.otel_unit} | {labels} | {one.text} |")
    return "\n".join(rows) + "\n"


def metrics_page(page: str) -> str:
    """Return docs/metrics.md with the table as it is now."""
    return _METRICS.sub(lambda _: metrics_table(), page)


def command_page(page: str) -> str:
    """Return docs/cli.md with the help of each command as it is now."""
    return _HELP.sub(lambda found: f"$ aioresilience {found[1]}--help\n{_help(found[1].split())}", page)


def _help(words: list[str]) -> str:
    shown = CliRunner().invoke(app, [*words, "--help"], prog_name="aioresilience", env={"COLUMNS": "100"}).output
    return shown.rstrip() + "\n"


PAGES: Final[Mapping[str, Callable[[str], str]]] = {
    "diagnostics.md": diagnostics_page,
    "cli.md": command_page,
    "reference.md": reference_page,
    "metrics.md": metrics_page,
}
"""Each page and what makes it, from what it holds now."""


def write() -> None:
    """Write every page."""
    for name, make in PAGES.items():
        page = DOCS / name
        before = page.read_text(encoding="utf-8") if page.exists() else ""
        page.write_text(make(before), encoding="utf-8")


if __name__ == "__main__":
    write()
