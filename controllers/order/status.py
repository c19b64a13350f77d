"""What an Order's status says, and which Kubernetes Events a change of it is worth.

Pure. Conditions follow from the ledgers; the phase follows from the conditions.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from orderplane.controllers.engine.cluster import KubernetesEvent
from orderplane.controllers.engine.conditions import Fact, find, is_true, with_facts
from orderplane.controllers.engine.delays import RECONCILING, STALLED, Delay, delay_shown, with_delay
from orderplane.controllers.order.children import Children, is_held_by_us
from orderplane.controllers.order.delivery import TROUBLES, delivered_fact
from orderplane.controllers.order.plan import is_under_way
from orderplane.controllers.order.refunds import event_about, is_told, refunds_of
from orderplane.crds.meta import RETRY_ANNOTATION, Condition, Kind
from orderplane.crds.money import decimal_of
from orderplane.crds.order import (
    FINISHED,
    Compensation,
    CompensationStep,
    Order,
    OrderCondition,
    OrderPhase,
    OrderStatus,
    RefundInfo,
    RefundPhase,
    TrackingInfo,
)
from orderplane.crds.reasons import Reason
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.refunds import RefundRequest
from orderplane.ledgers.states import (
    GOODS_LEFT,
    GateState,
    Outcome,
    PaymentState,
    ReservationState,
    ShipmentState,
)

_AT_REST = FINISHED | {OrderPhase.SHIPPED}

_REFUND_UNDER_WAY = (RefundPhase.WAITING, RefundPhase.REQUESTED, RefundPhase.PENDING)

_MAIN_CONDITION = {
    Kind.RESERVATION: (OrderCondition.RESERVED, "Held"),
    Kind.PAYMENT: (OrderCondition.PAID, "Captured"),
    Kind.SHIPMENT: (OrderCondition.SHIPPED, "Scheduled"),
}
"""Which condition of the order follows which of the child's."""


def status_of(
    order: Order,
    gate: Gate,
    children: Children,
    compensation: tuple[Compensation, ...],
    refunds: Sequence[RefundRequest],
    delay: Delay | None,
    now: datetime,
) -> OrderStatus:
    """The status as it should be; equal to the old one where nothing is new."""
    before = order.status
    facts = (
        *_progress(gate, before.conditions),
        *_waiting(gate, children),
        *_end(order, gate, children),
    )
    generation = order.metadata.generation
    conditions = with_facts(before.conditions, [fact for fact in facts if fact], generation, now)
    given_back = refunds_of(order.spec.quote.currency, order.spec.refunds, refunds)
    plain = OrderStatus(
        observed_generation=generation,
        phase=OrderPhase.RETURNED if gate.is_returned else phase_of(conditions, gate.outcome),
        reason=_reason(gate),
        total=decimal_of(order.spec.quote.amounts.total, order.spec.quote.currency),
        conditions=conditions,
        compensation=compensation or before.compensation,
        refunds=given_back,
        tracking=_tracking(gate) or before.tracking,
        finished_at=gate.finished_at,
        handled_retry=order.metadata.annotations.get(RETRY_ANNOTATION),
    )
    is_under_way = _is_under_way(order, gate, given_back)
    return with_delay(plain, delay_with(children, delay), generation, now, is_under_way=is_under_way)


def unread_status_of(order: Order, children: Children, delay: Delay | None, now: datetime) -> OrderStatus:
    """The status of an order whose ledgers could not be read yet: as it was, with what it waits for."""
    return with_delay(
        order.status,
        delay_with(children, delay),
        order.metadata.generation,
        now,
        is_under_way=order.status.phase not in _AT_REST,
    )


def delay_with(children: Children, delay: Delay | None) -> Delay | None:
    """What an order waits for: a person first, then what itself waits for, then what a child does."""
    theirs = [shown for _, child in children.present() if (shown := delay_shown(child.status.conditions))]
    stalled = next((shown for shown in theirs if shown.type == STALLED), None)
    if stalled is not None and not (delay is not None and delay.is_stalled):
        return Delay(stalled.reason, stalled.message, is_stalled=True)
    if theirs and (delay is None or delay.is_quiet):
        return Delay(theirs[0].reason, theirs[0].message)
    return delay


def says_something(conditions: tuple[Condition, ...]) -> bool:
    """Whether they say more than that the order is being worked on, which the defaults of a status say."""
    return any(c.type != RECONCILING for c in conditions) or delay_shown(conditions) is not None


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


def events_of(
    before: OrderStatus, after: OrderStatus, *, cancelled_by: str | None = None
) -> list[KubernetesEvent]:
    """What is new, in the order in which it happened.

    Each warning is an event of its own. Steps with no warning between them are one event, for the last of
    them, whose note names all.

    Args:
        cancelled_by: Who asked to cancel the order, as in `crds.actors`.
    """
    events: list[KubernetesEvent] = []
    # What comes and goes does not count: a place in the story has to grow.
    lasting = [each for each in before.conditions if each.type not in _WAITS]
    told = len(lasting) + len(before.compensation) + sum(map(is_told, before.refunds))
    for step, news in enumerate(_news(before, after), told + 1):
        note = news.note
        if (
            cancelled_by
            and news.reason == Reason.COMPENSATING
            and _why_undone(after) == Reason.CANCEL_REQUESTED
        ):
            note = f"{note} By {cancelled_by}."
        if events and events[-1].type == news.type == "Normal":
            note = f"{events.pop().note} {note}"
        events.append(replace(news, note=note, step=step))
    return events


def _news(before: OrderStatus, after: OrderStatus) -> list[KubernetesEvent]:
    """One for each step forward, each failure and each step of the compensation that is new."""
    steps: list[KubernetesEvent] = []
    ends: list[KubernetesEvent] = []
    waits: list[KubernetesEvent] = []
    for condition in after.conditions:
        event = _event_about(condition)
        if event is not None and _is_news(find(before.conditions, condition.type), condition):
            (ends if condition.type in _ENDS else waits if condition.type in _WAITS else steps).append(event)
    known = {(entry.step, entry.reference) for entry in before.compensation}
    undone = [
        KubernetesEvent("Normal", _DONE[entry.step], f"{entry.step} is done, reference {entry.reference}.")
        for entry in after.compensation
        if (entry.step, entry.reference) not in known
    ]
    told = {refund.name for refund in before.refunds if is_told(refund)}
    refunds = [event_about(refund) for refund in after.refunds if is_told(refund) and refund.name not in told]
    return steps + undone + ends + refunds + waits


_WAITS = (RECONCILING, STALLED)
_ENDS = (OrderCondition.FAILED, OrderCondition.CANCELLED)

_NEWS_BY_REASON = {Reason.STRAY_LABEL, *(fact.reason for fact in TROUBLES.values())}
"""Worth an event of its own, also where the condition had its status before."""

_DONE = {
    CompensationStep.CANCEL_SHIPMENT: Reason.CANCEL_SHIPMENT_DONE,
    CompensationStep.CANCEL_PAYMENT: Reason.CANCEL_PAYMENT_DONE,
    CompensationStep.REFUND_PAYMENT: Reason.REFUND_PAYMENT_DONE,
    CompensationStep.RELEASE_STOCK: Reason.RELEASE_STOCK_DONE,
}


def _is_news(old: Condition | None, condition: Condition) -> bool:
    if old is None or old.status != condition.status:
        return True
    is_by_reason = condition.type in _WAITS or condition.reason in _NEWS_BY_REASON
    return old.reason != condition.reason and is_by_reason


def _why_undone(status: OrderStatus) -> str | None:
    undone = find(status.conditions, OrderCondition.UNDONE)
    return undone.reason if undone is not None else None


def _event_about(condition: Condition) -> KubernetesEvent | None:
    if condition.reason in _NEWS_BY_REASON:
        return KubernetesEvent("Warning", condition.reason, condition.message, can_recur=True)
    match condition.type, condition.status:
        case (("Reserved" | "Paid" | "Shipped" | "Delivered" | "Cancelled"), "True"):
            return KubernetesEvent("Normal", condition.type, condition.message)
        case "Undone", "False":
            note = f"{condition.reason}: {condition.message}"
            return KubernetesEvent("Warning", Reason.COMPENSATING, note)
        case "Cancelled", "False":
            return KubernetesEvent("Warning", Reason.TOO_LATE_TO_CANCEL, condition.message)
        case (("Failed" | "Stalled"), "True"):
            note = f"{condition.reason}: {condition.message}"
            return KubernetesEvent("Warning", condition.type, note, can_recur=condition.type == STALLED)
        case "Reconciling", "True" if condition.reason != Reason.PROGRESSING:
            note = f"{condition.reason}: {condition.message}"
            return KubernetesEvent("Warning", Reason.WAITING, note, can_recur=True)
    return None


def _reason(gate: Gate) -> str | None:
    if gate.outcome not in GOODS_LEFT:
        return gate.reason
    trouble = TROUBLES.get(gate.tracking_status)
    return trouble.reason if trouble else None


def _progress(gate: Gate, before: tuple[Condition, ...]) -> list[Fact | None]:
    has_label = gate.shipment is ShipmentState.BOUGHT
    delivered = delivered_fact(gate.tracking_status, before) if has_label else None
    return [_reserved(gate), _paid(gate), _shipped(gate), delivered]


_STOCK_GONE = {
    ReservationState.EXPIRED: Reason.STOCK_EXPIRED,
    ReservationState.LOST: Reason.STOCK_LOST,
    ReservationState.RELEASED: Reason.STOCK_RELEASED,
}


def _reserved(gate: Gate) -> Fact | None:
    type_ = OrderCondition.RESERVED
    match gate.reservation:
        case None:
            return None
        case ReservationState.HELD | ReservationState.PINNED | ReservationState.COMMITTED:
            return Fact(type_, "True", Reason.STOCK_HELD, "Every item is kept for this order.")
        case ReservationState.REJECTED:
            return Fact(type_, "False", Reason.OUT_OF_STOCK, gate.reservation_message or "")
        case ReservationState.EXPIRED | ReservationState.LOST | ReservationState.RELEASED:
            message = "The stock is not kept for this order any more."
            return Fact(type_, "False", _STOCK_GONE[gate.reservation], message)


def _paid(gate: Gate) -> Fact | None:
    type_ = OrderCondition.PAID
    match gate.payment:
        case None | PaymentState.INTENDED:
            return None
        case PaymentState.CAPTURED:
            return Fact(type_, "True", Reason.PAYMENT_CAPTURED, "The whole amount was taken.")
        case PaymentState.REFUNDED:
            return Fact(type_, "False", Reason.REFUNDED, "The whole amount was given back.")
        case PaymentState.DECLINED | PaymentState.CANCELLED:
            reason = gate.payment_reason or Reason.PAYMENT_CANCELLED
            return Fact(type_, "False", reason, gate.payment_message or "No money was taken.")


def _shipped(gate: Gate) -> Fact | None:
    type_ = OrderCondition.SHIPPED
    match gate.shipment:
        case None | ShipmentState.INTENDED:
            return None
        case ShipmentState.BOUGHT:
            return Fact(
                type_, "True", Reason.LABEL_BOUGHT, f"{gate.carrier} carries it as {gate.tracking_code}."
            )
        case ShipmentState.REFUSED:
            return Fact(
                type_, "False", gate.shipment_reason or Reason.SHIPMENT_REFUSED, gate.shipment_message or ""
            )
        case ShipmentState.STRAY:
            message = "A label was bought after the order was settled without one; it is voided."
            return Fact(type_, "False", Reason.STRAY_LABEL, message)
        case ShipmentState.VOIDED | ShipmentState.DISCARDED:
            return Fact(type_, "False", Reason.LABEL_VOIDED, "The label was taken back.")
        case ShipmentState.CANCELLED:
            return Fact(type_, "False", Reason.SHIPMENT_CANCELLED, "No label was bought.")


def _waiting(gate: Gate, children: Children) -> list[Fact | None]:
    """What a child says it is waiting for, where its ledger has no answer yet."""
    if gate.state is not GateState.OPEN:
        return []
    facts: list[Fact | None] = []
    for kind, child in children.present():
        own, its = _MAIN_CONDITION[kind]
        condition = find(child.status.conditions, its)
        is_open = {
            Kind.RESERVATION: gate.reservation is None,
            Kind.PAYMENT: gate.payment in (None, PaymentState.INTENDED),
            Kind.SHIPMENT: gate.shipment in (None, ShipmentState.INTENDED),
        }[kind]
        if is_open and condition is not None and condition.status == "False":
            facts.append(Fact(own, "False", condition.reason, condition.message))
    return facts


def _end(order: Order, gate: Gate, children: Children) -> list[Fact | None]:
    reason, message = gate.reason or Reason.UNKNOWN, gate.message or ""
    if gate.state is GateState.COMPENSATING:
        return [Fact(OrderCondition.UNDONE, "False", reason, f"{message}{_held_by_others(children)}")]
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
            Fact(OrderCondition.CANCELLED, "False", Reason.ALREADY_IN_TRANSIT, late),
            Fact(OrderCondition.UNDONE, "False", Reason.ALREADY_IN_TRANSIT, late),
        ]
    return []


def _held_by_others(children: Children) -> str:
    """What else has to happen before a compensated order can end: others take their finalizers off."""
    held = [
        f"{kind} {child.metadata.name} ({', '.join(child.metadata.finalizers)})"
        for kind, child in children.present()
        if child.is_deleting and not is_held_by_us(kind, child)
    ]
    return f" It ends when these finalizers are taken off: {'; '.join(held)}." if held else ""


def _is_under_way(order: Order, gate: Gate, refunds: Sequence[RefundInfo]) -> bool:
    match gate.state:
        case GateState.OPEN:
            return is_under_way(gate) or order.spec.cancel or order.is_deleting
        case GateState.COMPENSATING:
            return True
        case GateState.SEALED:
            return any(refund.phase in _REFUND_UNDER_WAY for refund in refunds)


def _tracking(gate: Gate) -> TrackingInfo | None:
    if not (gate.tracking_code and gate.tracking_url and gate.carrier):
        return None
    return TrackingInfo(carrier=gate.carrier, code=gate.tracking_code, url=gate.tracking_url)
