"""The alerts: what each must have, and promtool's own tests of when they fire."""

import asyncio
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from orderplane.crds.reasons import Reason
from orderplane.dev.localplane.progress import ConsoleProgress
from orderplane.dev.localplane.tools import find_promtool
from orderplane.dev.monitoring.dashboards import NAMES, dashboard, questions
from orderplane.dev.prometheus_rule import prometheus_rule, rules_file

from .promql import labels_by_series, problems

ROOT = Path(__file__).parents[2]
OBJECT = ROOT / "kustomize" / "components" / "monitoring" / "prometheusrule.yaml"
RUNBOOK = ROOT / "docs" / "runbook"
CASES = Path(__file__).parent / "rules.test.yaml"

Json = dict[str, Any]

RULES: list[Json] = [
    rule for group in yaml.safe_load(rules_file().read_text())["groups"] for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}


def test_the_object_is_the_file_of_rules() -> None:
    assert OBJECT.read_text() == prometheus_rule(), (
        "python -m orderplane.dev.prometheus_rule > kustomize/components/monitoring/prometheusrule.yaml"
    )
    assert yaml.safe_load(OBJECT.read_text())["spec"] == yaml.safe_load(rules_file().read_text())


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_and_where_to_read_on(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert alert["annotations"]["summary"].endswith(".")
    assert alert["annotations"]["runbook_url"] == f"docs/runbook/{name}.md"
    assert (RUNBOOK / f"{name}.md").read_text().startswith(f"# {name}\n")


def test_every_page_of_the_runbook_is_about_an_alert() -> None:
    assert {page.stem for page in RUNBOOK.glob("*.md")} - {"README"} == set(ALERTS)


def test_rules_use_only_what_our_processes_export() -> None:
    known = labels_by_series()
    found: Json = {}
    for rule in RULES:
        name = rule.get("alert") or rule["record"]
        found |= {f"{name}: {problem}": rule["expr"] for problem in problems(rule["expr"], known)}
        if "record" in rule:
            known[rule["record"]] = frozenset()
    assert found == {}


def test_reasons_that_are_the_customers_own_exist() -> None:
    [excluded] = re.findall(r'reason!~"([^"]+)"', ALERTS["OrderplaneSagaFailures"]["expr"])
    assert set(excluded.split("|")) <= set(Reason)


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    cases: dict[str, set[bool]] = defaultdict(set)
    for test in yaml.safe_load(CASES.read_text())["tests"]:
        for case in test["alert_rule_test"]:
            cases[case["alertname"]].add(bool(case["exp_alerts"]))
    assert cases == {name: {True, False} for name in ALERTS}


@pytest.fixture
def expressions(tmp_path: Path) -> Path:
    """What the dashboards ask, as a file of rules: promtool parses that."""
    asked = {
        question.asked(rate_interval="1m", range_="1h")
        for name in NAMES
        for panel in dashboard(name)["panels"]
        for question in questions(panel)
    }
    rules = [{"record": f"asked:{number}", "expr": each} for number, each in enumerate(sorted(asked))]
    file = tmp_path / "expressions.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))
    return file


@pytest.mark.integration
@pytest.mark.timeout(900)
async def test_promtool_agrees(expressions: Path) -> None:
    await promtool("check", "rules", rules_file(), expressions)
    await promtool("test", "rules", CASES)


async def promtool(*words: str | Path) -> None:
    process = await asyncio.create_subprocess_exec(
        await find_promtool(ConsoleProgress()), *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 180)
    assert process.returncode == 0, out.decode()
