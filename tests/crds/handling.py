"""What the operator does with every object: write its status, take its finalizer off, let it go."""

from collections.abc import Callable
from typing import Any

import pytest

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.controllers.engine.cluster import MODELS
from orderplane.crds.api_errors import NotFound
from orderplane.crds.meta import Kind

As = Callable[[str], ApiClient]

PRESETS = {
    Kind.ORDER: "orderplane.dev/compensate",
    Kind.RESERVATION: "orderplane.dev/release-stock",
    Kind.PAYMENT: "orderplane.dev/refund-payment",
    Kind.SHIPMENT: "orderplane.dev/cancel-shipment",
}
FULL_STATUS: dict[str, Any] = {
    "phase": "Pending",
    "conditions": [
        {
            "type": f"Type{number}", "status": "True", "reason": "R" * 64, "message": "\U0001f375" * 1024,
            "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for number in range(16)
    ],
}  # fmt: skip
"""The largest that the schema allows."""


async def handle(as_: As, kind: Kind, namespace: str, name: str) -> None:
    """The whole life of an object from the operator's side; whoever else holds it is let go by the admin."""
    operator = as_("operator")
    read = await operator.get(kind, namespace, name)
    MODELS[kind].model_validate(read)
    version = read["metadata"]["resourceVersion"]
    written = await operator.put_status(kind, namespace, name, version, FULL_STATUS)
    assert len(written["status"]["conditions"]) == 16
    await operator.delete(kind, namespace, name)
    left = [finalizer for finalizer in read["metadata"]["finalizers"] if finalizer != PRESETS[kind]]
    await operator.merge_patch(kind, namespace, name, {"metadata": {"finalizers": left}})
    if left:
        await as_("admin").merge_patch(kind, namespace, name, {"metadata": {"finalizers": None}})
    with pytest.raises(NotFound):
        await operator.get(kind, namespace, name)
