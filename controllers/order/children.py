"""An order's children: what they should be, and which of them are there."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from orderplane.controllers.engine.cluster import Cluster
from orderplane.crds.meta import (
    API_VERSION,
    CANCEL_SHIPMENT_FINALIZER,
    ORDER_LABEL,
    REFUND_PAYMENT_FINALIZER,
    RELEASE_STOCK_FINALIZER,
    SHARD_LABEL,
    TRACEPARENT_ANNOTATION,
    Kind,
    Resource,
)
from orderplane.crds.order import Order
from orderplane.crds.payment import Payment
from orderplane.crds.reservation import Reservation
from orderplane.crds.shipment import Shipment

R = TypeVar("R", bound=Resource)

HOLD_SECONDS = 900
"""How long stock is kept for an order that has not begun to pay."""

PARCEL_GRAMS = 30_000
"""The most that one box may weigh."""

FINALIZERS = {
    Kind.RESERVATION: RELEASE_STOCK_FINALIZER,
    Kind.PAYMENT: REFUND_PAYMENT_FINALIZER,
    Kind.SHIPMENT: CANCEL_SHIPMENT_FINALIZER,
}


@dataclass(frozen=True, slots=True)
class Children:
    """Those of the order's children that exist and are really its own."""

    reservation: Reservation | None = None
    payment: Payment | None = None
    shipment: Shipment | None = None

    @classmethod
    def of(cls, order: Order, cluster: Cluster) -> "Children":
        """Find them in the caches."""
        key = (order.metadata.namespace, order.child_name)
        return cls(
            _own(cluster.reservations.get(key), order),
            _own(cluster.payments.get(key), order),
            _own(cluster.shipments.get(key), order),
        )

    def get(self, kind: Kind) -> Reservation | Payment | Shipment | None:
        """The child of that kind."""
        return {
            Kind.RESERVATION: self.reservation,
            Kind.PAYMENT: self.payment,
            Kind.SHIPMENT: self.shipment,
        }[kind]

    def present(self) -> tuple[tuple[Kind, Resource], ...]:
        """Those that exist, in the order in which they were made."""
        kinds = (Kind.RESERVATION, Kind.PAYMENT, Kind.SHIPMENT)
        return tuple((kind, child) for kind in kinds if (child := self.get(kind)) is not None)


def is_own(child: Resource, order: Order) -> bool:
    """Whether this order, and not an older one of the same name or somebody else, controls the child."""
    return is_controlled_by(child, order.metadata.uid)


def is_controlled_by(child: Resource, uid: str) -> bool:
    """Whether the object with this uid is the child's controller."""
    return any(reference.controller and reference.uid == uid for reference in child.metadata.owner_references)


def is_as_planned(child: Resource, manifest: dict[str, Any]) -> bool:
    """Whether a child that was found in place of a new one is the one that was meant."""
    planned = type(child).model_validate({**manifest, "metadata": {
        **manifest["metadata"], "uid": "", "resourceVersion": "0",
        "creationTimestamp": child.metadata.creation_timestamp,
    }})  # fmt: skip
    return not child.is_deleting and bool(child.spec == planned.spec)  # type: ignore[attr-defined]


def manifest_of(kind: Kind, order: Order) -> dict[str, Any]:
    """The child as it is to be created, finalizer and owner included."""
    labels = {ORDER_LABEL: order.metadata.name}
    if shard := order.metadata.labels.get(SHARD_LABEL):
        labels[SHARD_LABEL] = shard
    annotations = {}
    if traceparent := order.metadata.annotations.get(TRACEPARENT_ANNOTATION):
        annotations[TRACEPARENT_ANNOTATION] = traceparent
    reference = {"name": order.metadata.name, "uid": order.metadata.uid}
    return {
        "apiVersion": API_VERSION,
        "kind": kind.value,
        "metadata": {
            "name": order.child_name,
            "namespace": order.metadata.namespace,
            "labels": labels,
            "annotations": annotations,
            "finalizers": [FINALIZERS[kind]],
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": Kind.ORDER.value,
                    **reference,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {"orderRef": reference, **_SPECS[kind](order)},
    }


def _reservation_spec(order: Order) -> dict[str, Any]:
    # Counted from the order's birth, so that the same order always plans the same reservation.
    expires_at = order.metadata.creation_timestamp + timedelta(seconds=HOLD_SECONDS)
    return {
        "items": [item.model_dump(mode="json", by_alias=True) for item in order.spec.items],
        "expiresAt": expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _payment_spec(order: Order) -> dict[str, Any]:
    return {
        "amount": order.spec.quote.amounts.total,
        "currency": order.spec.quote.currency,
        "method": order.spec.payment_method,
        "capture": "Automatic",
    }


def _shipment_spec(order: Order) -> dict[str, Any]:
    grams = sum(line.weight_grams * line.quantity for line in order.spec.quote.lines)
    boxes = -(-grams // PARCEL_GRAMS)
    each = -(-grams // boxes)
    parcel = {
        "weightGrams": each,
        "lengthMillimetres": 400,
        "widthMillimetres": 300,
        "heightMillimetres": 200,
    }
    return {
        "address": order.spec.address.model_dump(mode="json", by_alias=True, exclude_none=True),
        "parcels": [parcel] * boxes,
        "service": "Standard",
    }


_SPECS = {
    Kind.RESERVATION: _reservation_spec,
    Kind.PAYMENT: _payment_spec,
    Kind.SHIPMENT: _shipment_spec,
}


def _own(child: R | None, order: Order) -> R | None:
    return child if child is not None and is_own(child, order) else None
