"""Notifications: every due message was sent once, in order, and no other message was sent."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from uuid import UUID

from orderplane.audit.events import TOPICS_KEEP
from orderplane.audit.snapshot import AccountMessageRow, NotificationRow, Snapshot, UserRow, Violation
from orderplane.events.notifications import Channel, message_reference
from orderplane.events.types import EventType
from orderplane.workers.notifier.plan import CHANNELS, State

SETTLING = timedelta(seconds=20)
"""How long a notifier that was restarted needs until it reads the topics again."""

ATTEMPT = timedelta(minutes=1)
"""How long before its end an attempt may have looked the customer up."""

_CHANNELS_OF = {type_.value: channels for type_, channels in CHANNELS.items()}


def every_due_message_has_a_row(snapshot: Snapshot) -> Iterator[Violation]:
    """Each event in the topics that calls for a message has its row, where the customer has an account."""
    rows = {(row["event_id"], row["channel"]) for row in snapshot.tables["notifications"]}
    users = _users(snapshot)
    customers = {
        row["subject"]: (row["merchant"], row["data"].get("customer"))
        for row in snapshot.tables["history"]
        if row["type"] == EventType.ORDER_CREATED
    }
    for event in snapshot.tables["history"]:
        since = event["published_at"]
        if since is None or not SETTLING <= snapshot.taken_at - since < TOPICS_KEEP:
            continue
        if customers.get(event["subject"]) not in users:
            continue
        for channel in _CHANNELS_OF.get(event["type"], ()):
            if (event["event_id"], channel) not in rows:
                yield Violation(
                    "notification-missing",
                    str(event["event_id"]),
                    f"{event['type']} calls for {channel}: no event",
                )


def nothing_wanted_is_withheld(snapshot: Snapshot) -> Iterator[Violation]:
    """What was skipped as not wanted was not wanted; what was skipped as not confirmed was not confirmed."""
    for row, user in _ended_with_their_users(snapshot):
        is_wanted = user["preferences"].get(row["channel"], False)
        if row["reason"] == "NotWanted" and is_wanted:
            yield Violation("notification-withheld", str(row["event_id"]), f"{row['channel']} is wanted")
        if row["reason"] == "NotConfirmed" and _can_be_reached(user, row["channel"]):
            yield Violation("notification-withheld", str(row["event_id"]), f"{row['channel']} is confirmed")


def nothing_goes_to_an_unconfirmed_address(snapshot: Snapshot) -> Iterator[Violation]:
    """What was sent went to an address or a number that its owner had confirmed."""
    for row, user in _ended_with_their_users(snapshot, ATTEMPT):
        channel = row["channel"]
        if row["state"] == State.SENT and not _can_be_reached(user, channel):
            yield Violation(
                "notification-unconfirmed", str(row["event_id"]), f"sent by {channel}, which nobody confirmed"
            )


def messages_go_out_once(snapshot: Snapshot) -> Iterator[Violation]:
    """Each sent message is at its provider once, and nothing is there that was not sent.

    A mail whose attempt nobody knows the end of may be there once more for each such attempt, under the same
    Message-ID: a mail server cannot be asked. An SMS may not: the provider is asked.
    """
    rows: list[tuple[UUID, NotificationRow | AccountMessageRow]] = [
        *((row["event_id"], row) for row in snapshot.tables["notifications"]),
        *((row["id"], row) for row in snapshot.tables["account_messages"]),
    ]
    for channel, references in snapshot.outgoing.items():
        copies = Counter(references)
        for id_, row in rows:
            if row["channel"] == channel:
                yield from _copies(id_, row, copies.pop(message_reference(id_, channel), 0))
        for stray in copies:
            yield Violation("message-stray", stray, f"went out by {channel}, but no row calls for it")


def _copies(id_: UUID, row: NotificationRow | AccountMessageRow, count: int) -> Iterator[Violation]:
    subject, channel = str(id_), row["channel"]
    is_sent = row["state"] == State.SENT
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
    """The messages of an order are sent in the order of its events, unless one was forced."""
    sent: dict[tuple[str, str], list[tuple[datetime, NotificationRow]]] = defaultdict(list)
    for row in snapshot.tables["notifications"]:
        if row["state"] == State.SENT and row["ended_at"] is not None and not row["is_forced"]:
            sent[str(row["order_uid"]), row["channel"]].append((row["ended_at"], row))
    for messages in sent.values():
        messages.sort(key=lambda message: message[1]["seq"])
        for (earlier, before), (later, after) in pairwise(messages):
            if later < earlier:
                yield Violation(
                    "notification-order",
                    str(after["event_id"]),
                    f"{after['type']} was sent before {before['type']}",
                )


def _ended_with_their_users(
    snapshot: Snapshot, attempt: timedelta = timedelta()
) -> Iterator[tuple[NotificationRow, UserRow]]:
    """The messages that have ended, where the profile has not changed since `attempt` before."""
    users = _users(snapshot)
    for row in snapshot.tables["notifications"]:
        user, ended_at = users.get((row["merchant"], row["customer"])), row["ended_at"]
        if user is not None and ended_at is not None and user["updated_at"] <= ended_at - attempt:
            yield row, user


def _can_be_reached(user: UserRow, channel: str) -> bool:
    return user["has_phone"] if channel == Channel.SMS else user["is_email_confirmed"]


def _users(snapshot: Snapshot) -> dict[tuple[str, str], UserRow]:
    """All users who are not deleted."""
    return {
        (row["merchant"], row["id"]): row for row in snapshot.tables["users"] if row["deleted_at"] is None
    }
