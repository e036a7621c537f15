"""`aioresilience init`: a first file, with the schema beside it for editors."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from aioresilience.cli.console import say
from aioresilience.cli.reading import FINE, STDIN, Trouble
from aioresilience.config import schema_text
from aioresilience.policy import BUILTIN

STARTER: Final = Path(__file__).with_name("starter.yaml")
SCHEMA: Final = "resilience.schema.json"


def init(file: Path) -> int:
    """Write the starter file, and the schema where there is none; raises Trouble rather than overwrite."""
    if file == Path(STDIN):
        raise Trouble("- is standard input; name a file")
    if file.is_dir():
        raise Trouble(f"{file} is a folder; name a file in it")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise Trouble(f"{file.parent} is no folder; name a file in one") from None
    schema = file.with_name(SCHEMA)
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(STARTER.read_text(encoding="utf-8"))
    except FileExistsError:
        raise Trouble(f"{file} is there already; name another file, or delete it first") from None
    written = [file]
    if not schema.exists():
        schema.write_text(schema_text(BUILTIN), encoding="utf-8")
        written.append(schema)
    say(f"wrote {' and '.join(map(str, written))}")
    say(f"next: aioresilience check {file}")
    return FINE
