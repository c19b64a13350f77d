"""Events: each effect has one event, in order, and it reaches its topic."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import orjson

from orderplane.audit.snapshot import EventRow, Message, Snapshot, Violation
from orderplane.events.types import EventType, event_id
from orderplane.ledgers.states import (
    EVER_CAPTURED,
    PAID_BACK,
    Outcome,
    PaymentState,
    ReservationState,
    ShipmentState,
)

TOPICS_KEEP = timedelta(days=6)
"""Topics are kept for seven days; near that, a message may or may not be there."""

_RELEASED = (ReservationState.EXPIRED, ReservationState.LOST, ReservationState.RELEASED)
_ENDS = {
    EventType.ORDER_FAILED,
    EventType.ORDER_CANCELLED,
    EventType.ORDER_DELIVERED,
    EventType.ORDER_RETURNED,
}
_AFTER_THE_SALE = {EventType.REFUND_REQUESTED, EventType.PAYMENT_REFUNDED, EventType.PAYMENT_WITHDRAWN}


def sequences_are_dense(snapshot: Snapshot) -> Iterator[Violation]:
    """1, 2, 3... per order, up to the last number that its row has given."""
    given: dict[str, list[int]] = defaultdict(list)
    for event in snapshot.tables["history"]:
        given[str(event["subject"])].append(event["seq"])
    newest = {str(row["uid"]): row["seq"] for row in snapshot.tables["orders"]}
    for subject in given.keys() | newest.keys():
        numbers = sorted(given[subject])
        expected = list(range(1, newest.get(subject, len(numbers)) + 1))
        if numbers != expected:
            yield Violation("sequence-dense", subject, f"has {numbers}, expected 1 to {len(expected)}")


def every_effect_has_its_event(snapshot: Snapshot) -> Iterator[Violation]:
    """Each row of a ledger has exactly the events that its state says."""
    events = Counter(str(row["event_id"]) for row in snapshot.tables["history"])
    for effect, type_, is_due, what in _effects(snapshot):
        count = events.pop(str(event_id(effect, type_)), 0)
        if count != int(is_due):
            yield Violation("event-count", what, f"{type_} is there {count} times, should be {int(is_due)}")
    for stray in events:
        yield Violation("event-unknown", stray, "is in the history, but no ledger row has this effect")


def nothing_happens_after_the_end(snapshot: Snapshot) -> Iterator[Violation]:
    """An order's end is its last event, but for refunds after the sale."""
    sold = snapshot.sold()
    last: dict[str, EventRow] = {}
    for event in snapshot.tables["history"]:
        if event["type"] in _AFTER_THE_SALE and event["subject"] in sold:
            continue
        known = last.get(str(event["subject"]))
        if known is None or event["seq"] > known["seq"]:
            last[str(event["subject"])] = event
    for event_row in snapshot.tables["history"]:
        if event_row["type"] not in _ENDS:
            continue
        end = last[str(event_row["subject"])]
        if end["seq"] != event_row["seq"]:
            yield Violation(
                "event-after-end",
                f"{event_row['merchant']}/{event_row['name']}",
                f"{end['type']} came after {event_row['type']}",
            )


def nothing_is_done_after_the_seal(snapshot: Snapshot) -> Iterator[Violation]:
    """After the seal only the event of the end may follow, and refunds of what was sold."""
    sold = snapshot.sold()
    sealed = {row["uid"]: row["sealed_at"] for row in snapshot.tables["orders"] if row["sealed_at"]}
    for event in snapshot.tables["history"]:
        at = sealed.get(event["subject"])
        is_refund = event["type"] in _AFTER_THE_SALE and event["subject"] in sold
        if at is not None and event["type"] not in _ENDS and not is_refund and event["at"] > at:
            yield Violation(
                "effect-after-seal",
                f"{event['merchant']}/{event['name']}",
                f"{event['type']} at {event['at']}, sealed at {at}",
            )


def history_is_in_the_topics(snapshot: Snapshot) -> Iterator[Violation]:
    """Every event is in its topic, with its content, as long as topics are kept; nothing else is there."""
    if snapshot.messages is None:
        return
    rows = {str(row["event_id"]): row for row in snapshot.tables["history"]}
    by_id: dict[str, list[Message]] = defaultdict(list)
    for message in snapshot.messages:
        by_id[message.event_id].append(message)
    for id_, row in rows.items():
        found = by_id.get(id_, [])
        is_kept = snapshot.taken_at - row["at"] < TOPICS_KEEP
        if is_kept and not any(message.topic == row["type"] for message in found):
            yield Violation(
                "not-in-topic", id_, f"{row['type']} of {row['merchant']}/{row['name']} is not in its topic"
            )
        for message in found:
            is_same = (message.topic, message.key, message.sequence) == (
                row["type"], str(row["subject"]), row["seq"],
            )  # fmt: skip
            if not is_same or _read(message.value) != row["data"]:
                yield Violation("message-differs", id_, f"in {message.topic} it is not what the history says")
    for id_ in by_id.keys() - rows.keys():
        yield Violation("message-unknown", id_, f"is in {by_id[id_][0].topic}, but not in the history")


def first_messages_are_in_order(snapshot: Snapshot) -> Iterator[Violation]:
    """Per order, each event reached the broker for the first time after the one before it."""
    first: dict[str, Message] = {}
    for message in snapshot.messages or ():
        known = first.get(message.event_id)
        if known is None or message.appended_at < known.appended_at:
            first[message.event_id] = message
    subjects: dict[str, list[Message]] = defaultdict(list)
    for message in first.values():
        subjects[message.key].append(message)
    for subject, messages in subjects.items():
        messages.sort(key=lambda message: message.sequence)
        for before, after in pairwise(messages):
            is_same_log = (before.topic, before.partition) == (after.topic, after.partition)
            if after.appended_at < before.appended_at or (is_same_log and after.offset < before.offset):
                yield Violation(
                    "message-order",
                    subject,
                    f"{after.topic} ({after.sequence}) came before {before.topic} ({before.sequence})",
                )


def _read(value: bytes) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return None


def _effects(snapshot: Snapshot) -> Iterator[tuple[UUID, EventType, bool, str]]:
    """Each effect that may have an event: its id, the event, whether it is due, and what it is about."""
    for order in snapshot.tables["orders"]:
        what = f"{order['merchant']}/{order['name']}"
        yield order["uid"], EventType.ORDER_CREATED, True, what
        yield order["uid"], EventType.ORDER_DELIVERED, order["outcome"] == Outcome.DELIVERED, what
        is_returned = order["outcome"] == Outcome.SHIPPED and order["finished_at"] is not None
        yield order["uid"], EventType.ORDER_RETURNED, is_returned, what
        yield order["uid"], EventType.ORDER_FAILED, order["outcome"] == Outcome.FAILED, what
        yield order["uid"], EventType.ORDER_CANCELLED, order["outcome"] == Outcome.CANCELLED, what
    for retry in snapshot.tables["retries"]:
        yield retry["id"], EventType.ORDER_RETRIED, True, f"retry {retry['id']}"
    lost = snapshot.lost()
    for reservation in snapshot.tables["reservations"]:
        what = f"{reservation['merchant']}/{reservation['name']}"
        yield (
            reservation["holder"],
            EventType.INVENTORY_RESERVED,
            reservation["state"] != ReservationState.REJECTED,
            what,
        )
        # Goods that a recount took were released, also where they turned out to have left.
        is_released = reservation["state"] in _RELEASED or reservation["holder"] in lost
        yield reservation["holder"], EventType.INVENTORY_RELEASED, is_released, what
    for payment in snapshot.tables["payments"]:
        what = f"{payment['merchant']}/{payment['name']}"
        is_captured = payment["state"] in EVER_CAPTURED
        yield payment["order_uid"], EventType.PAYMENT_SUCCESS, is_captured, what
        yield (
            payment["order_uid"],
            EventType.PAYMENT_CANCELLED,
            payment["state"] == PaymentState.CANCELLED,
            what,
        )
        is_declined = payment["reason"] is not None or payment["state"] == PaymentState.DECLINED
        yield payment["order_uid"], EventType.PAYMENT_FAILED, is_declined, what
    asked = {row["refund_id"] for row in snapshot.tables["refund_requests"]}
    for refund_row in snapshot.tables["refunds"]:
        is_asked = refund_row["id"] in asked
        yield refund_row["id"], EventType.REFUND_REQUESTED, is_asked, f"refund {refund_row['id']}"
        is_back = refund_row["state"] in PAID_BACK
        yield refund_row["id"], EventType.PAYMENT_REFUNDED, is_back, f"refund {refund_row['id']}"
    for withdrawal in snapshot.tables["withdrawals"]:
        what = f"withdrawal {withdrawal['provider_id']}"
        yield withdrawal["id"], EventType.PAYMENT_WITHDRAWN, True, what
    for shipment in snapshot.tables["shipments"]:
        what = f"{shipment['merchant']}/{shipment['name']}"
        is_void = shipment["state"] == ShipmentState.VOIDED
        yield shipment["order_uid"], EventType.SHIPMENT_CANCELLED, is_void, what
        # A label that was recorded while the order was compensated has shipped nothing.
        yield shipment["order_uid"], EventType.ORDER_SHIPPED, shipment["is_shipped"], what
