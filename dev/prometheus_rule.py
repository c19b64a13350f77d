"""The rules of Prometheus as an object of the Prometheus operator.

`python -m orderplane.dev.prometheus_rule > kustomize/components/monitoring/prometheusrule.yaml` writes it.
"""

import sys
import textwrap
from pathlib import Path

from orderplane.dev.localplane.paths import project_root

_HEAD = """\
# Made from rules.yaml: change it there, then run
# `python -m orderplane.dev.prometheus_rule > kustomize/components/monitoring/prometheusrule.yaml`.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: orderplane
  labels:
    app.kubernetes.io/name: orderplane
    app.kubernetes.io/part-of: orderplane
spec:
"""


def rules_file() -> Path:
    """The rules, as Prometheus and promtool read them."""
    return project_root() / "kustomize" / "components" / "monitoring" / "rules.yaml"


def prometheus_rule() -> str:
    """The object: its spec is the file of rules."""
    lines = rules_file().read_text(encoding="utf-8").splitlines(keepends=True)
    rules = "".join(line for line in lines if not line.startswith("#"))
    return _HEAD + textwrap.indent(rules.lstrip(), "  ")


if __name__ == "__main__":
    sys.stdout.write(prometheus_rule())
