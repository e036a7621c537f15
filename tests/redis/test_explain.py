"""What `explain` says of a limit on a backend."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from aioresilience.cli.app import app

FILE = """
version: 1
backends: {{main: {{type: redis, url: "redis://127.0.0.1:6379/0"}}}}
policies: {{p: {{rate_limiter: {{rate: 9/second, backend: main, {given}}}}}}}
"""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("lease: auto", "leases as many permits as a busy key needs for a second"),
        ("lease: 50", "leases up to 50 permits for a second"),
        ("scope: policy", "while main is away: a limit in each process (its part of the fleet's)"),
        ("scope: key", "while main is away: a limit in each process (the whole for each key)"),
        ("on_backend_error: deny", "while main is away: no calls"),
        ("on_backend_error: allow", "while main is away: no limit"),
        ("burst: 9", "checks of one tick share a round trip"),
    ],
)
def test_explain_says_what_a_call_costs_and_what_holds_without_the_server(tmp_path: Path, given, said):
    file = tmp_path / "resilience.yaml"
    file.write_text(FILE.format(given=given))
    explained = CliRunner().invoke(app, ["explain", str(file), "p"])
    assert explained.exit_code == 0
    assert said in explained.output


def test_explain_shows_the_code_of_a_limit_on_a_backend(tmp_path: Path):
    file = tmp_path / "resilience.yaml"
    file.write_text(FILE.format(given="mode: observe"))
    explained = CliRunner().invoke(app, ["explain", str(file), "p", "--code"])
    assert explained.exit_code == 0
    assert "ticket0 = None" in explained.output
