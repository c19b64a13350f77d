"""Tell what the notifier can use from what is a dead letter. Pure."""

from collections.abc import Iterable, Mapping
from uuid import UUID

from orderplane.events.dead_letters import DeadLetter, original_headers
from orderplane.events.envelope import ConsumedRecord, Event, HistoryRow, Unreadable, parse_event, to_record

NAME = "notifier"


class DeadMessage(HistoryRow):
    """A row of table `notifications` that was given up, with its event."""

    reason: str
    attempt: int
    channel: str
    kafka_partition: int | None
    kafka_offset: int | None


def sort(records: Iterable[ConsumedRecord]) -> tuple[list[tuple[ConsumedRecord, Event]], list[DeadLetter]]:
    """The records that can be read, with what they say, and those that cannot."""
    read: list[tuple[ConsumedRecord, Event]] = []
    dead: list[DeadLetter] = []
    for record in records:
        try:
            read.append((record, parse_event(record)))
        except Unreadable as problem:
            dead.append(letter_for(record, "Unreadable", f"{problem}; find out who writes into the topic"))
    return read, dead


def disagreement(event: Event, told: Mapping[UUID, Event]) -> tuple[str, str] | None:
    """Why an event is not what our history says, as reason and detail; None where it is.

    Anybody who may write into a topic could have written it; customers are told only what has happened.
    """
    ours = told.get(event.id)
    if ours is None:
        return "UnknownEvent", "the history knows no such event; nobody was told"
    if ours != event:
        return "AlteredEvent", "the history says something else of this event; nobody was told"
    return None


def letter_for(record: ConsumedRecord, reason: str, detail: str) -> DeadLetter:
    """The dead letter of a record that is itself the problem."""
    return DeadLetter(
        reason=reason,
        detail=detail,
        consumer=NAME,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=record.key,
        value=record.value,
        headers=original_headers(record.headers),
    )


def letter_of_row(row: DeadMessage) -> DeadLetter:
    """The dead letter of a message that could not be sent: its event, as the relay had sent it."""
    record = to_record(row)
    return DeadLetter(
        reason=row["reason"],
        detail=f"given up after {row['attempt']} attempts to send it by {row['channel']}",
        consumer=NAME,
        topic=record.topic,
        partition=row["kafka_partition"],
        offset=row["kafka_offset"],
        key=record.key,
        value=record.value,
        headers=record.headers,
        channel=row["channel"],
    )
