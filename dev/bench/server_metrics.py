"""Count writes by the API server's own metrics."""

from collections import Counter

from prometheus_client.parser import text_string_to_metric_families

from orderplane.adapters.kubernetes.client import ApiClient

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_RESOURCES = frozenset({"orders", "reservations", "payments", "shipments", "events"})


async def count_writes(api: ApiClient) -> Counter[str]:
    """How many writes of each kind the server has answered so far, as `verb resource[/subresource]`."""
    text = await api.metrics()
    counts: Counter[str] = Counter()
    wanted = (line for line in text.splitlines() if line.startswith("apiserver_request_total"))
    for family in text_string_to_metric_families("\n".join(wanted) + "\n"):
        for sample in family.samples:
            labels = sample.labels
            if labels["verb"] in WRITES and labels["resource"] in _RESOURCES:
                sub = f"/{labels['subresource']}" if labels["subresource"] else ""
                counts[f"{labels['verb']} {labels['resource']}{sub}"] += int(sample.value)
    return counts
