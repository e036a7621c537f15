from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from aioresilience.cli import reading
from aioresilience.cli.app import app

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """Run the command line in this process; words that are no text are written as text."""

    def run(*words: object, **options: object) -> Result:
        reading._stdin.cache_clear()
        return CliRunner().invoke(app, [str(word) for word in words], **options)

    return run


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write a file in a folder of its own, which is the current one, and return its name."""
    monkeypatch.chdir(tmp_path)

    def write(text: str, name: str = "resilience.yaml") -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if text.startswith("version:") else f"version: 1\n{text}\n", encoding="utf-8")
        return path

    return write
