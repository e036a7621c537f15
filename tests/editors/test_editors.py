"""What an editor does with a file: a real YAML language server, set up as docs/editors.md says."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from aioresilience.config import json_schema, schema_text
from aioresilience.config.reading import read_tree
from aioresilience.policy import BUILTIN
from tests.editors.language_server import LanguageServer

DOCS = (Path(__file__).parents[2] / "docs" / "editors.md").read_text(encoding="utf-8")
CORPUS = Path(__file__).parents[1] / "config"
VALIDATOR = Draft7Validator(json_schema(BUILTIN))


def snippet(name: str) -> str:
    """Return the block of docs/editors.md that is a file of that name."""
    found = re.search(rf"^`{re.escape(name)}`:\n\n```\w+\n(.*?)^```$", DOCS, re.M | re.S)
    assert found, name
    return found[1]


def settings() -> dict[str, Any]:
    return json.loads(snippet(".vscode/settings.json"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanguageServer]:
    folder = tmp_path_factory.mktemp("ops")
    (folder / "resilience.schema.json").write_text(schema_text(BUILTIN), encoding="utf-8")
    server = LanguageServer(folder, settings())
    yield server
    server.stop()


def test_helix_and_neovim_are_set_up_like_vs_code():
    helix = tomllib.loads(snippet("languages.toml"))["language-server"]["yaml-language-server"]["config"]["yaml"]
    [schema] = settings()["yaml.schemas"]
    assert helix == {"schemas": {schema: "resilience*.yaml"}, "schemaStore": {"enable": False}}
    assert f'schemas = {{ ["{schema}"] = "resilience*.yaml" }}' in snippet("init.lua")
    assert "schemaStore = { enable = false" in snippet("init.lua")


YAML_ALONE = {
    "AR105": "an escape that stands for half a character",
    "AR107": "the braces of an unrendered template are a YAML block",
    "AR110": "keys that are no strings",
    "AR111": "merge keys are plain keys in YAML 1.2",
    "AR112": "a tag that it knows",
    "AR113": "how deep a document may be",
    "AR115": "an alias inside its own anchor",
    "AR117": "several documents",
    "AR118": "an empty document",
    "AR120": "a file that says YAML 1.1",
    "AR121": "how long a number may be",
}
"""What the server, unlike our reader, takes for good YAML, by the reader's diagnostic."""


STILL_TYPED = {"people-no-space-in-braces"}
"""Files with a key in braces that has no value, which the server takes for one that somebody is typing."""


def readable(path: Path) -> str | None:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError:
        return None  # an editor shows such a file as something else


def test_server_and_schema_judge_the_whole_corpus_alike(server):
    texts = {path: text for path in sorted(CORPUS.glob("*/*.yaml")) if (text := readable(path)) is not None}
    differing = set()
    for path, found in zip(texts, server.diagnose_all(texts.values()), strict=True):
        reading = read_tree(path.read_bytes())
        if ids := {one.id for one in reading.diagnostics}:
            assert found or ids & YAML_ALONE.keys(), path.stem
            differing |= set() if found else ids
        else:
            alike = bool(found) is not VALIDATOR.is_valid(reading.root)
            assert alike is not (path.stem in STILL_TYPED), (path.stem, found)
    assert set(YAML_ALONE) <= differing, "these are no difference any more"


INSIDE = "version: 1\npolicies:\n  payments:\n"


@pytest.mark.parametrize(
    ("marked", "offered"),
    [
        pytest.param(
            f"{INSIDE}    |\n", {"timeout", "retry", "extends", "about", "mode"}, id="patterns in a new policy"
        ),
        pytest.param(f"{INSIDE}    timeout: 2s\n    |\n", {"retry", "bulkhead"}, id="patterns in a policy"),
        pytest.param(f"{INSIDE}    retry:\n      |\n", {"max_attempts", "jitter", "use"}, id="fields of a new pattern"),
        pytest.param(f"{INSIDE}    retry:\n      jitter: full\n      |\n", {"max_attempts"}, id="fields of a pattern"),
        pytest.param(f"{INSIDE}    retry: {{max|}}\n", {"max_attempts", "max_delay"}, id="fields in braces"),
        pytest.param(f"{INSIDE}    retry:\n      strategy: |\n", {"constant", "linear", "exponential"}, id="choices"),
        pytest.param(f"{INSIDE}    mode: |\n", {"enforce", "observe", "off"}, id="modes"),
        pytest.param(f"{INSIDE}    rate_limiter: |\n", {"100/second", "rate_limiter block"}, id="a rate, or a block"),
        pytest.param(f"{INSIDE}    timeout: |\n", {"500ms", "2s"}, id="durations"),
        pytest.param(f"{INSIDE}    about:\n      |\n", {"owner", "runbook", "description"}, id="fields of about"),
        pytest.param("version: 1\n|\n", {"policies", "templates", "include", "defaults"}, id="sections"),
        pytest.param("version: 1\ntemplates:\n  psp:\n    |\n", {"timeout", "extends"}, id="patterns in a template"),
        pytest.param("version: 1\noverrides:\n  - |\n", {"policy", "expires", "reason", "by"}, id="an override"),
        pytest.param(
            "version: 1\nenvironments:\n  live:\n    policies:\n      payments:\n        |\n",
            {"timeout"},
            id="an overlay",
        ),
    ],
)
def test_completion_offers(server, marked, offered):
    labels = server.completions(marked)
    assert offered <= labels.keys(), sorted(labels)


def test_completion_leaves_out_what_is_there(server):
    assert "timeout" not in server.completions(f"{INSIDE}    timeout: 2s\n    |\n")


def test_a_completed_snippet_is_a_whole_policy(server):
    item = server.completions("version: 1\npolicies:\n  |\n")["policy"]
    assert "extends" in str(item)


@pytest.mark.parametrize(
    ("marked", "shown"),
    [
        (f"{INSIDE}    retry:\n      |max_delay: 2s\n", ["Longest delay", "A duration, such as", "Default: `2s`"]),
        (f"{INSIDE}    retry:\n      |jitter: full\n", ["Randomness of the delay", "Default: `full`"]),
        (f"{INSIDE}    retry:\n      |strategy: linear\n", ["Allowed Values", "`linear`: Each delay is longer by"]),
        (f"{INSIDE}    |timeout: 2s\n", ["Longest time of one attempt", "Default: `30s`"]),
        (f"{INSIDE}    |circuit_breaker: {{window: 30s}}\n", ["When a circuit opens"]),
        (f"{INSIDE}    circuit_breaker: {{|failure_rate: 50%}}\n", ["Share of failures", "Default: `50%`"]),
        (f"{INSIDE}    about: {{|owner: team-pay}}\n", ["Who answers for it"]),
        (f"{INSIDE}    |mode: observe\n", ["How the rejecting patterns act", "Decide and report, never act."]),
        ("version: 1\n|templates: {}\n", ["Blocks to build policies on"]),
        ("version: 1\nsettings: {|on_removed: keep}\n", ["A reload that removes a policy is refused."]),
    ],
)
def test_hover_shows(server, marked, shown):
    text = server.hover(marked)
    assert [part for part in shown if part not in text] == [], text


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        pytest.param(f"{INSIDE}    retyr: 3\n", 3, "retyr is not allowed", id="an unknown pattern"),
        pytest.param(
            f"{INSIDE}    retry: {{max_atempts: 3}}\n", 3, "max_atempts is not allowed", id="an unknown field"
        ),
        pytest.param("version: 1\npolices: {}\n", 1, "polices is not allowed", id="an unknown section"),
        pytest.param("policies: {}\n", 0, 'Missing property "version"', id="a missing field"),
        pytest.param(f"{INSIDE}    timeout: 2 s\n", 3, "expected a duration, such as 500ms", id="no duration"),
        pytest.param(f"{INSIDE}    timeout: 0s\n", 3, "expected a duration", id="a duration of nothing"),
        pytest.param(f"{INSIDE}    rate_limiter: 100/s\n", 3, "expected a rate per second", id="no rate"),
        pytest.param(f"{INSIDE}    circuit_breaker: {{failure_rate: 5}}\n", 3, "maximum", id="no percentage"),
        pytest.param(
            f"{INSIDE}    circuit_breaker: {{failure_rate: 120%}}\n", 3, "expected a percentage", id="above 100%"
        ),
        pytest.param(f"{INSIDE}    retry: {{max_attempts: 0}}\n", 3, "minimum", id="out of range"),
        pytest.param(f"{INSIDE}    retry: {{strategy: fast}}\n", 3, 'Valid values: "constant"', id="no such choice"),
        pytest.param(f"{INSIDE}    retry: {{max_attempts: [3]}}\n", 3, "Incorrect type", id="another type"),
        pytest.param(f"{INSIDE}    bulkhead: {{use: pool, max_waiting: 3}}\n", 3, "Incorrect type", id="beside use"),
        pytest.param(f"{INSIDE}    order: [retry, retry]\n", 3, "duplicate", id="twice in order"),
        pytest.param("version: 2\n", 0, "Valid values: 1", id="another version"),
        pytest.param("version: 1\npolicies: {Pay: {}}\n", 1, "expected a name of lower-case", id="a malformed name"),
        pytest.param(f"{INSIDE}    timeout: 2s\n    timeout: 3s\n", 4, "unique", id="a key twice"),
    ],
)
def test_a_mistake_is_underlined(server, text, line, message):
    found = server.diagnose(text)
    assert [(one["range"]["start"]["line"], message in one["message"]) for one in found][:1] == [(line, True)], found


def test_a_fine_file_is_left_alone(server):
    assert server.diagnose(snippet("resilience.yaml")) == []


def test_the_line_in_the_file_is_enough(tmp_path):
    """The schema comes by the first line, with no settings at all, and nothing is asked of the network."""
    (tmp_path / "resilience.schema.json").write_text(schema_text(BUILTIN), encoding="utf-8")
    server = LanguageServer(tmp_path, {"yaml.schemaStore.enable": False})
    try:
        first = snippet("resilience.yaml").partition("\n")[0]
        assert server.diagnose(f"{first}\n{INSIDE}    retyr: 3\n")
        assert "retry" in server.completions(f"{first}\n{INSIDE}    |\n")
        assert server.diagnose(f"{INSIDE}    retyr: 3\n") == []
    finally:
        server.stop()
