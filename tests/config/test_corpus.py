"""The corpus: every bad file gives exactly the text beside it, with libyaml and without; every good one loads."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import tracemalloc

import pytest

from aioresilience.config import CATALOGUE, ConfigError, Document, FileSource, TextSource, load, parsing
from aioresilience.policy import BUILTIN
from tests.config import corpus

OF_READING = tuple(path for path in corpus.BAD if path.name.startswith(("ar1", "reading-")))
OF_THE_DOCUMENT = tuple(path for path in corpus.BAD if path not in OF_READING)
ELSEWHERE = {
    "AR101": "names the absolute path that was looked for",
    "AR321": "a pattern that raises",
    "AR322": "a file system that hangs",
    "AR325": "a library that is not installed",
}
"""Ids that no file of the corpus gives, and why."""


WITHOUT_A_LINE = {"AR315", "AR318", "AR319", "AR320", "AR323", "AR324"}
"""Ids of what concerns a whole file, or a variable."""


@pytest.fixture(autouse=True)
def _in_the_folder(monkeypatch):
    monkeypatch.chdir(corpus.HERE / "bad")


@pytest.fixture(params=["libyaml", "pure"])
def parser(request, monkeypatch):
    if request.param == "pure":
        monkeypatch.setattr(parsing, "cyaml", None)
    return request.param


def test_the_corpus_is_large_enough():
    assert len(corpus.BAD) >= 120
    assert len(corpus.GOOD) >= 30


@pytest.mark.parametrize("path", OF_THE_DOCUMENT, ids=lambda path: path.stem)
def test_a_bad_file_gives_exactly_its_text(path):
    assert f"{corpus.findings(path)}\n" == corpus.text_of(path)


@pytest.mark.parametrize("path", corpus.BAD, ids=lambda path: path.stem)
def test_a_bad_file_gives_the_same_ids_at_the_same_lines_without_libyaml(path, monkeypatch):
    fast = [(one.id, one.line) for one in corpus.findings(path).diagnostics]
    monkeypatch.setattr(parsing, "cyaml", None)
    slow = [(one.id, one.line) for one in corpus.findings(path).diagnostics]
    assert fast
    assert slow == fast if path not in OF_READING else [one for one, _ in slow] == [one for one, _ in fast]


@pytest.mark.parametrize("path", corpus.BAD, ids=lambda path: path.stem)
def test_every_finding_says_where_what_and_how_to_mend_it(path):
    for one in corpus.findings(path).diagnostics:
        assert one.hint or one.id == "AR199", f"{one}"  # the last of many shows what stood there
        assert one.message
        assert one.line or one.id in WITHOUT_A_LINE, f"{one}"


def test_every_id_occurs_in_the_corpus():
    shown = "".join(map(corpus.text_of, corpus.BAD))
    assert {code for code in CATALOGUE if code not in shown} == set(ELSEWHERE)


@pytest.mark.parametrize("path", corpus.BAD, ids=lambda path: path.stem)
def test_a_bad_file_takes_little_time_and_memory(path):
    tracemalloc.start()
    begun = time.process_time()
    try:
        corpus.findings(path)
        assert time.process_time() - begun < 3  # a tenth; the collector may look through all that other tests hold
        assert tracemalloc.get_traced_memory()[1] < 100 * 2**20
    finally:
        tracemalloc.stop()


def good(path) -> Document:
    return load(FileSource(path), patterns=BUILTIN, now=corpus.NOW, environ=corpus.environ_of(path))


@pytest.mark.parametrize("path", corpus.GOOD, ids=lambda path: path.stem)
def test_a_good_file_loads_without_a_finding_but_lint(path, parser, monkeypatch):
    monkeypatch.chdir(path.parent)
    assert [one.id for one in good(path).findings if not one.id.startswith("AR4")] == []


@pytest.mark.parametrize("path", corpus.GOOD, ids=lambda path: path.stem)
def test_a_good_file_is_the_same_document_without_libyaml(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    fast = good(path)
    monkeypatch.setattr(parsing, "cyaml", None)
    slow = good(path)
    assert slow == fast
    assert slow.revision == fast.revision


@pytest.mark.parametrize("path", corpus.GOOD, ids=lambda path: path.stem)
def test_a_good_file_cut_off_anywhere_is_refused_or_read_and_nothing_else(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    data = path.read_bytes()
    for end in range(0, len(data), max(1, len(data) // 25)):
        with contextlib.suppress(ConfigError):
            load(TextSource(data[:end], "cut.yaml"), patterns=BUILTIN, environ={})


def test_where_libyaml_is_missing_the_pure_parser_takes_over():
    code = (
        "import sys; sys.modules['yaml._yaml'] = sys.modules['yaml.cyaml'] = None\n"
        "from aioresilience import Registry\n"
        "from aioresilience.config import parsing\n"
        "print(parsing.cyaml, *Registry.from_text('version: 1\\npolicies: {a: {timeout: 2s}}'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("None a\n", "")
