"""One order for people: what happened, what it waits for, what can be done about it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from orderplane.client.operation_responses import Message
from orderplane.client.responses import Condition, Order, Refund, Timeline
from orderplane.crds.order import FINISHED, OrderCondition, OrderPhase
from orderplane.crds.reasons import Reason
from orderplane.events.types import EventType


class Deed(StrEnum):
    """What a person can do about an order."""

    CANCEL = "cancel"
    RETRY = "retry"
    SETTLE = "settle"
    REFUND = "refund"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the story.

    Args:
        kind: What it looks like: step, back, message, end.
    """

    at: str
    kind: str
    title: str
    reason: str | None = None
    detail: str = ""
    actor: str | None = None


_EVENTS: dict[str, tuple[str, str]] = {
    EventType.ORDER_CREATED: ("step", "Placed"),
    EventType.INVENTORY_RESERVED: ("step", "Stock reserved"),
    EventType.INVENTORY_RELEASED: ("back", "Stock released"),
    EventType.PAYMENT_SUCCESS: ("step", "Payment captured"),
    EventType.PAYMENT_FAILED: ("back", "Payment declined"),
    EventType.PAYMENT_CANCELLED: ("back", "Payment cancelled before money was taken"),
    EventType.PAYMENT_REFUNDED: ("back", "Payment refunded"),
    EventType.PAYMENT_WITHDRAWN: ("back", "Money left the payment at the provider"),
    EventType.ORDER_RETRIED: ("step", "Tried again on request"),
    EventType.REFUND_REQUESTED: ("back", "Refund asked for"),
    EventType.ORDER_SHIPPED: ("step", "Label bought, ready for the carrier"),
    EventType.SHIPMENT_CANCELLED: ("back", "Label taken back"),
    EventType.ORDER_DELIVERED: ("end", "Delivered"),
    EventType.ORDER_RETURNED: ("end", "Came back to the shop"),
    EventType.ORDER_FAILED: ("end", "Failed; everything was taken back"),
    EventType.ORDER_CANCELLED: ("end", "Cancelled; everything was taken back"),
}

_STEPS = {
    "CancelShipment": "Undone: shipment",
    "CancelPayment": "Undone: payment",
    "RefundPayment": "Undone: money",
    "ReleaseStock": "Undone: stock",
}

_WAITS = {
    OrderPhase.PENDING: "Its stock is being reserved.",
    OrderPhase.RESERVED: "Its payment is being taken.",
    OrderPhase.PAID: "Its label is being bought.",
    OrderPhase.SHIPPED: "The carrier brings it. Until the first scan it can still be cancelled.",
    OrderPhase.COMPENSATING: "What was done is being taken back: first the label, then payment and stock.",
}

_ADVICE: dict[str, str] = {
    Reason.REFUND_FAILED: "Pay the customer back outside of the provider, then record that. Or refund at the "
    "provider: it is seen within a minute.",
    Reason.VOID_REJECTED: "Destroy the label so that the parcel is not handed over, then record that.",
    Reason.PAYMENT_DISPUTED: "Nothing can be refunded until the bank has decided. Answer the dispute at the "
    "payment provider.",
    Reason.PAYMENT_UNKNOWN: "Check that the payment provider's key is of the account that was paid.",
    Reason.PAYMENTS_UNAUTHORIZED: "Give the operator a key that the payment provider takes, then retry.",
    Reason.CARRIER_UNAUTHORIZED: "Give the operator a key that the carrier takes, or add funds, then retry.",
    Reason.STRAY_PARCEL: "Stop the parcel at the carrier, or leave it to the customer, then record that.",
}
_ANY_ADVICE = "It is tried once a minute. When the cause is gone, retry it to go on at once."

_BY_HAND = frozenset({Reason.REFUND_FAILED, Reason.VOID_REJECTED, Reason.VOID_UNANSWERED})
_SOLD = frozenset({OrderPhase.SHIPPED, OrderPhase.DELIVERED, OrderPhase.RETURNED})


def stalled(order: Order) -> Condition | None:
    """The condition that says why it waits for a person; None where it does not."""
    return _true(order, OrderCondition.STALLED)


def _true(order: Order, type_: OrderCondition) -> Condition | None:
    for condition in order["conditions"]:
        if condition["type"] == type_ and condition["status"] == "True":
            return condition
    return None


def is_finished(order: Order) -> bool:
    """Whether nothing more happens to it by itself."""
    return order["phase"] in FINISHED


def waits_for(order: Order) -> str:
    """What it waits for now, as a sentence; empty once it has ended."""
    if condition := stalled(order):
        return f"It waits for a person. {condition['message']}".strip()
    if (condition := _true(order, OrderCondition.RECONCILING)) and condition["reason"] != Reason.PROGRESSING:
        return condition["message"]
    if order["cancelRequested"] and not is_finished(order) and order["phase"] != OrderPhase.COMPENSATING:
        return "Its cancellation was asked for, and is being decided."
    return _WAITS.get(OrderPhase(order["phase"]), "")


def advice(order: Order) -> str:
    """What a person can do about what it waits for; empty where nobody has to."""
    condition = stalled(order)
    if condition is None:
        return ""
    return _ADVICE.get(condition["reason"], _ANY_ADVICE)


def deeds(order: Order) -> tuple[Deed, ...]:
    """What its state allows. The API decides once more."""
    condition, phase = stalled(order), order["phase"]
    found = []
    if not is_finished(order) and phase != OrderPhase.COMPENSATING and not order["cancelRequested"]:
        found.append(Deed.CANCEL)
    if condition is not None:
        found.append(Deed.RETRY)
    if condition is not None and condition["reason"] in _BY_HAND:
        found.append(Deed.SETTLE)
    if phase in _SOLD:
        found.append(Deed.REFUND)
    return tuple(found)


def story(
    order: Order, timeline: Timeline, messages: Sequence[Message], refunds: Sequence[Refund]
) -> list[Entry]:
    """Everything that is known of the order, oldest first."""
    entries = [
        _event(event["type"], event["at"], event["reason"], event["actor"]) for event in timeline["events"]
    ]
    if not entries:
        entries.append(Entry(order["createdAt"], "step", "Accepted"))
    entries += [
        Entry(step["at"], "back", _STEPS.get(step["step"], step["step"]), detail=step["reference"])
        for step in timeline["compensation"]
    ]
    entries += [
        Entry(phase["at"], "back", "Compensation began")
        for phase in timeline["phases"]
        if phase["phase"] == OrderPhase.COMPENSATING
    ]
    entries += [
        Entry(message["endedAt"], "message", _message(message), reason=message["reason"])
        for message in messages
        if message["endedAt"] is not None
    ]
    entries += [
        Entry(refund["requestedAt"], "back", f"Refund {refund['phase']}", detail=refund["reason"])
        for refund in refunds
    ]
    return sorted(entries, key=lambda entry: entry.at)


def _event(type_: str, at: str, reason: str | None, actor: str | None) -> Entry:
    kind, title = _EVENTS.get(type_, ("step", type_))
    return Entry(at, kind, title, reason=reason, detail=type_, actor=actor)


def _message(message: Message) -> str:
    what = f"{message['channel']} about {message['event']}"
    match message["state"]:
        case "Sent":
            return f"Sent {what}"
        case "Dead":
            return f"Gave up {what}"
        case "Superseded":
            return f"Left out {what}: a later one was sent"
        case _:
            return f"Sent no {what}"


def kubectl(merchant: str, order_id: str) -> str:
    """The command that shows the same in a terminal."""
    return f"kubectl -n {merchant} describe order {order_id}"
