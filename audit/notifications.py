"""Notifications: whoever is to be told is told, in order, and nobody is told what did not happen."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise

from orderplane.audit.events import KEPT
from orderplane.audit.snapshot import Row, Snapshot, Violation
from orderplane.events.notifications import Channel, message_reference
from orderplane.events.types import EventType
from orderplane.workers.notifier.plan import CHANNELS

SETTLING = timedelta(seconds=20)
"""A notifier that was just started again needs so long to read on."""

_TELLING = {type_.value: channels for type_, channels in CHANNELS.items()}


def every_due_message_is_noted(snapshot: Snapshot) -> Iterator[Violation]:
    """Each event in the topics that calls for a message to a customer with an account has its row."""
    noted = {(row["event_id"], row["channel"]) for row in snapshot.tables["notifications"]}
    people = _people(snapshot)
    customers = {
        row["subject"]: (row["merchant"], row["data"].get("customer"))
        for row in snapshot.tables["history"]
        if row["type"] == EventType.ORDER_CREATED
    }
    for row in snapshot.tables["history"]:
        since = row["published_at"]
        if since is None or not SETTLING <= snapshot.taken_at - since < KEPT:
            continue
        if customers.get(row["subject"]) not in people:
            continue
        for channel in _TELLING.get(row["type"], ()):
            if (row["event_id"], channel) not in noted:
                yield Violation(
                    "notification-missing", str(row["event_id"]), f"{row['type']} calls for {channel}: no row"
                )


def nothing_wanted_is_withheld(snapshot: Snapshot) -> Iterator[Violation]:
    """What was skipped as not wanted was not wanted, as far as the profile has not changed since."""
    people = _people(snapshot)
    for row in snapshot.tables["notifications"]:
        person = people.get((row["merchant"], row["customer"]))
        if row["reason"] != "NotWanted" or person is None or person["updated_at"] > row["ended_at"]:
            continue
        if person["preferences"].get(row["channel"]):
            yield Violation("notification-withheld", str(row["event_id"]), f"{row['channel']} is wanted")


def messages_go_out_once(snapshot: Snapshot) -> Iterator[Violation]:
    """Each sent message is at its provider once, and nothing is there that was not sent.

    A mail whose attempt nobody knows the end of may be there once more for each such attempt, under the same
    Message-ID: a mail server cannot be asked. An SMS may not: the provider is asked.
    """
    for channel, references in snapshot.outgoing.items():
        copies = Counter(references)
        for row in snapshot.tables["notifications"]:
            if row["channel"] == channel:
                yield from _copies(row, copies.pop(message_reference(row["event_id"], channel), 0))
        for stray in copies:
            yield Violation("message-stray", stray, f"went out by {channel}, but no row calls for it")


def _copies(row: Row, count: int) -> Iterator[Violation]:
    subject, channel = str(row["event_id"]), row["channel"]
    is_sent = row["state"] == "Sent"
    if is_sent and count == 0:
        yield Violation("message-lost", subject, f"Sent by {channel}, but the provider does not have it")
    doubtful = (
        row["unknown_attempts"]
        if channel == Channel.EMAIL
        else min(row["unknown_attempts"], 0 if is_sent else 1)
    )
    if count > doubtful + is_sent:
        yield Violation(
            "message-repeated",
            subject,
            f"{row['state']}, {row['unknown_attempts']} in doubt, {count} out by {channel}",
        )


def messages_keep_their_order(snapshot: Snapshot) -> Iterator[Violation]:
    """Of an order, what happened later is told later, unless it was forced."""
    sent: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in snapshot.tables["notifications"]:
        if row["state"] == "Sent" and not row["is_forced"]:
            sent[str(row["order_uid"]), row["channel"]].append(row)
    for rows in sent.values():
        rows.sort(key=lambda row: row["seq"])
        for before, after in pairwise(rows):
            if after["ended_at"] < before["ended_at"]:
                yield Violation(
                    "notification-order",
                    str(after["event_id"]),
                    f"{after['type']} was told before {before['type']}",
                )


def _people(snapshot: Snapshot) -> dict[tuple[str, str], Row]:
    """Everybody who has an account now."""
    return {
        (row["merchant"], row["id"]): row for row in snapshot.tables["users"] if row["deleted_at"] is None
    }
