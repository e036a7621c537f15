"""The command line by its real entry: the extra that may be missing, the module, the schema, completion, pipes."""

from __future__ import annotations

import importlib
import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from aioresilience import cli
from aioresilience.cli.app import OTHER_WORDS
from aioresilience.config import ConfigError, FileSource, load
from aioresilience.config.reading import read
from aioresilience.policy import BUILTIN
from aioresilience.resources import resource

app_module = importlib.import_module("aioresilience.cli.app")  # the package's name for the typer app hides it
ROOT = Path(__file__).parents[2]
MODULE = [sys.executable, "-m", "aioresilience"]
FINE = "policies: {payments: {timeout: 2s}, payments.eu: {timeout: 3s}}\nenvironments: {live: {}, test: {}}"


def module(*words, **options):
    return subprocess.run([*MODULE, *map(str, words)], capture_output=True, text=True, timeout=60, **options)


def test_without_the_extra_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(cli, "missing", "typer")
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert "aioresilience[cli]" in capsys.readouterr().err


@pytest.mark.parametrize("absent", ["typer", "rich"])
def test_a_python_without_the_extra_gets_the_same_answer(absent):
    code = f"import sys; sys.modules[{absent!r}] = None; from aioresilience.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, "aioresilience[cli]" in done.stderr) == (2, True), done.stderr


def test_the_module_runs_as_the_console_script_does(write):
    done = module("check", write(FINE))
    assert (done.returncode, done.stdout.startswith("fine")) == (0, True), done.stderr
    assert (
        done.stdout
        == subprocess.run(
            [Path(sys.executable).with_name("aioresilience"), "check", "resilience.yaml"],
            capture_output=True,
            text=True,
        ).stdout
    )


def test_the_schema_is_printed_and_is_the_one_in_the_tree(run):
    assert json.loads(run("schema").output) == json.loads(resource("schemas", "resilience.schema.json").read_text())


def test_the_schema_is_written_in_a_checkout_only(run, tmp_path, monkeypatch):
    file = tmp_path / "schemas" / "resilience.schema.json"
    file.parent.mkdir()
    monkeypatch.setattr(app_module, "resource", lambda *_: file)
    assert run("schema", "--write").exit_code == 0
    assert file.read_text() == run("schema").output
    installed = tmp_path / "_data" / "schemas" / "resilience.schema.json"
    monkeypatch.setattr(app_module, "resource", lambda *_: installed)
    assert run("schema", "--write").exit_code == 2


def test_the_version_is_told(run):
    assert run("--version").output == "0.3.0\n"


@pytest.mark.parametrize("word", ["chekc", "--nope"])
def test_a_misspelt_command_is_usage(run, word):
    result = run(word)
    assert result.exit_code == 2
    assert "Usage" in result.output


def completed(line: str) -> set[str]:
    """Return what bash would offer at the end of a line."""
    words = line.split(" ")
    asked = {"_AIORESILIENCE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    script = Path(sys.executable).with_name("aioresilience")
    done = subprocess.run([script], env={**os.environ, **asked}, capture_output=True, text=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("aioresilience ", {"check", "explain", "diff", "render", "watch", "init", "schema", "demo"}),
        ("aioresilience explain resilience.yaml pay", {"payments", "payments.eu"}),
        ("aioresilience explain resilience.yaml payments.eu.timeout.t", {"payments.eu.timeout.timeout"}),
        ("aioresilience check resilience.yaml -e ", {"live", "test"}),
        ("aioresilience check resilience.yaml --format ", {"text", "json", "sarif", "github"}),
        ("aioresilience explain broken.yaml ", set()),
    ],
)
def test_a_shell_completes(write, line, offered):
    write(FINE)
    write("policies: [", "broken.yaml")
    assert completed(line) == offered


def test_a_closed_pipe_ends_it_quietly(write):
    write("policies:\n" + "".join(f"  p{n}: {{timeout: {n + 1}}}\n" for n in range(2000)))
    command = f"{' '.join(MODULE)} check resilience.yaml | head -n 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert "AR412" in done.stdout
    assert done.stderr == ""


def test_a_terminal_gets_colours(write):
    """A real terminal, of 40 columns, with neither NO_COLOR nor FORCE_COLOR."""
    write("policies: {a: {timeout: 2}}")
    ours, theirs = pty.openpty()
    environ = {name: one for name, one in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    process = subprocess.Popen(
        [*MODULE, "check", "resilience.yaml"], stdout=theirs, env={**environ, "TERM": "xterm", "COLUMNS": "40"}
    )
    os.close(theirs)
    shown = b""
    while select.select([ours], [], [], 60)[0]:
        try:
            shown += os.read(ours, 4096)
        except OSError:
            break
    os.close(ours)
    assert process.wait(60) == 0
    assert b"\x1b[33m\x1b[1mwarning AR412\x1b[0m" in shown


def test_init_writes_a_file_that_is_fine_and_says_what_is_next(run, write):
    write("", "somewhere.yaml")
    result = run("init", "ops.yaml")
    assert result.exit_code == 0
    assert "aioresilience check ops.yaml" in result.output
    assert run("check", "ops.yaml", "--strict").exit_code == 0
    assert {"payments", "search"} == load(FileSource("ops.yaml"), patterns=BUILTIN).policies.keys()
    assert Path("ops.yaml").read_text().startswith("# yaml-language-server: $schema=resilience.schema.json\n")
    assert read(Path("resilience.schema.json").read_bytes())["$schema"].startswith("http")


def test_init_never_overwrites(run, write):
    path = write("", "resilience.yaml")
    result = run("init")
    assert (result.exit_code, path.read_text()) == (2, "version: 1\n\n")
    assert "is there already" in result.output
    assert run("init", ".").exit_code == 2
    assert run("init", "-").exit_code == 2
    assert not Path("-").exists()


def test_init_makes_the_folder_of_the_file(run, write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("init", "ops/resilience.yaml")
    assert result.exit_code == 0, result.output
    assert run("check", "ops/resilience.yaml").exit_code == 0
    assert Path("ops/resilience.schema.json").is_file()


def test_init_in_a_file_says_so(run, write):
    write("", "plain")
    result = run("init", "plain/x.yaml")
    assert (result.exit_code, "plain is no folder" in result.output) == (2, True)


def test_a_word_of_another_tool_points_to_the_command(run):
    for word, command in OTHER_WORDS.items():
        result = run(word, "resilience.yaml", "--strict")
        assert (result.exit_code, f"it is called {command}," in result.output) == (2, True)
    assert "lint" not in run("--help").output


@pytest.mark.parametrize("words", [["check"], ["explain"], ["render"]])
def test_an_environment_for_a_file_without_any_is_told(run, write, words):
    write("policies: {a: {timeout: 2s}}")
    result = run(*words, "resilience.yaml", "-e", "nope")
    assert result.exit_code == 0
    assert "there are no environments, so -e nope changes nothing" in result.stderr
    write("policies: {a: {timeout: 2s}}\nenvironments: {nope: {}}")
    assert "changes nothing" not in run(*words, "resilience.yaml", "-e", "nope").stderr


def test_init_leaves_a_schema_alone(run, write):
    schema = write("mine", "resilience.schema.json")
    run("init")
    assert schema.read_text() == "version: 1\nmine\n"


@pytest.mark.parametrize(
    ("inputs", "code", "shown"),
    [
        ({}, 0, ""),
        ({"files": "bad.yaml"}, 1, "::error file=bad.yaml,line=2,"),
        ({"files": "resilience.yaml\nbare.yaml", "strict": "true"}, 3, "::warning file=bare.yaml,line=2,"),
        ({"files": "bare.yaml"}, 0, "::warning file=bare.yaml"),
        ({"code": "src", "strict": "true"}, 3, "title=AR417"),
        ({"environment": "nope"}, 1, "AR313"),
        ({"files": "$(touch owned) resilience.yaml"}, 2, "AR101"),
    ],
)
def test_the_github_action_checks(write, inputs, code, shown):
    write(FINE)
    write("policies: {a: {retyr: 3}}", "bad.yaml")
    write("policies: {payments: {timeout: 2}}", "bare.yaml")
    Path("src").mkdir()
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    given = {name: one["default"] for name, one in action["inputs"].items()}
    step = action["runs"]["steps"][-1]
    environ = {
        name: {**given, **inputs}[expression.removeprefix("${{ inputs.").removesuffix(" }}")]
        for name, expression in step["env"].items()
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        env={**os.environ, **environ, "PATH": path}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, shown in done.stdout) == (code, True), done.stdout + done.stderr
    assert not Path("owned").exists()


def test_the_pre_commit_hook_runs_check_on_such_files(write):
    [hook] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert hook["entry"] == "aioresilience check"
    wanted = {"resilience.yaml": True, "ops/resilience.yml": True, "values.yaml": False}
    assert {name: re.search(hook["files"], name) is not None for name in wanted} == wanted
    assert module(*hook["entry"].split()[1:], write(FINE)).returncode == 0


def test_refused_files_say_so_without_a_traceback(run, write):
    for command in (["explain", "resilience.yaml"], ["render", "resilience.yaml"], ["diff", "resilience.yaml", "-"]):
        write("policies: {a: {retyr: 3}}")
        result = run(*command, input="version: 1\n")
        assert not isinstance(result.exception, ConfigError), command
        assert "AR201" in result.output
