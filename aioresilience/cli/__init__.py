"""The command line: `aioresilience`, from the extra `cli`."""

from __future__ import annotations

import importlib
import sys

NEEDED = ("typer", "rich")


def main() -> None:
    """Run the command line; says which extra is missing where typer or rich is not installed."""
    try:
        app = importlib.import_module("aioresilience.cli.app").app
    except ModuleNotFoundError as error:
        if error.name not in NEEDED:
            raise
        sys.stderr.write(f"aioresilience: {error.name} is not installed: pip install 'aioresilience[cli]'\n")
        raise SystemExit(2) from error
    app()
