"""Writes to the API server: counted by its own metrics, and repeated by a bare client to find the ceiling."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from prometheus_client.parser import text_string_to_metric_families

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.controllers.order.children import manifest_of
from orderplane.crds.meta import API_VERSION, Kind
from orderplane.crds.order import Order

WORKERS = 24
_PHASES = ("Reserved", "Paid", "Shipped")


@dataclass(frozen=True, slots=True)
class Pattern:
    """The writes of a real saga, to be repeated under other names.

    Args:
        manifest: The Order as it was created, without its name.
        status: The Order's status when it was Shipped.
        child_statuses: The last status of each of its children.
        reports: How many times the Order's status was written, 1 to 3.
        events: How many Events were made, 0 to 3.
    """

    manifest: Mapping[str, Any]
    status: Mapping[str, Any]
    child_statuses: Mapping[Kind, Mapping[str, Any]]
    reports: int
    events: int

    @property
    def writes(self) -> int:
        """API writes of one saga."""
        return 1 + 2 * len(self.child_statuses) + self.reports + self.events


async def bare_writes_per_second(
    gateway: ApiClient, operator: ApiClient, pattern: Pattern, sagas: int
) -> float:
    """Make every write of `sagas` orders as fast as the server takes them.

    Args:
        gateway: A client with the gateway's identity, which may create orders.
        operator: One with the operator's, which may do the rest.
    """
    numbers = iter(range(sagas))

    async def work() -> None:
        for _ in numbers:
            await _one(gateway, operator, pattern)

    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(work())
    return sagas * pattern.writes / (time.monotonic() - started)


async def _one(gateway: ApiClient, api: ApiClient, pattern: Pattern) -> None:
    namespace = pattern.manifest["metadata"]["namespace"]
    name = f"bare-{uuid4().hex[:12]}"
    # The plane's operator is stopped meanwhile, so that nothing reconciles these.
    metadata = {**pattern.manifest["metadata"], "name": name}
    made = await gateway.create(Kind.ORDER, namespace, {**pattern.manifest, "metadata": metadata})
    order = Order.model_validate(made)
    version = order.metadata.resource_version
    for kind, status in pattern.child_statuses.items():
        child = await api.create(kind, namespace, manifest_of(kind, order).document())
        await api.put_status(
            kind, namespace, order.child_name, child["metadata"]["resourceVersion"], dict(status)
        )
    for phase in _PHASES[len(_PHASES) - pattern.reports :]:
        answer = await api.put_status(
            Kind.ORDER, namespace, name, version, {**pattern.status, "phase": phase}
        )
        version = answer["metadata"]["resourceVersion"]
    for phase in _PHASES[: pattern.events]:
        await api.create_event(namespace, _event(order, phase))


def _event(order: Order, reason: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{order.child_name}.{reason.lower()}",
            "namespace": order.metadata.namespace,
        },
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "firstTimestamp": "2026-01-01T00:00:00Z",
        "lastTimestamp": "2026-01-01T00:00:00Z",
        "count": 1,
        "reportingComponent": "orderplane.dev/operator",
        "reportingInstance": "orderplane-operator",
        "action": reason,
        "reason": reason,
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": "Order",
            "name": order.metadata.name,
            "namespace": order.metadata.namespace,
            "uid": order.metadata.uid,
        },
        "message": "About as long as the note of a real event.",
        "type": "Normal",
    }


WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_RESOURCES = frozenset({"orders", "reservations", "payments", "shipments", "events"})


async def count_writes(api: ApiClient) -> Counter[str]:
    """Writes that the server has answered since it started, by `verb resource[/subresource]`."""
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
