"""What an Order's status says, and what of it is news.

Pure. Conditions are told from the ledgers; the phase is told from the conditions.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from orderplane.controllers.engine.backoff import FailureState
from orderplane.controllers.engine.conditions import STALLED, Fact, find, is_true, with_facts
from orderplane.controllers.order.children import Children
from orderplane.crds.meta import RETRY_ANNOTATION, Condition, Kind
from orderplane.crds.order import (
    Compensation,
    Order,
    OrderCondition,
    OrderPhase,
    OrderStatus,
    TrackingInfo,
)
from orderplane.ledgers.gate import (
    Gate,
    GateState,
    Outcome,
    PaymentState,
    ReservationState,
    ShipmentState,
    TrackingStatus,
)

_MAIN_CONDITION = {
    Kind.RESERVATION: (OrderCondition.RESERVED, "Held"),
    Kind.PAYMENT: (OrderCondition.PAID, "Captured"),
    Kind.SHIPMENT: (OrderCondition.SHIPPED, "Scheduled"),
}
"""Which condition of the order follows which of the child's."""


@dataclass(frozen=True, slots=True)
class News:
    """One Kubernetes Event to be made."""

    type: Literal["Normal", "Warning"]
    reason: str
    note: str


def status_of(
    order: Order,
    gate: Gate,
    children: Children,
    compensation: tuple[Compensation, ...],
    trouble: FailureState | None,
    now: datetime,
) -> OrderStatus:
    """The status as it should be; equal to the old one where nothing is new."""
    before = order.status
    facts = (
        *_progress(gate),
        *_waiting(gate, children),
        *_end(order, gate),
        _stall(before, children, trouble),
    )
    generation = order.metadata.generation
    told = with_facts(before.conditions, [fact for fact in facts if fact], generation, now)
    conditions = tuple(c for c in told if not _is_idle_stall(c))
    return OrderStatus(
        observed_generation=generation,
        phase=phase_of(conditions, gate.outcome),
        reason=None if gate.outcome in (Outcome.SHIPPED, Outcome.DELIVERED) else gate.reason,
        conditions=conditions,
        compensation=compensation or before.compensation,
        tracking=_tracking(gate) or before.tracking,
        finished_at=gate.finished_at,
        handled_retry=order.metadata.annotations.get(RETRY_ANNOTATION),
    )


def phase_of(conditions: tuple[Condition, ...], outcome: Outcome | None) -> OrderPhase:
    """The one word for a set of conditions."""
    if is_true(conditions, OrderCondition.CANCELLED):
        return OrderPhase.CANCELLED
    if is_true(conditions, OrderCondition.FAILED):
        return OrderPhase.FAILED
    if outcome is None and find(conditions, OrderCondition.UNDONE) is not None:
        return OrderPhase.COMPENSATING
    for condition, phase in (
        (OrderCondition.DELIVERED, OrderPhase.DELIVERED),
        (OrderCondition.SHIPPED, OrderPhase.SHIPPED),
        (OrderCondition.PAID, OrderPhase.PAID),
        (OrderCondition.RESERVED, OrderPhase.RESERVED),
    ):
        if is_true(conditions, condition):
            return phase
    return OrderPhase.PENDING


def news(before: OrderStatus, after: OrderStatus) -> list[News]:
    """The Events that a change of status is worth: one for each step forward, failure and undone step."""
    items: list[News] = []
    for condition in after.conditions:
        old = find(before.conditions, condition.type)
        if old is None or old.status != condition.status:
            item = _announce(condition)
            if item is not None:
                items.append(item)
    known = {(entry.step, entry.reference) for entry in before.compensation}
    items += [
        News("Normal", f"{entry.step}Done", f"{entry.step} is done, reference {entry.reference}.")
        for entry in after.compensation
        if (entry.step, entry.reference) not in known
    ]
    return items


def _announce(condition: Condition) -> News | None:
    match condition.type, condition.status:
        case (("Reserved" | "Paid" | "Shipped" | "Delivered" | "Cancelled"), "True"):
            return News("Normal", condition.type, condition.message)
        case "Undone", "False":
            return News("Warning", "Compensating", f"{condition.reason}: {condition.message}")
        case "Cancelled", "False":
            return News("Warning", "TooLateToCancel", condition.message)
        case (("Failed" | "Stalled"), "True"):
            return News("Warning", condition.type, f"{condition.reason}: {condition.message}")
    return None


def _progress(gate: Gate) -> list[Fact | None]:
    return [_reserved(gate), _paid(gate), _shipped(gate), _delivered(gate)]


def _reserved(gate: Gate) -> Fact | None:
    type_ = OrderCondition.RESERVED
    match gate.reservation:
        case None:
            return None
        case ReservationState.HELD | ReservationState.PINNED | ReservationState.COMMITTED:
            return Fact(type_, "True", "StockHeld", "Every item is kept for this order.")
        case ReservationState.REJECTED:
            return Fact(type_, "False", "OutOfStock", gate.reservation_message or "")
        case state:
            return Fact(type_, "False", f"Stock{state}", "The stock is not kept for this order any more.")


def _paid(gate: Gate) -> Fact | None:
    type_ = OrderCondition.PAID
    match gate.payment:
        case None | PaymentState.INTENDED:
            return None
        case PaymentState.CAPTURED:
            return Fact(type_, "True", "PaymentCaptured", "The whole amount was taken.")
        case PaymentState.REFUNDED:
            return Fact(type_, "False", "Refunded", "The whole amount was given back.")
        case PaymentState.DECLINED | PaymentState.CANCELLED:
            reason = gate.payment_reason or "PaymentCancelled"
            return Fact(type_, "False", reason, gate.payment_message or "No money was taken.")


def _shipped(gate: Gate) -> Fact | None:
    type_ = OrderCondition.SHIPPED
    match gate.shipment:
        case None | ShipmentState.INTENDED:
            return None
        case ShipmentState.BOUGHT:
            return Fact(type_, "True", "LabelBought", f"{gate.carrier} carries it as {gate.tracking_code}.")
        case ShipmentState.REFUSED:
            return Fact(
                type_, "False", gate.shipment_reason or "ShipmentRefused", gate.shipment_message or ""
            )
        case ShipmentState.VOIDED:
            return Fact(type_, "False", "LabelVoided", "The label was taken back.")
        case ShipmentState.CANCELLED:
            return Fact(type_, "False", "ShipmentCancelled", "No label was bought.")


def _delivered(gate: Gate) -> Fact | None:
    match gate.tracking_status:
        case TrackingStatus.DELIVERED:
            return Fact(OrderCondition.DELIVERED, "True", "Delivered", "The carrier has delivered it.")
        case TrackingStatus.RETURNED:
            return Fact(OrderCondition.DELIVERED, "False", "Returned", "The carrier is bringing it back.")
        case _:
            return None


def _waiting(gate: Gate, children: Children) -> list[Fact | None]:
    """What a child says it is waiting for, where its ledger has no answer yet."""
    if gate.state is not GateState.OPEN:
        return []
    facts: list[Fact | None] = []
    for kind, child in children.present():
        own, its = _MAIN_CONDITION[kind]
        condition = find(child.status.conditions, its)  # type: ignore[attr-defined]
        is_open = {
            Kind.RESERVATION: gate.reservation is None,
            Kind.PAYMENT: gate.payment in (None, PaymentState.INTENDED),
            Kind.SHIPMENT: gate.shipment in (None, ShipmentState.INTENDED),
        }[kind]
        if is_open and condition is not None and condition.status == "False":
            facts.append(Fact(own, "False", condition.reason, condition.message))
    return facts


def _end(order: Order, gate: Gate) -> list[Fact | None]:
    reason, message = gate.reason or "Unknown", gate.message or ""
    if gate.state is GateState.COMPENSATING:
        return [Fact(OrderCondition.UNDONE, "False", reason, message)]
    if gate.outcome is Outcome.FAILED:
        return [
            Fact(OrderCondition.UNDONE, "True", reason, "Everything was undone."),
            Fact(OrderCondition.FAILED, "True", reason, message),
        ]
    if gate.outcome is Outcome.CANCELLED:
        return [
            Fact(OrderCondition.UNDONE, "True", reason, "Everything was undone."),
            Fact(OrderCondition.CANCELLED, "True", reason, message),
        ]
    if gate.outcome is not None and (order.spec.cancel or gate.is_cancel):
        late = "The carrier had it already; money and goods stay as they are."
        return [
            Fact(OrderCondition.CANCELLED, "False", "AlreadyInTransit", late),
            Fact(OrderCondition.UNDONE, "False", "AlreadyInTransit", late),
        ]
    return []


def _stall(before: OrderStatus, children: Children, trouble: FailureState | None) -> Fact | None:
    """The order is stalled when it is parked itself, when a child of it is, or when a refund failed."""
    if trouble is not None and trouble.is_stalled:
        return Fact(STALLED, "True", trouble.reason, trouble.message)
    for _, child in children.present():
        condition = find(child.status.conditions, STALLED)  # type: ignore[attr-defined]
        if condition is not None and condition.status == "True":
            return Fact(STALLED, "True", condition.reason, condition.message)
        refunded = find(child.status.conditions, "Refunded")  # type: ignore[attr-defined]
        if refunded is not None and refunded.reason == "RefundFailed":
            return Fact(STALLED, "True", refunded.reason, refunded.message)
    if trouble is not None or find(before.conditions, STALLED) is None:
        return None
    return Fact(STALLED, "False", "Resumed", "It goes on.")


def _is_idle_stall(condition: Condition) -> bool:
    return condition.type == STALLED and condition.status == "False"


def _tracking(gate: Gate) -> TrackingInfo | None:
    if not (gate.tracking_code and gate.tracking_url and gate.carrier):
        return None
    return TrackingInfo(carrier=gate.carrier, code=gate.tracking_code, url=gate.tracking_url)
