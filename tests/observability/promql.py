"""What an expression of PromQL names: enough of the language for our own rules and dashboards."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"

_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"(?<![\w:$])([a-zA-Z_:][\w:]*)(?!\s*\(|[\w:])\s*(\{[^}]*\})?")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"[^\"]*\"")
_KEYWORDS = {"and", "or", "unless", "offset", "bool", "by", "without"}
_ADDED = {"job", "instance", "namespace", "pod", "app_kubernetes_io_component"}
"""Labels that a scrape adds."""

OTHERS: Mapping[str, frozenset[str]] = {
    "up": frozenset(),
    "process_cpu_seconds_total": frozenset(),
    "process_resident_memory_bytes": frozenset(),
    "process_open_fds": frozenset(),
    "process_max_fds": frozenset(),
    "process_start_time_seconds": frozenset(),
}
"""Of prometheus_client and Prometheus itself, with their labels."""


def labels_by_series() -> dict[str, frozenset[str]]:
    """The labels of every series that a process exports: what docs/metrics.md lists."""
    found = dict(OTHERS)
    for name, type_, labels in re.findall(
        r"^\| `(\w+)` \| (\w+) \| ([^|]*)\|", PAGE.read_text(), re.MULTILINE
    ):
        own = frozenset(re.findall(r"`(\w+)`", labels))
        if type_ == "histogram":
            found |= {f"{name}_bucket": own | {"le"}, f"{name}_sum": own, f"{name}_count": own}
        else:
            found[name] = own
    return found


def problems(expression: str, known: Mapping[str, frozenset[str]]) -> Iterator[str]:
    """Names of series and labels that nobody exports."""
    grouped = {
        label.strip()
        for group in _GROUPING.findall(expression)
        for label in group.split(",")
        if label.strip()
    }
    allowed = set(_ADDED)
    seen = False
    for name, matchers in _SELECTOR.findall(_GROUPING.sub(" ", expression)):
        if name in _KEYWORDS:
            continue
        seen = True
        if name not in known:
            yield f"nobody exports {name}"
            continue
        allowed |= known[name]
        for label in _LABEL.findall(matchers):
            if label not in known[name] | _ADDED:
                yield f"{name} has no label {label}"
    for label in grouped - allowed:
        yield f"nothing here has a label {label}"
    if not seen:
        yield "no series is named"
