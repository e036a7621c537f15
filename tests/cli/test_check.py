import json

import pytest
from typer.testing import CliRunner

from aioresilience.cli.app import app


@pytest.mark.parametrize(
    ("text", "arguments", "code"),
    [
        ("policies: {a: {timeout: 2s}}", [], 0),
        ("policies: {a: {timeout: 2}}", [], 0),
        ("policies: {a: {timeout: 2}}", ["--strict"], 3),
        ("policies: {a: {timeout: 3s, deadline: 2s}}", [], 3),
        ("policies: {a: {timeuot: 2s}}", [], 1),
        ("policies: {a: {timeout: 2s}}\nenvironments: {live: {policies: {a: {timeout: 9s, deadline: 2s}}}}", [], 3),
        ("policies: {a: {timeout: 2s}}", ["--code", "nowhere"], 2),
        ("policies: {a: {timeout: 2s}}", ["--format", "nothing"], 2),
    ],
)
def test_the_exit_code_says_how_it_ended(tmp_path, text, arguments, code):
    file = tmp_path / "resilience.yaml"
    file.write_text(f"version: 1\n{text}\n")
    assert CliRunner().invoke(app, ["check", str(file), *arguments]).exit_code == code


def test_findings_can_be_read_by_machines(tmp_path):
    file = tmp_path / "resilience.yaml"
    file.write_text("version: 1\npolicies: {a: {timeout: 2}}\n")
    assert json.loads(CliRunner().invoke(app, ["check", str(file), "--format", "json"]).stdout)[0]["id"] == "AR412"
    shown = CliRunner().invoke(app, ["check", str(file), "--format", "github"]).stdout
    assert shown.startswith(f"::warning file={file},line=2,col=25,title=AR412::")
