"""The dashboards of kustomize/components/monitoring: their panels, and what these ask Prometheus."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from orderplane.dev.prometheus_rule import rules_file

Json = dict[str, Any]

FOLDER = rules_file().parent / "dashboards"
NAMES = ("business", "saga", "front-door", "infrastructure")


@dataclass(frozen=True, slots=True)
class Question:
    """One expression of a panel.

    Args:
        expression: PromQL with Grafana's variables, `$__rate_interval` and `$__range`.
        legend: The name of a series, with its labels in double braces.
        is_instant: Only the newest value is shown.
    """

    expression: str
    legend: str
    is_instant: bool

    def asked(self, *, rate_interval: str, range_: str) -> str:
        """The expression as Prometheus understands it."""
        return self.expression.replace("$__rate_interval", rate_interval).replace("$__range", range_)

    def name_of(self, labels: dict[str, str]) -> str:
        """The legend of one series."""
        name = self.legend
        for label, value in labels.items():
            name = name.replace("{{" + label + "}}", value)
        return " ".join(part for part in name.split() if not part.startswith("{{")).rstrip(":")


def dashboard(name: str) -> Json:
    """One of `NAMES`, as Grafana imports it."""
    document: Json = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return document


def questions(panel: Json) -> Iterator[Question]:
    """What a panel asks."""
    for target in panel["targets"]:
        yield Question(target["expr"], target["legendFormat"], target.get("instant", False))
