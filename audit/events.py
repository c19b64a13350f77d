"""Events: each effect is told once, in order, and reaches its topic."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import orjson

from orderplane.audit.snapshot import Message, Row, Snapshot, Violation
from orderplane.events.types import EventType, event_id

KEPT = timedelta(days=6)
"""Topics forget after seven days; near that, a message may or may not be there."""

_ENDS = {EventType.ORDER_FAILED, EventType.ORDER_CANCELLED, EventType.ORDER_DELIVERED}


def sequences_are_dense(snapshot: Snapshot) -> Iterator[Violation]:
    """1, 2, 3... per order, up to the number that its gate has given."""
    given: dict[str, list[int]] = defaultdict(list)
    for row in snapshot.tables["history"]:
        given[str(row["subject"])].append(row["seq"])
    newest = {str(row["uid"]): row["seq"] for row in snapshot.tables["orders"]}
    for subject in given.keys() | newest.keys():
        numbers = sorted(given[subject])
        expected = list(range(1, newest.get(subject, len(numbers)) + 1))
        if numbers != expected:
            yield Violation("sequence-dense", subject, f"has {numbers}, expected 1 to {len(expected)}")


def every_effect_is_told(snapshot: Snapshot) -> Iterator[Violation]:
    """Each row of a ledger has just the history rows that its state calls for."""
    told = Counter(str(row["event_id"]) for row in snapshot.tables["history"])
    for effect, type_, is_due, what in _effects(snapshot):
        count = told.pop(str(event_id(effect, type_)), 0)
        if count != int(is_due):
            yield Violation("effect-told", what, f"{type_} was told {count} times, should be {int(is_due)}")
    for stray in told:
        yield Violation("effect-stray", stray, "is in the history, but no ledger row calls for it")


def nothing_happens_after_the_end(snapshot: Snapshot) -> Iterator[Violation]:
    """An order's end is its last event."""
    last: dict[str, Row] = {}
    for row in snapshot.tables["history"]:
        known = last.get(str(row["subject"]))
        if known is None or row["seq"] > known["seq"]:
            last[str(row["subject"])] = row
    for row in snapshot.tables["history"]:
        end = last[str(row["subject"])]
        if row["type"] in _ENDS and end["seq"] != row["seq"]:
            yield Violation(
                "event-after-end",
                f"{row['merchant']}/{row['name']}",
                f"{end['type']} came after {row['type']}",
            )


def nothing_is_done_after_the_seal(snapshot: Snapshot) -> Iterator[Violation]:
    """Once the gate is sealed nothing is held, captured, bought or undone; only the end is still told."""
    sealed = {row["uid"]: row["sealed_at"] for row in snapshot.tables["orders"] if row["sealed_at"]}
    for row in snapshot.tables["history"]:
        at = sealed.get(row["subject"])
        if at is not None and row["type"] not in _ENDS and row["at"] > at:
            yield Violation(
                "effect-after-seal",
                f"{row['merchant']}/{row['name']}",
                f"{row['type']} at {row['at']}, sealed at {at}",
            )


def history_is_in_the_topics(snapshot: Snapshot) -> Iterator[Violation]:
    """Every row is in its topic, with its content, for as long as topics keep it; nothing else is there."""
    if snapshot.messages is None:
        return
    rows = {str(row["event_id"]): row for row in snapshot.tables["history"]}
    by_id: dict[str, list[Message]] = defaultdict(list)
    for message in snapshot.messages:
        by_id[message.event_id].append(message)
    for id_, row in rows.items():
        found = by_id.get(id_, [])
        is_kept = snapshot.taken_at - row["at"] < KEPT
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


def first_messages_rise(snapshot: Snapshot) -> Iterator[Violation]:
    """Per order, each event is first seen by the broker after the one before it."""
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
    """Each effect that may have been told: its id, the event, whether it is due, and what it is about."""
    for row in snapshot.tables["orders"]:
        what = f"{row['merchant']}/{row['name']}"
        yield row["uid"], EventType.ORDER_CREATED, True, what
        yield row["uid"], EventType.ORDER_DELIVERED, row["outcome"] == "Delivered", what
        yield row["uid"], EventType.ORDER_FAILED, row["outcome"] == "Failed", what
        yield row["uid"], EventType.ORDER_CANCELLED, row["outcome"] == "Cancelled", what
    lost = snapshot.lost()
    for row in snapshot.tables["reservations"]:
        what = f"{row['merchant']}/{row['name']}"
        yield row["holder"], EventType.INVENTORY_RESERVED, row["state"] != "Rejected", what
        # Goods that a recount took, but that were on their way already, were told as released all the same.
        is_released = row["state"] in ("Expired", "Lost", "Released") or row["holder"] in lost
        yield row["holder"], EventType.INVENTORY_RELEASED, is_released, what
    for row in snapshot.tables["payments"]:
        what = f"{row['merchant']}/{row['name']}"
        is_captured = row["state"] in ("Captured", "Refunded")
        yield row["order_uid"], EventType.PAYMENT_SUCCESS, is_captured, what
        yield row["order_uid"], EventType.PAYMENT_CANCELLED, row["state"] == "Cancelled", what
        is_declined = row["reason"] is not None or row["state"] == "Declined"
        yield row["order_uid"], EventType.PAYMENT_FAILED, is_declined, what
    for row in snapshot.tables["refunds"]:
        is_back = row["state"] in ("Succeeded", "SettledByHand")
        yield row["id"], EventType.PAYMENT_REFUNDED, is_back, f"refund {row['id']}"
    for row in snapshot.tables["shipments"]:
        what = f"{row['merchant']}/{row['name']}"
        is_void = row["state"] == "Voided"
        yield row["order_uid"], EventType.SHIPMENT_CANCELLED, is_void, what
        # A label that was noted only when the order was being undone never shipped anything.
        yield row["order_uid"], EventType.ORDER_SHIPPED, row["is_shipped"], what
