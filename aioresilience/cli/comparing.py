"""`aioresilience diff`: what a change of the file does, in words of behaviour."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import typer

from aioresilience.cli.checking import TROUBLE, load_files
from aioresilience.cli.worst_case import worst_case
from aioresilience.config import ConfigError, Document
from aioresilience.registry.diff import differences

SAME, CHANGES = 0, 1


def diff(old: Path, new: Path, environment: str | None) -> int:
    """Print the differences and return the exit code."""
    try:
        before, after = load_files([old], environment), load_files([new], environment)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        return TROUBLE
    lines = list(_lines(before, after))
    typer.echo("\n".join(lines) if lines else "nothing changes")
    return CHANGES if lines else SAME


def _lines(old: Document, new: Document) -> Iterator[str]:
    shown = ""
    for change in differences(old, new):
        name, *_ = change.policy.splitlines()
        if name != shown:
            shown = name
            yield f"{name}:"
            yield from _worst(old, new, name)
        yield f"  {change}"


def _worst(old: Document, new: Document, name: str) -> Iterator[str]:
    if name in old.policies and name in new.policies:
        pairs = zip(worst_case(old.policies[name]), worst_case(new.policies[name]), strict=True)
        yield from (f"  {before} -> {after.removeprefix('worst case: ')}" for before, after in pairs if before != after)
