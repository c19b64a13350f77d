"""Which records the notifier can use, and which become dead letters. Pure."""

from collections.abc import Iterable, Mapping
from uuid import UUID

from orderplane.events.dead_letters import DeadLetter, original_headers
from orderplane.events.envelope import ConsumedRecord, Event, HistoryRow, Unreadable, parse_event, to_record

CONSUMER = "notifier"


class DeadMessage(HistoryRow):
    """A row of table `notifications` that was given up, with its event."""

    reason: str
    attempt: int
    channel: str
    kafka_partition: int | None
    kafka_offset: int | None


def split_readable(
    records: Iterable[ConsumedRecord],
) -> tuple[list[tuple[ConsumedRecord, Event]], list[DeadLetter]]:
    """The records that are events, with those events; and the dead letters of the others."""
    read: list[tuple[ConsumedRecord, Event]] = []
    dead: list[DeadLetter] = []
    for record in records:
        try:
            read.append((record, parse_event(record)))
        except Unreadable as problem:
            dead.append(
                dead_letter_of_record(record, "Unreadable", f"{problem}; find out who writes into the topic")
            )
    return read, dead


def mismatch(event: Event, recorded: Mapping[UUID, Event]) -> tuple[str, str] | None:
    """Why an event is not the one in the history, as reason and detail; None if it is.

    Anybody who may write into a topic can write an event. Customers are notified only of what has happened.

    Args:
        recorded: Events of the history, by id.
    """
    original = recorded.get(event.id)
    if original is None:
        return "UnknownEvent", "the history has no such event; nobody was notified"
    if original != event:
        return "AlteredEvent", "the history has another content of this event; nobody was notified"
    return None


def dead_letter_of_record(record: ConsumedRecord, reason: str, detail: str) -> DeadLetter:
    """The dead letter of a record that is itself the problem."""
    return DeadLetter(
        reason=reason,
        detail=detail,
        consumer=CONSUMER,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        headers=original_headers(record.headers),
    )


def dead_letter_of_message(row: DeadMessage) -> DeadLetter:
    """The dead letter of a message that could not be sent: the record of its event, as the relay sent it."""
    record = to_record(row)
    return DeadLetter(
        reason=row["reason"],
        detail=f"given up after {row['attempt']} attempts to send it by {row['channel']}",
        consumer=CONSUMER,
        topic=record.topic,
        partition=row["kafka_partition"],
        offset=row["kafka_offset"],
        key=record.key,
        value=record.value,
        headers=record.headers,
        channel=row["channel"],
    )
