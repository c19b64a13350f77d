"""docs/metrics.md. `python -m orderplane.dev.metrics_page > docs/metrics.md` writes it anew.

Which process exports a metric is asked of the processes: each is imported in an interpreter of its own.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from orderplane.dev.settings_page import PROCESSES

_HEAD = """\
# Metrics

Every process serves them at `/metrics` on `ORDERPLANE_METRICS_PORT`, as Prometheus's text or, for those who
ask for it, as OpenMetrics: only that format has exemplars, the trace of one order for each bucket of
`orderplane_saga_duration_seconds`. The usual `process_*` and `python_*` metrics are there as well.

No label has a value that a customer can choose: there are no names of orders, merchants or SKUs, and paths
are templates of routes. So the number of series does not grow with the number of orders. Most reasons are
those of [this list](reasons.md).

What is counted in the database is the same in each replica: of `orderplane_orders_unfinished`,
`orderplane_refunds_open`, `orderplane_parcels_tracked`, `orderplane_audit_*`, `orderplane_outbox_*`,
`orderplane_backlog_*`, `orderplane_notifications_waiting`, `orderplane_event_deliveries_waiting` and
`orderplane_webhook_endpoints_*` take the maximum, not the sum.

This page is generated: `python -m orderplane.dev.metrics_page > docs/metrics.md`.

| metric | type | labels | meaning | exported by |
|---|---|---|---|---|
"""

_ASK = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase
print(json.dumps([
    [metric._name, metric._type, list(metric._labelnames), metric._documentation]
    for metric in set(REGISTRY._collector_to_names) if isinstance(metric, MetricWrapperBase)
    if metric._name.startswith("orderplane_")
]))
"""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as it is exported.

    Args:
        name: With the suffix of its type, but for histograms: they have `_bucket`, `_sum` and `_count`.
        processes: Those that export it.
    """

    name: str
    type: str
    labels: tuple[str, ...]
    meaning: str
    processes: tuple[str, ...] = ()


def metrics() -> list[Metric]:
    """All metrics of all processes, by name."""
    with ThreadPoolExecutor(len(PROCESSES)) as pool:
        found = dict(zip(PROCESSES, pool.map(_exported_by, PROCESSES), strict=True))
    merged: dict[str, Metric] = {}
    for module, exported in found.items():
        process = module.split(".")[-2]
        for metric in exported:
            known = merged.get(metric.name, metric)
            merged[metric.name] = replace(known, processes=(*known.processes, process))
    return [merged[name] for name in sorted(merged)]


def page_of(found: Iterable[Metric]) -> str:
    """The whole page."""
    return _HEAD + "".join(f"{row}\n" for row in _rows(found))


def _rows(found: Iterable[Metric]) -> Iterator[str]:
    for each in found:
        labels = ", ".join(f"`{label}`" for label in each.labels)
        by = "all" if len(each.processes) == len(PROCESSES) else ", ".join(each.processes)
        yield f"| `{each.name}` | {each.type} | {labels} | {each.meaning} | {by} |"


def _exported_by(module: str) -> list[Metric]:
    answer = subprocess.run(
        [sys.executable, "-c", _ASK, module], stdout=subprocess.PIPE, check=True, timeout=120
    )
    return [_metric(*each) for each in json.loads(answer.stdout)]


def _metric(name: str, type_: str, labels: list[str], meaning: str) -> Metric:
    suffix = "_total" if type_ == "counter" else ""
    return Metric(name + suffix, type_, tuple(labels), meaning)


if __name__ == "__main__":
    sys.stdout.write(page_of(metrics()))
