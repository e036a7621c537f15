"""check: what it finds, how it says so, how it exits."""

from __future__ import annotations

import json
import re

import pytest
from jsonschema import Draft7Validator

FINE = "policies: {a: {timeout: 2s}}"
WARNED = "policies: {a: {timeout: 2}}"
LINT_ERROR = "policies: {a: {timeout: 3s, deadline: 2s}}"
REFUSED = "policies: {a: {timeuot: 2s}}"


@pytest.mark.parametrize(
    ("text", "words", "code"),
    [
        (FINE, [], 0),
        (WARNED, [], 0),
        (WARNED, ["--strict"], 3),
        (LINT_ERROR, [], 3),
        (REFUSED, [], 1),
        (f"{REFUSED}\nx-a: {{}}", ["--strict"], 1),
        (f"{FINE}\nenvironments: {{live: {{policies: {{a: {{timeout: 9s, deadline: 2s}}}}}}}}", [], 3),
        (f"{FINE}\nenvironments: {{live: {{policies: {{a: {{timeout: 9s, deadline: 2s}}}}}}}}", ["-e", "live"], 3),
        (f"{FINE}\nenvironments: {{live: {{policies: {{a: {{order: []}}}}}}}}", [], 1),
        (FINE, ["-e", "nope"], 0),
        (f"{FINE}\nenvironments: {{live: {{}}}}", ["-e", "nope"], 1),
        (FINE, ["--code", "nowhere"], 2),
        (FINE, ["--format", "nothing"], 2),
        (FINE, ["nope.yaml"], 2),
        (FINE, ["."], 2),
        (REFUSED, ["nope.yaml"], 2),
        ("", [], 0),
    ],
)
def test_the_exit_code_says_how_it_ended(run, write, text, words, code):
    result = run("check", write(text), *words)
    assert result.exit_code == code, result.output


def test_without_a_file_it_says_how_to_use_it(run):
    result = run("check")
    assert result.exit_code == 2
    assert "FILE" in result.output


def test_everything_is_found_in_one_run_and_counted(run, write):
    write("policies:\n  a: {retyr: 3}\n  b: {timeout: soon}\n", "one.yaml")
    result = run("check", "one.yaml", "nope.yaml")
    assert re.findall(r"error (AR\d+)", result.output) == ["AR101", "AR201", "AR205"]
    assert result.output.splitlines()[-1] == "refused: 3 errors"


def test_a_finding_that_several_environments_share_is_told_once(run, write):
    write(f"{WARNED}\nenvironments: {{x: {{}}, y: {{policies: {{a: {{deadline: 3}}}}}}}}")
    result = run("check", "resilience.yaml")
    assert result.output.count("AR412") == 2
    assert "1 policy in 1 file, 2 environments" in result.output


def test_a_finding_of_one_environment_says_which(run, write):
    write(f"{FINE}\nenvironments: {{live: {{policies: {{a: {{deadline: 1s}}}}}}}}")
    assert run("check", "resilience.yaml").output.splitlines()[3] == "      = in the environment live"


def test_one_place_is_told_once_with_the_environments_and_what_is_said_there(run, write):
    bounds = {"x": "2s", "y": "2s", "z": "1s"}
    overlays = ", ".join(f"{name}: {{policies: {{a: {{deadline: {bound}}}}}}}" for name, bound in bounds.items())
    write(f"policies: {{a: {{timeout: 9s}}}}\nenvironments: {{{overlays}}}")
    lines = run("check", "resilience.yaml").output.splitlines()
    said = "a timeout of 9s never fires under a deadline of"
    assert [line for line in lines if "AR401" in line or " = " in line] == [
        f"resilience.yaml:2:25: error AR401 policies.a.timeout.timeout: {said} 2s",
        "      = in the environments x, y",
        f"      = in the environment z: {said} 1s",
    ]
    assert lines[-1].endswith("; 1 error")


def test_every_broken_environment_is_told_though_the_file_itself_is_broken(run, write):
    overlays = "environments: {x: {policies: {a: {order: [retry]}}}, y: {policies: {a: {order: [bulkhead]}}}}"
    write(f"policies: {{a: {{timeout: 2s}}, b: {{timeuot: 2s}}}}\n{overlays}")
    result = run("check", "resilience.yaml")
    assert re.findall(r"error (AR\d+)", result.output) == ["AR201", "AR316", "AR316"]
    assert [name for name in ("x", "y") if f"in the environment {name}" in result.output] == ["x", "y"]


def test_later_files_lie_over_earlier_ones(run, write):
    write(FINE, "low.yaml")
    write("policies: {a: {deadline: 1s}}", "high.yaml")
    assert run("check", "low.yaml", "high.yaml").exit_code == 3


def test_a_file_comes_by_standard_input_with_its_includes(run, write):
    write("templates: {t: {timeout: 2s}}", "common.yaml")
    text = "version: 1\ninclude: [common.yaml]\npolicies: {a: {extends: t}}\n"
    result = run("check", "-", input=text)
    assert (result.exit_code, "1 policy" in result.output) == (0, True), result.output
    assert "<stdin>:1:1" in run("check", "-", input="x: 1\n").output


def test_variables_count_as_in_a_service_and_stale_ones_are_errors(run, write):
    write('policies: {a: {timeout: "${T}"}}')
    assert "AR308" in run("check", "resilience.yaml").output
    assert run("check", "resilience.yaml", env={"T": "2s"}).output.startswith("fine")
    assert "not a duration" in run("check", "resilience.yaml", env={"T": "soon"}).output
    stale = run("check", "resilience.yaml", env={"T": "2s", "AIORESILIENCE_POLICIES__B__TIMEOUT": "3s"})
    assert (stale.exit_code, "AR315" in stale.output) == (1, True)


def test_the_settings_of_the_process_count(run, write):
    write("include: [../common.yaml]", "ops/r.yaml")
    write("policies: {}", "common.yaml")
    assert "AR310" in run("check", "ops/r.yaml").output
    assert run("check", "ops/r.yaml", env={"AIORESILIENCE_ROOT": "."}).exit_code == 0
    assert "AR102" in run("check", "ops/r.yaml", env={"AIORESILIENCE_MAX_BYTES": "9"}).output
    assert "AR323" in run("check", "ops/r.yaml", env={"AIORESILIENCE_MAX_BYTES": "some"}).output


def test_the_environment_that_the_process_asks_for_is_checked_too(run, write):
    write("policies: {a: {timeout: 2s}}\nenvironments: {staging: {policies: {a: {timeout: 3s}}}}")
    assert run("check", "resilience.yaml", env={"AIORESILIENCE_ENVIRONMENT": "staging"}).exit_code == 0
    result = run("check", "resilience.yaml", env={"AIORESILIENCE_ENVIRONMENT": "stagign"})
    assert (result.exit_code, "AR313" in result.output) == (1, True)


def test_what_is_wrong_in_an_overlay_is_told_once(run, write):
    write("policies: {a: {timeout: 2s}}\nenvironments: {prod: {policies: {a: {timeout: 1x, retry: {tries: 3}}}}}")
    output = run("check", "resilience.yaml").output
    assert "refused: 2 errors" in output
    assert output.count("environments.prod.policies.a") == 2


def test_names_in_code_are_compared(run, write):
    write('@resilient("b")\ndef f(): ...\n'.replace("version: 1\n", ""), "src/service.py")
    result = run("check", write(FINE), "--code", "src", "--strict")
    assert result.exit_code == 3
    assert {"AR416", "AR417"} <= set(re.findall(r"AR\d+", result.output))


def test_json_is_a_list_of_objects(run, write):
    rows = json.loads(run("check", write(WARNED), "--format", "json").stdout)
    assert rows == [
        {
            "id": "AR412", "severity": "warning", "file": "resilience.yaml", "line": 2, "column": 25,
            "path": "policies.a.timeout.timeout", "message": "2 without a unit means seconds", "hint": "write 2s",
        }
    ]  # fmt: skip
    assert json.loads(run("check", write(FINE), "--format", "json").stdout) == []


def test_github_shows_findings_beside_their_lines(run, write):
    shown = run("check", write(WARNED, "a,b.yaml"), "--format", "github").stdout
    said = "policies.a.timeout.timeout: 2 without a unit means seconds; write 2s"
    assert shown == f"::warning file=a%2Cb.yaml,line=2,col=25,title=AR412::{said}\n"


@pytest.mark.parametrize("form", ["text", "json", "sarif", "github"])
def test_no_format_shows_a_secret(run, write, form):
    write('backends: {m: {type: redis, url: "redis://:hunter2@h/0", fleet_size: hunter2}}')
    result = run("check", "resilience.yaml", "--format", form)
    assert result.exit_code == 1
    write('backends: {m: {type: redis, url: "${U}", fleet_size: "${U}"}}')
    shown = run("check", "resilience.yaml", "--format", form, env={"U": "sesame-1"})
    assert (shown.exit_code, "sesame-1" in shown.output) == (1, False), shown.output


REGION = ("startLine", "startColumn", "endColumn")
URI = r"^[!#$%&'()*+,./:;=?@\[\]_~0-9A-Za-z-]+$"
# The parts of the SARIF 2.1.0 schema that a log of ours can use, as the standard words them.
SARIF = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"enum": ["2.1.0"]},
        "runs": {"type": "array", "minItems": 1, "items": {"$ref": "#/definitions/run"}},
    },
    "additionalProperties": False,
    "definitions": {
        "run": {
            "type": "object",
            "required": ["tool"],
            "properties": {
                "tool": {
                    "type": "object",
                    "required": ["driver"],
                    "additionalProperties": False,
                    "properties": {"driver": {"$ref": "#/definitions/driver"}},
                },
                "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                "results": {"type": "array", "items": {"$ref": "#/definitions/result"}},
            },
            "additionalProperties": False,
        },
        "driver": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string"},
                "version": {"type": "string"},
                "rules": {"type": "array", "uniqueItems": True, "items": {"$ref": "#/definitions/rule"}},
            },
            "additionalProperties": False,
        },
        "message": {
            "type": "object",
            "required": ["text"],
            "properties": {"text": {"type": "string"}},
            "additionalProperties": False,
        },
        "rule": {
            "type": "object",
            "required": ["id"],
            "properties": {
                "id": {"type": "string"},
                "shortDescription": {"$ref": "#/definitions/message"},
                "fullDescription": {"$ref": "#/definitions/message"},
                "help": {"$ref": "#/definitions/message"},
                "defaultConfiguration": {
                    "type": "object",
                    "properties": {"level": {"enum": ["none", "note", "warning", "error"]}},
                    "additionalProperties": False,
                },
            },
            "additionalProperties": False,
        },
        "result": {
            "type": "object",
            "required": ["message"],
            "properties": {
                "ruleId": {"type": "string"},
                "ruleIndex": {"type": "integer", "minimum": -1},
                "level": {"enum": ["none", "note", "warning", "error"]},
                "message": {"$ref": "#/definitions/message"},
                "locations": {"type": "array", "items": {"$ref": "#/definitions/location"}},
            },
            "additionalProperties": False,
        },
        "location": {
            "type": "object",
            "properties": {
                "physicalLocation": {
                    "type": "object",
                    "required": ["artifactLocation"],
                    "properties": {
                        "artifactLocation": {
                            "type": "object",
                            "properties": {"uri": {"type": "string", "pattern": URI}},
                            "additionalProperties": False,
                        },
                        "region": {
                            "type": "object",
                            "properties": {one: {"type": "integer", "minimum": 1} for one in REGION},
                            "additionalProperties": False,
                        },
                    },
                    "additionalProperties": False,
                }
            },
            "additionalProperties": False,
        },
    },
}  # fmt: skip


@pytest.mark.parametrize("text", [FINE, WARNED, LINT_ERROR, REFUSED, "policies: {a: {retyr: 1, fallback: {call: f}}}"])
def test_sarif_is_sarif(run, write, text):
    log = json.loads(run("check", write(text, "with space.yaml"), "nope.yaml", "--format", "sarif").stdout)
    Draft7Validator(SARIF).validate(log)
    [one] = log["runs"]
    rules = [rule["id"] for rule in one["tool"]["driver"]["rules"]]
    assert [rules[result["ruleIndex"]] for result in one["results"]] == [result["ruleId"] for result in one["results"]]


def test_sarif_says_where_and_what(run, write):
    [one] = json.loads(run("check", write(WARNED), "--format", "sarif").stdout)["runs"]
    [result] = one["results"]
    assert result["level"] == "warning"
    assert result["message"]["text"] == "policies.a.timeout.timeout: 2 without a unit means seconds; write 2s"
    where = result["locations"][0]["physicalLocation"]
    assert where["artifactLocation"] == {"uri": "resilience.yaml"}
    assert where["region"] == {"startLine": 2, "startColumn": 25, "endColumn": 26}


@pytest.mark.parametrize(
    ("env", "coloured"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ({"NO_COLOR": "1"}, False),
    ],
)
def test_colours_are_for_terminals_unless_told(run, write, env, coloured):
    clean = {"NO_COLOR": "", "FORCE_COLOR": "", **env}
    assert ("\x1b[" in run("check", write(WARNED), env=clean, color=True).output) is coloured
