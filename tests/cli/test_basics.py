"""The command line by its real entry: what it prints and how it exits."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from aioresilience import cli
from aioresilience.cli.app import app

GOOD = """version: 1
templates:
  base: {timeout: 2s, deadline: 10s}
policies:
  payments:
    extends: base
    about: {description: Card authorisation, owner: team-pay, runbook: "https://example.invalid/psp"}
    idempotent: true
    timeout: 1s
    retry: {max_attempts: 3, max_delay: 1s}
    bulkhead: {max_concurrent: 5, max_waiting: 10, timeout: 100ms}
    fallback: {value: later}
  payments.eu: {timeout: 3s}
  free: {bulkhead: 5}
"""
BAD = "version: 1\npolicies:\n  a: {retyr: 3}\n  b: {timeout: soon}\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "resilience.yaml"
    path.write_text(GOOD)
    return path


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_good_file_is_fine(file):
    result = run("check", file)
    assert result.exit_code == 0
    assert "3 policies in 1 file" in result.output


def test_a_bad_file_exits_1_with_every_error(file):
    file.write_text(BAD)
    result = run("check", file)
    assert result.exit_code == 1
    assert "did you mean 'retry'?" in result.output
    assert result.output.count(": error AR") == 2


def test_a_missing_file_exits_2(file):
    result = run("check", file.parent / "nope.yaml")
    assert result.exit_code == 2
    assert "no such file" in result.output


def test_json_is_json(file):
    file.write_text(BAD)
    rows = json.loads(run("check", file, "--format", "json").output)
    assert [(row["line"], row["severity"]) for row in rows] == [(3, "error"), (4, "error")]


def test_explain_shows_the_effective_policy(file):
    output = run("explain", file, "payments").output
    assert "order: fallback → deadline → retry → bulkhead → timeout → call" in output
    assert "3 attempts" in output
    assert "10s per call" in output
    assert "owner: team-pay" in output
    assert "resilience.yaml:10" in output


def test_explain_adds_up_what_no_deadline_bounds(file):
    assert "3s per call" in run("explain", file, "payments.eu").output
    assert "no bound in time" in run("explain", file, "free").output


def test_explain_shows_where_a_value_comes_from(file):
    output = run("explain", file, "payments.timeout.timeout").output
    assert "resilience.yaml:9" in output
    assert "default" in run("explain", file, "payments.retry.backoff_multiplier").output


def test_explain_takes_the_longest_name_that_fits(file):
    assert "policy payments.eu" in run("explain", file, "payments.eu").output


@pytest.mark.parametrize("target", ["nope", "payments.nope", "payments.retry.nope"])
def test_explain_of_nothing_exits_2(file, target):
    result = run("explain", file, target)
    assert result.exit_code == 2
    assert "nope" in result.output


def test_explain_of_a_bad_or_missing_file_says_so(file):
    file.write_text(BAD)
    assert run("explain", file, "a").exit_code == 1
    assert run("explain", file.parent / "nope.yaml", "a").exit_code == 2


def test_the_schema_is_printed_and_is_the_one_in_the_tree():
    from aioresilience.resources import resource

    output = run("schema").output
    assert json.loads(output) == json.loads(resource("schemas", "resilience.schema.json").read_text())


def test_without_the_extra_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(cli, "missing", "typer")
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert "aioresilience[cli]" in capsys.readouterr().err


def test_the_module_runs_as_the_console_script_does(file):
    done = subprocess.run(
        [sys.executable, "-m", "aioresilience", "check", str(file)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "fine" in done.stdout
