"""Where output goes: colours on a terminal only, nothing that a closed pipe could turn into a traceback."""

from __future__ import annotations

import os
import re
import sys
from typing import Final, TextIO

import typer

SEVERITIES: Final = {"error": typer.colors.RED, "warning": typer.colors.YELLOW, "note": typer.colors.CYAN}
_HEADLINE = re.compile(r"^(?P<place>.*?): (?P<severity>error|warning|note) (?P<id>AR\d{3})(?P<rest>.*)$")
_CARET = re.compile(r"^ *\| *\^")


def colourful(stream: TextIO) -> bool:
    """Tell whether a stream is to be coloured: NO_COLOR, then FORCE_COLOR, then whether it is a terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def say(text: str, *, err: bool = False) -> None:
    """Print a line, or several."""
    typer.echo(text, err=err, color=colourful(sys.stderr if err else sys.stdout))


def strong(text: str) -> str:
    """Mark what a reader looks for first."""
    return typer.style(text, bold=True)


def faint(text: str) -> str:
    """Mark what a reader may pass over."""
    return typer.style(text, dim=True)


def painted(text: str) -> str:
    """Colour a rendered diagnostic."""
    return "\n".join(map(_line, text.split("\n")))


def _line(line: str) -> str:
    head = _HEADLINE.match(line)
    if head:
        colour = SEVERITIES[head["severity"]]
        severity = typer.style(f"{head['severity']} {head['id']}", fg=colour, bold=True)
        return f"{strong(head['place'])}: {severity}{head['rest']}"
    return typer.style(line, fg=typer.colors.GREEN) if _CARET.match(line) else line
