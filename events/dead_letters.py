"""What nobody could deal with: the record as it was, with why in its headers.

The headers `dlq_*` are ours; the others, key and value are the record's own, so that it can be replayed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

DEAD_LETTER_TOPIC = "orderplane.dlq"
"""The topic. It has one partition, so that an offset names one dead letter."""

MAX_HEADERS, MAX_HEADER_BYTES = 64, 1024
"""Of a stranger's headers no more is kept."""

Headers = list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record that was given up.

    Args:
        reason: CamelCase, for machines.
        detail: What happened, for people; ids only.
        topic, partition, offset: Where it was read; no partition and offset where a later event of its order
            was read first.
        channel: Through which its message could not be sent; None where the record itself is the problem.
    """

    reason: str
    detail: str
    consumer: str
    topic: str
    partition: int | None
    offset: int | None
    key: bytes | None
    value: bytes | None
    headers: Headers = field(default_factory=list)
    channel: str | None = None

    @property
    def event_id(self) -> str | None:
        """The event's id, where the record has one that can be read."""
        value = dict(self.headers).get("ce_id")
        return value.decode(errors="replace") if value else None


def dead_letter_headers(letter: DeadLetter) -> Headers:
    """All headers of the record in the dead-letter topic."""
    ours = {
        "dlq_reason": letter.reason,
        "dlq_detail": letter.detail,
        "dlq_consumer": letter.consumer,
        "dlq_topic": letter.topic,
        "dlq_partition": _number(letter.partition),
        "dlq_offset": _number(letter.offset),
        "dlq_event_id": letter.event_id,
        "dlq_channel": letter.channel,
    }
    theirs = [(name, value[:MAX_HEADER_BYTES]) for name, value in letter.headers[:MAX_HEADERS]]
    return theirs + [(name, value.encode()) for name, value in ours.items() if value is not None]


def parse_dead_letter(record: Any) -> DeadLetter:
    """Read a record of the dead-letter topic; what is missing is empty."""
    ours = {
        name: (value or b"").decode(errors="replace")
        for name, value in record.headers
        if name.startswith("dlq_")
    }

    def number(name: str) -> int | None:
        return int(text) if (text := ours.get(name, "")).isdecimal() else None

    return DeadLetter(
        reason=ours.get("dlq_reason", ""),
        detail=ours.get("dlq_detail", ""),
        consumer=ours.get("dlq_consumer", ""),
        topic=ours.get("dlq_topic", ""),
        partition=number("dlq_partition"),
        offset=number("dlq_offset"),
        key=record.key,
        value=record.value,
        headers=original_headers(record.headers),
        channel=ours.get("dlq_channel"),
    )


def original_headers(headers: Iterable[tuple[str, bytes | None]]) -> Headers:
    """A record's own headers: those of an earlier death are not its own."""
    return [(name, value or b"") for name, value in headers if not name.startswith("dlq_")]


def _number(value: int | None) -> str | None:
    return None if value is None else str(value)
