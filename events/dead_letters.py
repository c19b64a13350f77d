"""Dead letters: records that a consumer gave up, in a topic of their own.

A dead letter has the key, value and headers of the original record, so that it can be replayed. The headers
`dlq_*` are added; they say why and where it was given up.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from orderplane.events.envelope import ConsumedRecord, Headers

DEAD_LETTER_TOPIC = "orderplane.dlq"
"""It has one partition, so that an offset identifies one dead letter."""

MAX_HEADERS, MAX_HEADER_BYTES = 64, 1024
"""Bounds on the original headers: anybody who may write into a topic chooses them."""

_PREFIX = "dlq_"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record that was given up.

    Args:
        reason: CamelCase, for programs.
        detail: What happened, for people; contains ids only.
        consumer: The process that gave it up.
        topic, partition, offset: Where it was read. Partition and offset are None where the event came from
            the history, because a later event of its order was read first.
        channel: The channel whose message could not be sent; None where the record itself is the problem.
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
        """The event's id, if the record has one."""
        value = dict(self.headers).get("ce_id")
        return value.decode(errors="replace") if value else None


def dead_letter_headers(letter: DeadLetter) -> Headers:
    """The headers of the record in the dead-letter topic."""
    added = {
        "dlq_reason": letter.reason,
        "dlq_detail": letter.detail,
        "dlq_consumer": letter.consumer,
        "dlq_topic": letter.topic,
        "dlq_partition": _number(letter.partition),
        "dlq_offset": _number(letter.offset),
        "dlq_event_id": letter.event_id,
        "dlq_channel": letter.channel,
    }
    original = [(name, value[:MAX_HEADER_BYTES]) for name, value in letter.headers[:MAX_HEADERS]]
    return original + [(name, value.encode()) for name, value in added.items() if value is not None]


def parse_dead_letter(record: ConsumedRecord) -> DeadLetter:
    """Read a record of the dead-letter topic; missing headers become empty values."""
    added = {
        name: (value or b"").decode(errors="replace")
        for name, value in record.headers
        if name.startswith(_PREFIX)
    }

    def number(name: str) -> int | None:
        return int(text) if (text := added.get(name, "")).isdecimal() else None

    return DeadLetter(
        reason=added.get("dlq_reason", ""),
        detail=added.get("dlq_detail", ""),
        consumer=added.get("dlq_consumer", ""),
        topic=added.get("dlq_topic", ""),
        partition=number("dlq_partition"),
        offset=number("dlq_offset"),
        key=record.key,
        value=record.value,
        headers=original_headers(record.headers),
        channel=added.get("dlq_channel"),
    )


def original_headers(headers: Iterable[tuple[str, bytes | None]]) -> Headers:
    """A record's headers without those that made it a dead letter before."""
    return [(name, value or b"") for name, value in headers if not name.startswith(_PREFIX)]


def _number(value: int | None) -> str | None:
    return None if value is None else str(value)
