"""The raw write ceiling: the writes of a saga by a bare client, with nothing behind them."""

import asyncio
import time
from typing import Any
from uuid import uuid4

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.controllers.order.children import manifest_of
from orderplane.crds.meta import API_VERSION, Kind
from orderplane.crds.order import Order

WORKERS = 24


async def bare_sagas_per_second(
    front_door: ApiClient, operator: ApiClient, template: dict[str, Any], sagas: int
) -> float:
    """Make every write of `sagas` orders, as a saga does, as fast as the server takes them.

    Args:
        front_door: May create orders.
        operator: May do the rest.
        template: A manifest of an Order; names are made up.
    """
    numbers = iter(range(sagas))

    async def work() -> None:
        for _ in numbers:
            await _one(front_door, operator, template)

    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(work())
    return sagas / (time.monotonic() - started)


async def _one(front_door: ApiClient, api: ApiClient, template: dict[str, Any]) -> None:
    namespace = template["metadata"]["namespace"]
    name = f"bare-{uuid4().hex[:12]}"
    # The operator of the plane is stopped meanwhile, so nobody answers these.
    made = await front_door.create(
        Kind.ORDER, namespace, {**template, "metadata": {**template["metadata"], "name": name}}
    )
    order = Order.model_validate(made)
    version = order.metadata.resource_version
    for kind, phases in (
        (Kind.RESERVATION, ("Held", "Reserved")),
        (Kind.PAYMENT, ("Captured", "Paid")),
        (Kind.SHIPMENT, ("Scheduled", "Shipped")),
    ):
        child = await api.create(kind, namespace, manifest_of(kind, order))
        status = {"phase": phases[0], "observedGeneration": 1, "conditions": _conditions(phases[0])}
        await api.put_status(kind, namespace, order.child_name, child["metadata"]["resourceVersion"], status)
        status = {"phase": phases[1], "observedGeneration": 1, "conditions": _conditions(phases[1])}
        answer = await api.put_status(Kind.ORDER, namespace, name, version, status)
        version = answer["metadata"]["resourceVersion"]
        await api.create_event(namespace, _event(order, phases[1]))


def _conditions(type_: str) -> list[dict[str, Any]]:
    return [
        {
            "type": type_,
            "status": "True",
            "reason": "Measured",
            "message": "As long as a real one is, more or less.",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
    ]


def _event(order: Order, reason: str) -> dict[str, Any]:
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": f"{order.child_name}.{reason.lower()}",
            "namespace": order.metadata.namespace,
        },
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "orderplane.dev/operator",
        "reportingInstance": "orderplane-operator",
        "action": reason,
        "reason": reason,
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": "Order",
            "name": order.metadata.name,
            "namespace": order.metadata.namespace,
            "uid": order.metadata.uid,
        },
        "note": "As long as a real one is, more or less.",
        "type": "Normal",
    }
