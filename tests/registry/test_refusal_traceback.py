"""What a refused file shows where nobody catches it."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from aioresilience import configure
from aioresilience.config import ConfigError


def test_a_refusal_shows_the_way_in_and_nothing_of_how_files_are_read(tmp_path: Path):
    path = tmp_path / "resilience.yaml"
    path.write_text("version: 1\npolicies: {a: {timeuot: 2s}}\n")
    with pytest.raises(ConfigError) as refused:
        configure(path)
    files = [Path(frame.filename).name for frame in traceback.extract_tb(refused.value.__traceback__)]
    assert files[1:] == ["default.py", "registry.py", "registry.py", "registry.py"]
    assert refused.value.__cause__ is None
