"""The archive: what an Order was when it left the API server, brought up to date when its ledgers move.

An order is archived before its resource may go, so it is always in one of the two. From then on it is
leaving, or has left: `Gate.is_leaving`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from orderplane.crds.meta import API_VERSION, GROUP, Kind
from orderplane.ledgers.gate import Gate

_METADATA = ("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "labels")

ERASED = "erased"
"""What stands for each personal value that was erased; the country of an address stays."""
ERASED_METHOD = f"pm_{ERASED}"


@dataclass(frozen=True, slots=True)
class ArchivedOrder:
    """One row of the archive.

    Args:
        version: The resourceVersion that it was read in.
        document: The Order as JSON: spec, status, and of the metadata what is ours.
    """

    merchant: str
    uid: str
    name: str
    customer: str
    reference: str | None
    phase: str
    skus: tuple[str, ...]
    created_at: datetime
    version: int
    document: Mapping[str, Any]

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.merchant, self.name


class OrderArchive(Protocol):
    """The rows of orders that left, or are leaving. Each method is one transaction."""

    async def store(self, order: ArchivedOrder, seen: Gate) -> Gate:
        """Insert or replace the row of an order, but never by an older version; returns the gate after it.

        Args:
            seen: What its status was made of.

        Raises:
            GateClosed: its ledgers have moved since, or it was never opened; read again.
        """
        ...

    async def outdated(self, merchant: str, name: str) -> Sequence[Mapping[str, Any]]:
        """The documents of that name whose ledgers have moved since they were written."""
        ...

    async def outdated_keys(self, limit: int) -> Sequence[tuple[str, str]]:
        """Merchant and name of some orders with such documents."""
        ...


def archived_order(document: Mapping[str, Any], status: Mapping[str, Any]) -> ArchivedOrder:
    """The row of an Order as read from the API server, with the status that its ledgers say.

    managedFields, annotations of others and finalizers are left out: nobody needs them any more.
    """
    metadata, spec = document["metadata"], document["spec"]
    annotations = {
        name: value
        for name, value in (metadata.get("annotations") or {}).items()
        if name.startswith(f"{GROUP}/")
    }
    kept = {name: metadata[name] for name in _METADATA if name in metadata} | {"annotations": annotations}
    return ArchivedOrder(
        merchant=metadata["namespace"],
        uid=metadata["uid"],
        name=metadata["name"],
        customer=spec["customer"],
        reference=spec.get("reference"),
        phase=status["phase"],
        skus=tuple(sorted({item["sku"] for item in spec["items"]})),
        created_at=datetime.fromisoformat(metadata["creationTimestamp"]),
        version=int(metadata["resourceVersion"]),
        document={
            "apiVersion": API_VERSION,
            "kind": Kind.ORDER.value,
            "metadata": kept,
            "spec": spec,
            "status": status,
        },
    )


def without_personal_data(order: ArchivedOrder) -> ArchivedOrder:
    """The row of an order whose customer was erased."""
    return replace(order, document=erased_document(order.document))


def erased_document(document: Mapping[str, Any]) -> dict[str, Any]:
    """An archived Order without its address, its metadata and the token of its card.

    What was bought, for how much and to which country stays: the books need it.
    """
    spec = document["spec"]
    address = {
        name: value if name == "country" else ERASED for name, value in (spec.get("address") or {}).items()
    }
    kept = {name: value for name, value in spec.items() if name != "metadata"}
    return {**document, "spec": {**kept, "address": address, "paymentMethod": ERASED_METHOD}}
