"""The JSON Schema: what editors show, and that it judges a file as the reader does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from aioresilience.config import MappingSource, json_schema, load, schema_text, write_schema
from aioresilience.config.reading import read, read_tree
from aioresilience.config.schema_words import BLOCKS
from aioresilience.config.vocabulary import Vocabulary
from aioresilience.policy import BUILTIN
from aioresilience.resources import folder, resource
from tests.config.corpus import BAD, GOOD, findings

HERE = Path(__file__).parent
FINE = [*GOOD, *sorted((HERE / "bad").glob("*.before.yaml")), *sorted(folder("policies").glob("*.yaml"))]
SCHEMA = json_schema(BUILTIN)
VALIDATOR = Draft7Validator(SCHEMA)

ONLY_THE_READER_KNOWS = {
    "ar214-fallback-of-nothing": "a block may get what it lacks from a template",
    "ar202-rate": "a block may get what it lacks from a template",
    "ar202-rate-through-template": "a block may get what it lacks from a template",
    "ar204-not-finite": "JSON has no such numbers",
    "ar212-release": "the release that is installed",
    "ar212-malformed": "ranges of releases",
    "ar213-service": "the service that runs",
    "ar214-marks": "two fields against each other",
    "ar215-laid-over": "what lies below, through inheritance",
    "ar217-forms": "the inside of ${…}",
    "ar218-not-last": "the order of keys",
    "fields-contradict": "two fields against each other",
    "overlay-breaks-a-policy": "two fields of two layers against each other",
}
"""Files with a mistake of the document itself, AR2xx, that a schema cannot see; nor does it know what names lead to."""


def complaints(text: str) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(read(text))]


def test_the_schema_is_a_valid_draft_07():
    Draft7Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"


def test_the_file_in_schemas_is_the_one_that_the_models_give():
    written = resource("schemas", "resilience.schema.json").read_text(encoding="utf-8")
    assert written == schema_text(BUILTIN), "run: make schema"


def test_the_schema_is_the_same_every_time(tmp_path):
    write_schema(tmp_path / "new" / "s.json", BUILTIN)
    assert (tmp_path / "new" / "s.json").read_text(encoding="utf-8") == schema_text(BUILTIN)


@pytest.mark.parametrize("path", FINE, ids=lambda path: path.stem)
def test_a_good_file_fits_the_schema(path):
    assert [error.message for error in VALIDATOR.iter_errors(read(path.read_bytes()))] == []


def errors_of(path: Path) -> set[str]:
    return {one.id for one in findings(path).diagnostics if one.severity == "error"}


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_the_schema_refuses_what_the_model_refuses_and_nothing_else(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    reading = read_tree(path.read_bytes())
    if reading.root is None or reading.diagnostics:
        assert {one.id for one in reading.diagnostics} <= errors_of(path), "no file for a schema"
        return
    of_the_model = any(id.startswith("AR2") for id in errors_of(path))
    assert VALIDATOR.is_valid(reading.root) is (not of_the_model or path.stem in ONLY_THE_READER_KNOWS)


def test_every_allowed_difference_is_one():
    for stem in ONLY_THE_READER_KNOWS:
        assert VALIDATOR.is_valid(read((HERE / "bad" / f"{stem}.yaml").read_bytes())), stem


@pytest.mark.parametrize(
    "text",
    [
        "policies: {a: {timeout: null, retry: {max_attempts: null, budget: null}, order: null, mode: null}}",
        "policies: {a: {timeout: '${T}', idempotent: '${I}', retry: {max_attempts: '${N}', strategy: '${S:-linear}'}}}",
        "policies: {a: {rate_limiter: '${R}', bulkhead: '${B}', circuit_breaker: {failure_rate: '${F}'}}}",
        "settings: null\nmetadata: null\nservice: null\nbackends: null\ntemplates: null",
        "policies: {a: {rate_limiter: {rate: {permits: 300, per: 5m}}}}",
        "policies: {a: {circuit_breaker: {failure_rate: 100.00%}, retry: {budget: {ratio: 150%}}, timeout: 0m10s}}",
    ],
)
def test_null_and_interpolation_fit_wherever_the_reader_takes_them(text):
    assert complaints(f"version: 1\n{text}") == []


@pytest.mark.parametrize(
    "text",
    [
        "policies: {a: {timeout: soon}}",
        "policies: {a: {timeout: 0s}}",
        "policies: {a: {circuit_breaker: {failure_rate: 100.5%}}}",
        "policies: {a: {load_shedder: {cpu_threshold: 250%}}}",
        "policies: {a: {retry: {strategy: expo}}}",
        "policies: {a: {mode: {enforce: half}}}",
        "policies: {a: {bulkhead: {use: pool, max_waiting: 3}}}",
        "policies: {a: {order: [retry, retry]}}",
        "policies: {A: {}}",
        "overrides: [{policy: a, set: {}, expires: 2026-12-01T00:00:00Z, reason: null, by: x}]",
        "environments: {e: {version: 1}}",
        "environments: {e: {policies: {a: {timout: 1s}}}}",
    ],
)
def test_mistakes_are_refused(text):
    assert complaints(f"version: 1\n{text}")


def nodes(node: object, path: str = "") -> Iterator[tuple[str, dict]]:
    if isinstance(node, dict):
        yield path, node
        for key, value in node.items():
            yield from nodes(value, f"{path}/{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from nodes(value, f"{path}/{index}")


def test_every_field_is_described_with_markdown():
    for path, node in nodes(SCHEMA):
        for name, field in node.get("properties", {}).items() if isinstance(node.get("properties"), dict) else ():
            if not re.search(r"/(then|if|allOf/1)$", path) and not path.endswith("chain/items"):
                assert field.get("description"), f"{path}: {name}"
                assert field.get("markdownDescription"), f"{path}: {name}"


def test_no_editor_shows_a_pattern_to_anybody():
    """An `if` only asks, and what it is followed by says what is wrong."""
    texts = [(path, node) for path, node in nodes(SCHEMA) if isinstance(node.get("pattern"), str)]
    silent = [path for path, node in texts if "patternErrorMessage" not in node and not path.endswith("/if")]
    assert silent == []


def test_there_are_no_titles_and_no_one_of():
    assert [path for path, node in nodes(SCHEMA) if "oneOf" in node or isinstance(node.get("title"), str)] == []


def test_the_defaults_shown_are_those_of_a_file():
    retry = SCHEMA["definitions"]["retry"]["properties"]
    assert "Default: `100ms`" in retry["initial_delay"]["markdownDescription"]
    assert "Default: full." in retry["jitter"]["description"]


FIELDS = [
    (f"{key}.{name}", field)
    for key in sorted(Vocabulary(BUILTIN).types)
    for name, field in SCHEMA["definitions"][key]["properties"].items()
]


@pytest.mark.parametrize(("name", "field"), FIELDS, ids=[name for name, _ in FIELDS])
def test_a_field_of_a_pattern_says_its_default_and_what_to_write(name, field):
    assert re.search(r"\n\n(Default: .+|Required\.)$", field["markdownDescription"])
    if field.get("type") not in ("object",) and name.split(".")[1] != "use":
        offered = field.get("examples") or field.get("defaultSnippets")
        assert offered or re.search("[Aa] (whole )?number|[Tt]rue or false|Default: `", field["markdownDescription"])
    for example in field.get("examples", ()):
        assert Draft7Validator({**field, "definitions": SCHEMA["definitions"]}).is_valid(example), example


def test_every_choice_is_explained():
    for path, node in nodes(SCHEMA):
        if "enum" in node and node["enum"] not in ([1], [True], [True, None]) and not path.endswith("items/else"):
            assert len(node["enumDescriptions"]) == len(node["enum"]), path
            assert node["enumDescriptions"] == node["markdownEnumDescriptions"]


@pytest.mark.parametrize("key", BLOCKS)
def test_what_editors_insert_is_a_good_policy(key):
    assert Vocabulary(BUILTIN).types.keys() == BLOCKS.keys()
    for snippet in SCHEMA["definitions"]["policy"]["properties"][key]["defaultSnippets"]:
        document = {"version": 1, "policies": {"a": {key: snippet["body"]}}}
        assert load(MappingSource(document), patterns=BUILTIN).policies["a"].patterns
        assert VALIDATOR.is_valid(document)


def test_editors_are_offered_snippets():
    assert json.dumps(SCHEMA).count("defaultSnippets") >= 3
