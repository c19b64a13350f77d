"""An order's children: what they should be, and which of them are there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from orderplane.controllers.engine.cluster import Cluster
from orderplane.crds.meta import (
    API_VERSION,
    CANCEL_SHIPMENT_FINALIZER,
    ORDER_LABEL,
    REFUND_PAYMENT_FINALIZER,
    RELEASE_STOCK_FINALIZER,
    SHARD_LABEL,
    TRACEPARENT_ANNOTATION,
    ApiModel,
    Kind,
    Manifest,
    ManifestMeta,
    OrderRef,
    OwnerReference,
    Resource,
)
from orderplane.crds.order import Order
from orderplane.crds.payment import Payment, PaymentSpec
from orderplane.crds.reservation import Reservation, ReservationSpec
from orderplane.crds.shipment import Parcel, Service, Shipment, ShipmentSpec

Child = Reservation | Payment | Shipment
C = TypeVar("C", Reservation, Payment, Shipment)

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

    def get(self, kind: Kind) -> Child | None:
        """The child of that kind."""
        return {
            Kind.RESERVATION: self.reservation,
            Kind.PAYMENT: self.payment,
            Kind.SHIPMENT: self.shipment,
        }[kind]

    def present(self) -> tuple[tuple[Kind, Child], ...]:
        """Those that exist, in the order in which they were made."""
        kinds = (Kind.RESERVATION, Kind.PAYMENT, Kind.SHIPMENT)
        return tuple((kind, child) for kind in kinds if (child := self.get(kind)) is not None)


def is_own(child: Resource, order: Order) -> bool:
    """Whether this order, and not an older one of the same name or somebody else, controls the child."""
    return is_controlled_by(child, order.metadata.uid)


def is_controlled_by(child: Resource, uid: str) -> bool:
    """Whether the object with this uid is the child's controller."""
    return any(reference.controller and reference.uid == uid for reference in child.metadata.owner_references)


def is_held_by_us(kind: Kind, child: Resource) -> bool:
    """Whether our finalizer still keeps the child; others' may keep it for as long as they like."""
    return FINALIZERS[kind] in child.metadata.finalizers


def is_as_planned(child: Resource, order: Order) -> bool:
    """Whether a child that was found in place of a new one is the one that the order asks for."""
    match child:
        case Reservation():
            planned = child.spec == _reservation_spec(order)
        case Payment():
            planned = child.spec == _payment_spec(order)
        case Shipment():
            planned = child.spec == _shipment_spec(order)
        case _:
            planned = False
    return planned and not child.is_deleting


def manifest_of(kind: Kind, order: Order) -> Manifest:
    """The child as it is to be created, finalizer and owner included."""
    labels = {ORDER_LABEL: order.metadata.name}
    if shard := order.metadata.labels.get(SHARD_LABEL):
        labels[SHARD_LABEL] = shard
    annotations = {}
    if traceparent := order.metadata.annotations.get(TRACEPARENT_ANNOTATION):
        annotations[TRACEPARENT_ANNOTATION] = traceparent
    owner = OwnerReference(
        api_version=API_VERSION,
        kind=Kind.ORDER,
        name=order.metadata.name,
        uid=order.metadata.uid,
        controller=True,
        block_owner_deletion=True,
    )
    return Manifest(
        kind=kind,
        metadata=ManifestMeta(
            name=order.child_name,
            namespace=order.metadata.namespace,
            labels=labels,
            annotations=annotations,
            finalizers=(FINALIZERS[kind],),
            owner_references=(owner,),
        ),
        spec=_SPECS[kind](order),
    )


def _reservation_spec(order: Order) -> ReservationSpec:
    # Without an end: its time begins when the stock is held, not when the order was made.
    return ReservationSpec(order_ref=_reference(order), items=order.spec.items)


def _payment_spec(order: Order) -> PaymentSpec:
    quote = order.spec.quote
    return PaymentSpec(
        order_ref=_reference(order),
        amount=quote.amounts.total,
        currency=quote.currency,
        method=order.spec.payment_method,
    )


def _shipment_spec(order: Order) -> ShipmentSpec:
    grams = sum(line.weight_grams * line.quantity for line in order.spec.quote.lines)
    boxes = -(-grams // PARCEL_GRAMS)
    parcel = Parcel(
        weight_grams=-(-grams // boxes), length_millimetres=400, width_millimetres=300, height_millimetres=200
    )
    return ShipmentSpec(
        order_ref=_reference(order),
        address=order.spec.address,
        parcels=(parcel,) * boxes,
        service=Service.STANDARD,
    )


_SPECS: Mapping[Kind, Callable[[Order], ApiModel]] = {
    Kind.RESERVATION: _reservation_spec,
    Kind.PAYMENT: _payment_spec,
    Kind.SHIPMENT: _shipment_spec,
}


def _reference(order: Order) -> OrderRef:
    return OrderRef(name=order.metadata.name, uid=order.metadata.uid)


def _own(child: C | None, order: Order) -> C | None:
    return child if child is not None and is_own(child, order) else None
