"""The rules of the drill: the same alerts, sooner."""

import re

import yaml

from orderplane.dev.monitoring.drill import shortened
from orderplane.dev.monitoring.faults import FAULTS
from orderplane.dev.prometheus_rule import rules_file


def test_windows_are_a_sixtieth_and_everything_else_stays() -> None:
    rules = rules_file().read_text()
    drilled = shortened(rules)
    assert set(re.findall(r"\[(\w+)\]", drilled)) == {
        "10s", "15s", "30s", "60s", "120s", "360s", "1440s", "4320s",
    }  # fmt: skip
    assert set(re.findall(r"for: (\w+)", drilled)) == {"2s"}
    names = [[rule.get("alert") for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
             for text in (rules, drilled)]  # fmt: skip
    assert names[0] == names[1]
    assert "OrderplaneOutboxOld" in names[0]


def test_ages_are_a_sixtieth() -> None:
    ages = re.findall(r"_age_seconds[^>\n]*> (\d+)", shortened(rules_file().read_text()))
    assert sorted(map(int, ages)) == [2, 5, 5, 30, 30]


def test_every_alert_has_one_fault() -> None:
    groups = yaml.safe_load(rules_file().read_text())["groups"]
    alerts = sorted(rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule)
    assert sorted(alert for fired in FAULTS.values() for alert in fired) == alerts
