"""The commands and their options."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from aioresilience.cli import checking, comparing, demo as demonstration, explaining
from aioresilience.config import schema_text
from aioresilience.policy import BUILTIN
from aioresilience.resources import resource

app = typer.Typer(
    name="aioresilience",
    help="Check, explain and try out resilience.yaml.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files, low to high: later ones win.")]
Environment = Annotated[
    str | None, typer.Option("--environment", "-e", help="Overlay of the file to apply, such as production.")
]


class Format(StrEnum):
    """How diagnostics are written."""

    text = "text"
    json = "json"
    github = "github"


@app.command()
def check(
    files: Files,
    environment: Environment = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on lint warnings too.")] = False,
    format: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.text,
    code: Annotated[
        Path | None, typer.Option("--code", help="Folder of Python code whose policy names to compare, unimported.")
    ] = None,
) -> None:
    """Check files as a service would read them, in every environment that they have, without the service.

    Names that only the service can know (callables, packages that are not installed here) are notes.

    Exit code: 0 fine or warnings only, 1 errors, 2 usage or I/O, 3 lint errors only (with --strict warnings too).
    """
    raise typer.Exit(checking.check(files, environment, strict=strict, form=format.value, code=code))


@app.command()
def explain(
    file: Annotated[Path, typer.Argument(help="The file.")],
    target: Annotated[str, typer.Argument(metavar="POLICY[.PATH]", help="A policy, or one value of it.")],
    environment: Environment = None,
) -> None:
    """Show a policy as it is in effect, or where one value comes from and what it shadows."""
    raise typer.Exit(explaining.explain(file, target, environment))


@app.command()
def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The file as it was.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The file as it will be.")],
    environment: Environment = None,
) -> None:
    """Say what a change does: worst-case latency and attempts, every value, and what becomes of live state.

    Exit code: 0 same, 1 changes, 2 trouble.
    """
    raise typer.Exit(comparing.diff(old, new, environment))


@app.command()
def schema(
    write: Annotated[bool, typer.Option("--write", help="Write schemas/resilience.schema.json instead.")] = False,
) -> None:
    """Print the JSON Schema of the file, for editors."""
    text = schema_text(BUILTIN)
    if not write:
        sys.stdout.write(text)
        return
    path = resource("schemas", "resilience.schema.json")
    path.write_text(text, encoding="utf-8")
    typer.echo(f"wrote {os.path.relpath(path)}")


@app.command()
def demo() -> None:
    """Run a service under a YAML file for 20 seconds: faults on purpose, a broken edit, a hot reload."""
    raise typer.Exit(demonstration.run())
