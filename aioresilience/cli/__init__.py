"""The command line: `aioresilience`, from the extra `cli`."""

from __future__ import annotations

import sys

missing: str | None = None
try:
    from aioresilience.cli.app import app
except ModuleNotFoundError as error:
    missing = str(error.name).partition(".")[0]
    if missing not in ("typer", "rich"):
        raise


def main() -> None:
    """Run the command line; says which extra is missing where typer or rich is not installed."""
    if missing is not None:
        sys.stderr.write(f"aioresilience: {missing} is not installed: pip install 'aioresilience[cli]'\n")
        raise SystemExit(2)
    app()
