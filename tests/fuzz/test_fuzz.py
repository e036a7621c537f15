"""The reader against accidents: a short run of what `python -m tests.fuzz 10` does for ten minutes."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st
from yaml import safe_dump

from aioresilience.policy import BUILTIN
from tests.fuzz.inputs import FILES, WORDS, accident, check, signs

SEEDS = st.integers(0, 2**64 - 1)
KEYS = st.sampled_from([*WORDS, *(pattern.key for pattern in BUILTIN), "value", "budget", "rate", "status"])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 10**12), st.floats(), st.text(max_size=12),
    st.sampled_from(["2s", "50%", "5/second", "full", "a", "t", "*", "502-504", "${X}", "2026-12-01T00:00:00Z"]),
)  # fmt: skip
NODES = st.recursive(SCALARS, lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=4))
DOCUMENTS = st.dictionaries(KEYS, NODES, max_size=5)


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_a_file_that_had_an_accident_is_refused_or_read(seed):
    check(accident(random.Random(seed)))


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_any_signs_of_yaml_are_refused_or_read(seed):
    check(signs(random.Random(seed)), in_service=False)


@settings(max_examples=150, deadline=None)
@given(DOCUMENTS)
def test_any_document_is_refused_or_read(document):
    check(safe_dump({"version": 1, "policies": {"a": document}, **document}, allow_unicode=True).encode())


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_refused_or_read(data):
    check(data)
    check(b"version: 1\nx-a: " + data)


@pytest.mark.parametrize("data", FILES[:: max(1, len(FILES) // 40)])
def test_files_of_the_corpus_hold_what_is_checked(data):
    check(data)


def test_the_long_run_runs():
    command = [sys.executable, "-m", "tests.fuzz", "0.02", "accidents"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "each gave a document or a readable ConfigError" in done.stdout
