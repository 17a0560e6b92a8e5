"""Alert rules and dashboard: promtool's tests, and names compared with metrics, conditions and documents."""

import importlib.util
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from controller.conditions.model import Reason, Type
from tests.promtool import promtool

ROOT: Final = Path(__file__).parents[2]
RULES: Final = ROOT / "packaging" / "prometheus" / "vxlan-operator.rules.yml"
TESTS: Final = RULES.with_name("vxlan-operator.test.yml")
DASHBOARD: Final = ROOT / "packaging" / "grafana" / "vxlan-operator.json"
METRICS: Final = (ROOT / "docs" / "metrics.md").read_text()
RUNBOOK: Final = (ROOT / "docs" / "runbook.md").read_text()
URL: Final = "https://vxlan-operator.readthedocs.io/runbook.html#"
METRIC: Final = re.compile(r"\bvxlan_operator_\w+")

ALERTS: Final[dict[str, dict[str, Any]]] = {
    rule["alert"]: rule
    for group in yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]
}
QUERIES: Final[list[str]] = [
    target["expr"]
    for panel in json.loads(DASHBOARD.read_text())["panels"]
    for target in panel.get("targets", ())
]


def documented() -> set[str]:
    """The metrics of docs/metrics.md, which other tests compare with what controllers and workers serve."""
    return {
        line.split("`")[1]
        for line in METRICS.splitlines()
        if line.startswith("| `vxlan_operator_")
    }  # fmt: skip


def test_the_rules_are_valid() -> None:
    promtool("check", "rules", "--lint=all", str(RULES))


def test_each_alert_fires_and_stays_quiet_as_its_tests_say() -> None:
    promtool("test", "rules", str(TESTS))


def test_each_alert_has_a_test_that_fires_and_one_that_stays_quiet() -> None:
    tested: defaultdict[str, set[bool]] = defaultdict(set)
    for group in yaml.safe_load(TESTS.read_text())["tests"]:
        for each in group["promql_expr_test"]:
            found = re.fullmatch(
                r'count\(count_over_time\(ALERTS{alertname="(\w+)",alertstate="firing"}\[1d]\)\)',
                each["expr"],
            )
            assert found is not None, each["expr"]
            tested[found[1]].add(bool(each["exp_samples"]))
    assert tested == {name: {True, False} for name in ALERTS}


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_grave_it_is_and_where_to_read_on(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    annotations = alert["annotations"]
    assert annotations.keys() == {"summary", "description", "runbook_url"}
    assert all(annotations.values())
    assert annotations["runbook_url"] == URL + name.lower()


def test_the_runbook_has_a_section_for_each_alert_and_for_no_other() -> None:
    alerts = RUNBOOK.split("\n## Alerts\n")[1].split("\n## ")[0]
    sections = re.split(r"^### ", alerts, flags=re.MULTILINE)[1:]
    assert [section.partition("\n")[0] for section in sections] == list(ALERTS)
    for section in sections:
        for word in ("Look", "Do", "Worry"):
            assert f"* **{word}**" in section, section


def test_each_metric_of_rules_and_dashboard_is_one() -> None:
    used = {
        name
        for text in (RULES.read_text(), TESTS.read_text(), *QUERIES, RUNBOOK, METRICS)
        for name in METRIC.findall(text)
    }
    assert used <= documented()
    assert len(used & {name for query in QUERIES for name in METRIC.findall(query)}) > 20


def test_each_reason_and_type_in_a_selector_is_one() -> None:
    texts = [rule["expr"] for rule in ALERTS.values()] + QUERIES
    known = {"reason": {*Reason}, "type": {*Type}}
    for text in texts:
        for name, values in re.findall(r'\b(reason|type)[!=]~?"([^"$]*)"', text):
            assert {*values.split("|")} <= known[name], text


def test_the_dashboard_is_what_its_script_makes() -> None:
    spec = importlib.util.spec_from_file_location("generate", DASHBOARD.with_name("generate.py"))
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert DASHBOARD.read_text() == script.text(), "make dashboard"


def test_queries_of_dashboard_and_recipes_are_valid(tmp_path: Path) -> None:
    given = {"$__rate_interval": "5m", "$worker_job": "w", "$job": "c"}
    rules = []
    recipes = METRICS.split("```promql\n")[1].split("```")[0].split("\n\n")
    for number, query in enumerate([*QUERIES, *recipes]):
        for variable, value in given.items():
            query = query.replace(variable, value)  # noqa: PLW2901
        assert "$" not in query
        rules.append({"record": f"query{number}", "expr": query})
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", str(file))
