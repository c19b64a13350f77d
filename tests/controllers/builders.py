"""Orders, children and gates for tables: `an_order(cancel=True)`, `a_gate(reservation=HELD)`."""

from datetime import UTC, datetime, timedelta
from typing import Any

from orderplane.controllers.order.children import Children, manifest_of
from orderplane.crds.meta import Kind
from orderplane.crds.order import Order
from orderplane.crds.payment import Payment
from orderplane.crds.reservation import Reservation
from orderplane.crds.shipment import Shipment
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.payments import PaymentEntry, RefundEntry
from orderplane.ledgers.shipments import Label, ShipmentEntry
from orderplane.ledgers.states import (
    GateState,
    PaymentState,
    RefundState,
    ReservationState,
    ShipmentState,
    TrackingStatus,
    VoidState,
)
from orderplane.ledgers.stock import ReservationEntry

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
UID = "6ae2f075-abd2-43af-9df4-f9c7c4c8e8a2"


def an_order(
    *,
    deleting: bool = False,
    status: dict[str, Any] | None = None,
    finalizers: tuple[str, ...] = ("orderplane.dev/compensate",),
    annotations: dict[str, str] | None = None,
    **spec: Any,
) -> Order:
    metadata: dict[str, Any] = {
        "name": "tea",
        "namespace": "shop",
        "uid": UID,
        "resourceVersion": "7",
        "generation": 1,
        "creationTimestamp": NOW.isoformat(),
        "labels": {"orderplane.dev/shard": "3"},
        "finalizers": list(finalizers),
        "annotations": annotations or {},
    }
    if deleting:
        metadata["deletionTimestamp"] = NOW.isoformat()
    return Order.model_validate(
        {
            "metadata": metadata,
            "spec": {
                "customer": "c-1",
                "items": [{"sku": "TEA", "quantity": 2}],
                "quote": {
                    "currency": "EUR",
                    "lines": [{"sku": "TEA", "quantity": 2, "unitAmount": 500, "weightGrams": 100}],
                    "amounts": {"items": 1000, "shipping": 0, "tax": 0, "discount": 0, "total": 1000},
                },
                "address": {"name": "A", "line1": "1 S", "city": "C", "postalCode": "1", "country": "NL"},
                "paymentMethod": "pm_card_visa",
                "cancel": False,
                **spec,
            },
            "status": status or {},
        }
    )


def a_child(
    kind: Kind,
    *,
    deleting: bool = False,
    order: Order | None = None,
    finalizers: tuple[str, ...] | None = None,
) -> Any:
    manifest = manifest_of(kind, order or an_order()).document()
    metadata = {
        **manifest["metadata"],
        "uid": f"{kind}-uid",
        "resourceVersion": "9",
        "creationTimestamp": NOW.isoformat(),
    }
    if deleting:
        metadata["deletionTimestamp"] = NOW.isoformat()
    if finalizers is not None:
        metadata["finalizers"] = list(finalizers)
    model = {Kind.RESERVATION: Reservation, Kind.PAYMENT: Payment, Kind.SHIPMENT: Shipment}[kind]
    return model.model_validate({**manifest, "metadata": metadata})


def children(*kinds: Kind, deleting: tuple[Kind, ...] = ()) -> Children:
    made = {kind.value.lower(): a_child(kind, deleting=kind in deleting) for kind in (*kinds, *deleting)}
    return Children(**made)


def a_gate(state: GateState = GateState.OPEN, **facts: Any) -> Gate:
    if state is GateState.COMPENSATING:
        facts = {"reason": "CardDeclined", "message": "no", **facts}
    return Gate("shop", UID, "tea", state, **facts)


def a_reservation_entry(
    state: ReservationState, *, expired: bool = False, ago: timedelta = timedelta()
) -> ReservationEntry:
    left = timedelta(seconds=-1 if expired else 60) - ago
    return ReservationEntry(state, None, NOW + left, left)


def a_payment_entry(state: PaymentState, intent: str | None = "pi_1", **more: Any) -> PaymentEntry:
    facts: dict[str, Any] = {
        "amount": 1000,
        "currency": "EUR",
        "method": "pm_card_visa",
        "create_attempt": 1,
        "confirm_attempt": int(intent is not None),
        "confirm_age": timedelta(seconds=5) if intent else None,
        "confirm_begun_by": "operator-0" if intent else None,
        "captured": 0,
        "reason": None,
        "message": None,
    }
    return PaymentEntry(order_uid=UID, state=state, intent_id=intent, **{**facts, **more})


def refunds(state: RefundState, reason: str | None = None) -> tuple[RefundEntry, ...]:
    return (RefundEntry("r1", 1000, state, None, 1, reason),)


LABEL = Label("1Z999", "trk_1", "https://track/1Z999", "SandboxPost", "Ground", 758, "EUR")


def a_shipment_entry(
    state: ShipmentState, provider: str | None = "shp_1", *, begun_ago: float = 5, **more: Any
) -> ShipmentEntry:
    facts: dict[str, Any] = {
        "rate_id": "rate",
        "buy_age": timedelta(seconds=begun_ago) if provider else None,
        "buy_attempt": int(provider is not None),
        "buy_begun_by": "operator-0" if provider else None,
        "label": None,
        "void": VoidState.NONE,
        "tracking_status": TrackingStatus.PRE_TRANSIT,
        "pickup": None,
        "reason": None,
        "message": None,
    }
    return ShipmentEntry(order_uid=UID, state=state, provider_id=provider, **{**facts, **more})
