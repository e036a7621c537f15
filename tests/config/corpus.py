"""The corpus of files: `bad` ones beside the exact text that they give, `good` ones that give none.

Beside `bad/name.yaml` may stand `name.env`, variables of the process; `name.before.yaml`, what a registry holds when
`name.yaml` is applied; and `name.py`, code that names policies. `python -m tests.config.corpus` writes missing texts.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from aioresilience import Registry
from aioresilience.config import ConfigError, Document, FileSource, load
from aioresilience.config.lint import compare_code, uses_in
from aioresilience.config.process import process_settings
from aioresilience.policy import BUILTIN

HERE = Path(__file__).parent
NOW = 1_800_000_000.0
BAD = sorted(path for path in (HERE / "bad").glob("*.yaml") if not path.stem.endswith(".before"))
GOOD = sorted((HERE / "good").glob("*.yaml"))


def environ_of(path: Path) -> dict[str, str]:
    """Return the variables that a file is read under."""
    beside = path.with_suffix(".env")
    lines = beside.read_text("utf-8").splitlines() if beside.exists() else ["AIORESILIENCE_SERVICE=checkout"]
    return dict(line.split("=", 1) for line in lines)


def read(path: Path) -> Document:
    """Load a file of the corpus, from its own folder; lint is for people outside of the service."""
    environ = environ_of(path)
    process = process_settings(environ)
    return load(
        FileSource(path.name), patterns=BUILTIN, environ=environ, environment=process.environment, now=NOW,
        max_bytes=process.max_bytes, strict=process.strict, in_service=not path.name.startswith("ar4"),
    )  # fmt: skip


def findings(path: Path) -> ConfigError:
    """Return everything that is found in a file; run in its folder."""
    if path.with_suffix(".before.yaml").exists():
        return refused_reload(path)
    try:
        document = read(path)
    except ConfigError as error:
        return error
    code = Path(path.with_suffix(".py").name)
    compared = compare_code(document, uses_in(code)) if code.exists() else ()
    return ConfigError((*document.findings, *compared))


def refused_reload(path: Path) -> ConfigError:
    """Put a file in the place of the one before it, and return why a registry refuses it."""
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            shutil.copy(path.with_suffix(".before.yaml"), path.name)
            registry = Registry.from_file(path.name, environ={})
            shutil.copy(path, path.name)
            return ConfigError(registry.reload().diagnostics)
        finally:
            os.chdir(here)


def text_of(path: Path) -> str:
    """Return where the text of a bad file stands."""
    return path.with_suffix(".txt").read_text(encoding="utf-8")


if __name__ == "__main__":
    os.chdir(HERE / "bad")
    for bad in BAD:
        if not bad.with_suffix(".txt").exists():
            bad.with_suffix(".txt").write_text(f"{findings(bad)}\n", encoding="utf-8")
            print(f"== {bad.name}\n{bad.with_suffix('.txt').read_text('utf-8')}")
