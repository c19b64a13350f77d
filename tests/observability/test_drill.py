"""The rules of the drill: the same alerts, sooner."""

import re

import yaml

from orderplane.dev.monitoring.drill import FAULTS, shortened
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
    assert set(FAULTS) <= set(names[0])
