"""The dashboard, the alert rules and the page of metrics name what the code exports, with the labels that it has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from aioresilience.cli.documenting import metrics_table
from aioresilience.integrations.metrics import CATALOGUE

ROOT = Path(__file__).parents[3]
ALERTS = ROOT / "examples" / "prometheus" / "alerts.yaml"
DASHBOARD = json.loads((ROOT / "examples" / "grafana" / "aioresilience.json").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
METRICS = {one.prometheus_name: one for one in CATALOGUE}
USE = re.compile(r"\b(aioresilience_\w+)(?:\{([^}]*)\})?")
OF_THE_SCRAPE = {"instance", "job"}


def rules() -> list[dict]:
    return [rule for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]


def panels() -> list[dict]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in panels():
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])


def mistakes(expression: str) -> list[str]:
    """Say what a query names that no scrape has."""
    found = []
    used = [(METRICS.get(name), name, matchers) for name, matchers in USE.findall(expression)]
    for metric, name, matchers in used:
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        if metric is None:
            found.append(f"no metric is called {name}")
        elif labels - set(metric.labels) - OF_THE_SCRAPE:
            found.append(f"{name} has no {labels - set(metric.labels)}")
    known = {label for metric, _, _ in used if metric is not None for label in metric.labels} | OF_THE_SCRAPE
    grouped = {label.strip() for by in re.findall(r"\bby \(([^)]*)\)", expression) for label in by.split(",")}
    found += [f"grouped by {label}, which it has not" for label in grouped - known]
    counters = re.findall(r"(\w+)\(aioresilience_\w+_total\b", expression)
    if set(counters) - {"rate", "increase"} or ("_total" in expression and not counters):
        found.append("a counter is only good for rate() or increase()")
    return found + ([] if used else ["no metric of ours"]) + _unbalanced(expression)


def _unbalanced(expression: str) -> list[str]:
    pairs = ("()", "{}", "[]")
    return [f"unbalanced {pair}" for pair in pairs if expression.count(pair[0]) != expression.count(pair[1])]


@pytest.mark.parametrize(("name", "expression"), list(expressions()), ids=lambda value: value[:40])
def test_a_query_names_only_what_is_exported(name: str, expression: str):
    assert mistakes(expression) == []


@pytest.mark.parametrize(
    "expression",
    [
        "aioresilience_nothing > 0",
        'aioresilience_in_use{reason="x"}',
        "sum by (reason) (aioresilience_in_use)",
        "sum(aioresilience_calls_total)",
        "rate(aioresilience_calls_total[5m]",
        "up == 0",
    ],
)
def test_the_check_finds_mistakes(expression: str):
    assert mistakes(expression) != []


def test_alert_rules_are_complete():
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert re.fullmatch(r"\d+[smhd]", rule["for"])
        shown = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
        grouped = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", rule["expr"])))) or OF_THE_SCRAPE
        assert shown <= grouped, f"{rule['alert']} shows a label that its expression drops"


def test_promtool_agrees_where_it_is_installed():
    promtool = shutil.which("promtool")
    if promtool is not None:
        subprocess.run([promtool, "check", "rules", str(ALERTS)], check=True, capture_output=True)
    assert rules()  # the tests above read them in any case


def test_panels_have_their_own_places_and_ids():
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    assert all(target["datasource"]["uid"] == "${datasource}" for panel in panels() for target in panel["targets"])


def test_the_variables_of_the_dashboard_exist():
    names = {one["name"] for one in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD["panels"])))
    assert used - {"__rate_interval"} <= names
    (query,) = (one["query"]["query"] for one in DASHBOARD["templating"]["list"] if one["name"] == "policy")
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", query).groups()
    assert label in METRICS[metric].labels


def alerts_table() -> str:
    return "".join(
        f"| {one['alert']} | `{' '.join(one['expr'].split())}` for {one['for']} "
        f"| {one['annotations']['description']} |\n"
        for one in rules()
    )


def test_the_page_has_the_tables_that_code_and_rules_give():
    assert metrics_table() in PAGE
    assert alerts_table() in PAGE
