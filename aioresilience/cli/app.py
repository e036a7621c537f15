"""The commands and their options."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from aioresilience import __version__
from aioresilience.cli import (
    checking,
    comparing,
    completing,
    demo as demonstration,
    explaining,
    rendering,
    starting,
    watching,
)
from aioresilience.cli.console import painted, say
from aioresilience.cli.reading import ERRORS, TROUBLE, Trouble, split, unreadable
from aioresilience.config import ConfigError, schema_text
from aioresilience.policy import BUILTIN
from aioresilience.resources import resource


def _examples(*lines: str) -> str:
    """Return what stands below a command's help, line by line."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


app = typer.Typer(
    name="aioresilience",
    epilog=_examples(
        "A first file:        aioresilience init",
        "At every save:       aioresilience watch resilience.yaml",
        "In CI:               aioresilience check resilience.yaml --strict",
        "On call:             aioresilience explain resilience.yaml payments -e production",
        "Before a change:     git show HEAD:resilience.yaml | aioresilience diff - resilience.yaml",
    ),
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

OTHER_WORDS: Final = {"lint": "check", "validate": "check", "verify": "check", "plan": "diff", "show": "explain"}
"""What other tools call a command, and its name here."""

Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE", help="Files, low to high: later ones win. `-` is standard input.", show_default=False
    ),
]
Watched = Annotated[
    list[str], typer.Argument(metavar="FILE", help="Files, low to high: later ones win.", show_default=False)
]
File = Annotated[str, typer.Argument(metavar="FILE", help="The file, or several joined as in PATH.")]
Environment = Annotated[
    str | None,
    typer.Option(
        "--environment", "-e", metavar="NAME", help="Overlay of the file to apply, such as production.",
        autocompletion=completing.environments,
    ),
]  # fmt: skip
Strict = Annotated[bool, typer.Option("--strict", help="Fail on lint warnings too.")]
Code = Annotated[
    Path | None,
    typer.Option("--code", metavar="DIR", help="Python code whose policy names are compared; it is not imported."),
]


class Format(StrEnum):
    """How diagnostics are written."""

    text = "text"
    json = "json"
    sarif = "sarif"
    github = "github"


class Plainly(StrEnum):
    """How differences are written."""

    text = "text"
    json = "json"


@contextlib.contextmanager
def telling(refused: int = ERRORS) -> Iterator[None]:
    """Print what keeps a command from its work, and exit."""
    try:
        yield
    except Trouble as trouble:
        say(f"aioresilience: {trouble}", err=True)
        raise typer.Exit(TROUBLE) from None
    except ConfigError as error:
        say(painted(str(error)), err=True)
        raise typer.Exit(TROUBLE if unreadable(error) else refused) from None
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        say(f"aioresilience: {error.filename or ''}: {(error.strerror or str(error)).lower()}", err=True)
        raise typer.Exit(TROUBLE) from None


def _version(wanted: bool) -> None:
    if wanted:
        say(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the release and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Check, explain, compare and try out resilience.yaml."""


@app.command(
    short_help="Say all that is wrong with files.",
    epilog=_examples(
        "aioresilience check resilience.yaml",
        "aioresilience check base.yaml team.yaml --strict",
        "aioresilience check resilience.yaml --code src/",
        "aioresilience check resilience.yaml --format sarif > resilience.sarif",
    ),
)
def check(
    files: Files,
    environment: Environment = None,
    strict: Strict = False,
    format: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.text,
    code: Code = None,
) -> None:
    """Check files as a service would read them, in every environment that they have, without the service.

    Names that only the service can know (callables, packages that are not installed here, unset variables) are notes.

    Exit code: 0 fine or warnings only, 1 errors, 2 usage or I/O, 3 lint errors only (with --strict warnings too).
    """
    with telling():
        raise typer.Exit(checking.check(files, environment, strict=strict, form=format.value, code=code))


@app.command(
    short_help="Show what is in effect, and where it comes from.",
    epilog=_examples(
        "aioresilience explain resilience.yaml",
        "aioresilience explain resilience.yaml payments",
        "aioresilience explain resilience.yaml payments.retry.max_attempts -e production",
    ),
)
def explain(
    file: File,
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="POLICY[.PATH]", help="A policy, or one value of it; without it every policy in a line.",
            autocompletion=completing.targets,
        ),
    ] = None,
    environment: Environment = None,
    code: Annotated[bool, typer.Option("--code", help="Show the Python that runs around a function instead.")] = False,
) -> None:  # fmt: skip
    """Show a policy as it is in effect, or where one value comes from and what it shadows.

    Of several names that fit the longest is taken: payments.eu before payments.
    """
    show = explaining.code if code else explaining.explain
    with telling():
        raise typer.Exit(show(split(file), target, environment))


@app.command(
    short_help="Say what a change of the files does.",
    epilog=_examples(
        "aioresilience diff old.yaml new.yaml",
        "git show HEAD:resilience.yaml | aioresilience diff - resilience.yaml",
        "aioresilience diff base.yaml:old.yaml base.yaml:new.yaml -e production",
    ),
)
def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help="The file as it was, or several joined as in PATH.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The file as it will be; `-` is standard input.")],
    environment: Environment = None,
    format: Annotated[Plainly, typer.Option("--format", help="Output format.")] = Plainly.text,
) -> None:
    """Say what a change does: worst-case latency and attempts, caps, every value, and what becomes of live state.

    Without --environment every environment of either side is compared; equal differences are told once.

    Exit code: 0 same, 1 changes, 2 trouble.
    """
    with telling(refused=TROUBLE):
        raise typer.Exit(comparing.diff(split(old), split(new), environment, format.value))


@app.command(
    short_help="Print all layers as one flat file.",
    epilog=_examples(
        "aioresilience render resilience.yaml -e production > flat.yaml",
    ),
)
def render(files: Files, environment: Environment = None) -> None:
    """Print all layers as one flat file that means the same: packs and includes inlined, the environment laid over.

    ${...} stays as it is written. Without --environment the file keeps its environments.
    """
    with telling():
        raise typer.Exit(rendering.render(files, environment))


@app.command(
    short_help="Check again at every change.",
    epilog=_examples(
        "aioresilience watch resilience.yaml",
    ),
)
def watch(files: Watched, environment: Environment = None, strict: Strict = False, code: Code = None) -> None:
    """Check again at every change of the files, their includes and the code, until Ctrl-C."""
    with telling():
        raise typer.Exit(watching.watch(files, environment, strict=strict, code=code))


@app.command(
    short_help="Write a first file with comments.",
    epilog=_examples(
        "aioresilience init",
        "aioresilience init ops/resilience.yaml",
    ),
)
def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write; one that exists is kept.")] = Path(
        "resilience.yaml"
    ),
) -> None:
    """Write a first file with comments, and the schema for editors beside it; a folder that is missing is made."""
    with telling():
        raise typer.Exit(starting.init(file))


@app.command(
    short_help="Print the JSON Schema, for editors.",
    epilog=_examples(
        "aioresilience schema > resilience.schema.json",
    ),
)
def schema(
    write: Annotated[
        bool, typer.Option("--write", help="Write schemas/resilience.schema.json of this checkout instead.")
    ] = False,
) -> None:
    """Print the JSON Schema of the file, for editors."""
    text = schema_text(BUILTIN)
    if not write:
        sys.stdout.write(text)
        return
    path = resource("schemas", "resilience.schema.json")
    with telling():
        if path.parent.parent.name == "_data":
            raise Trouble("this is no checkout of the library: write aioresilience schema > resilience.schema.json")
        path.write_text(text, encoding="utf-8")
    say(f"wrote {os.path.relpath(path)}")


@app.command(short_help="See all of it live, in 15 seconds.")
def demo() -> None:
    """Run a service under a YAML file for 15 seconds: faults on purpose, a broken edit, a hot reload."""
    raise typer.Exit(demonstration.run())


def _other_word(ctx: typer.Context) -> None:
    """Point from another tool's word to the command that does it here."""
    meant = OTHER_WORDS.get(ctx.info_name or "", "check")
    with telling():
        raise Trouble(f"there is no command {ctx.info_name}: it is called {meant}, as in aioresilience {meant} --help")


for _word in OTHER_WORDS:
    _free = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
    app.command(_word, hidden=True, context_settings=_free)(_other_word)
