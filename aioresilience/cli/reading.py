"""What stands on the command line for files, and reading them as an ops repository can: without the service."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from aioresilience.cli.console import say
from aioresilience.config import AnySource, ConfigError, Document, FileSource, TextSource, load
from aioresilience.config.process import PREFIX, process_settings
from aioresilience.policy import BUILTIN

STDIN: Final = "-"
FINE, ERRORS, TROUBLE, LINT_ERRORS = 0, 1, 2, 3
"""Exit codes; TROUBLE is usage or I/O."""


class Trouble(Exception):
    """What keeps a command from its work: a file that cannot be read, a policy that does not exist."""


def split(given: str) -> list[str]:
    """Return the files that one argument names, low to high: joined as in PATH, unless such a file exists."""
    return [given] if os.path.exists(given) else [one for one in given.split(os.pathsep) if one]


def read(
    files: Sequence[str],
    environment: str | None = None,
    *,
    variables: bool = True,
    environ: Mapping[str, str] = os.environ,
) -> Document:
    """Read files, `-` is standard input; unless `variables`, those that patch policies are left out."""
    seen = environ if variables else {key: one for key, one in environ.items() if not key.startswith(PREFIX)}
    process = process_settings(environ)
    root = process.root or (Path.cwd() if STDIN in files else None)
    document = load(
        [_source(file) for file in files], patterns=BUILTIN, environ=seen, environment=environment, root=root,
        max_bytes=process.max_bytes, in_service=False,
    )  # fmt: skip
    if environment and not environments(document):
        say(
            f"aioresilience: {', '.join(files)}: there are no environments, so -e {environment} changes nothing",
            err=True,
        )
    return document


def _source(file: str) -> AnySource:
    return TextSource(_stdin(), "<stdin>") if file == STDIN else FileSource(Path(file))


@cache
def _stdin() -> bytes:
    """Read standard input, once: a command may read its files several times."""
    return sys.stdin.buffer.read()


def environments(document: Document) -> list[str]:
    """Return the names of the overlays that a document holds."""
    overlays = document.tree.get("environments")
    return list(overlays) if isinstance(overlays, dict) else []


def unreadable(error: ConfigError) -> bool:
    """Tell whether a file itself could not be read."""
    return any(one.id == "AR101" for one in error.diagnostics)
