import pytest
from typer.testing import CliRunner

from aioresilience.cli.app import app

OLD = "policies: {a: {timeout: 2s}}"


@pytest.mark.parametrize(
    ("new", "code", "shown"),
    [
        (OLD, 0, "nothing changes"),
        ("policies: {a: {timeout: 3s}}", 1, "worst case: 2s per call -> 3s per call"),
        ("policies: {b: {timeout: 2s}}", 1, "removed"),
        ("policies: {a: {timeuot: 3s}}", 2, "AR201"),
    ],
)
def test_a_diff_says_what_changes(tmp_path, new, code, shown):
    for name, text in (("old", OLD), ("new", new)):
        (tmp_path / f"{name}.yaml").write_text(f"version: 1\n{text}\n")
    result = CliRunner().invoke(app, ["diff", str(tmp_path / "old.yaml"), str(tmp_path / "new.yaml")])
    assert (result.exit_code, shown in result.output) == (code, True), result.output
