"""A history row as a Kafka record, and back: CloudEvents 1.0, binary mode.

Source: https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/kafka-protocol-binding.md and
https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/sequence.md
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Protocol
from uuid import UUID

import orjson

from orderplane.events.types import EventType

_SOURCE = re.compile(r"/orderplane/([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)\Z")
_SEQUENCE = re.compile(r"[1-9][0-9]{0,8}\Z")


@dataclass(frozen=True, slots=True)
class Record:
    """What goes to the broker. All events of one order share the key, hence the partition number."""

    topic: str
    key: bytes
    headers: list[tuple[str, bytes]]
    value: bytes


def to_record(row: Mapping[str, Any]) -> Record:
    """The one record that a row has, byte for byte, however often it is sent.

    Args:
        row: Of table `history`: event_id, merchant, subject, name, seq, type, traceparent, at (aware), and
            `data` as JSON text.
    """
    headers = {
        "ce_specversion": "1.0",
        "ce_id": str(row["event_id"]),
        "ce_type": row["type"],
        "ce_source": f"/orderplane/{row['merchant']}",
        "ce_subject": row["name"],
        "ce_time": row["at"].astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "ce_sequence": str(row["seq"]),
        # Says that the sequence counts 1, 2, 3...: compare it as a number, "10" comes after "9".
        "ce_sequencetype": "Integer",
        "content-type": "application/json",
    }
    if row["traceparent"]:
        headers["traceparent"] = row["traceparent"]
    return Record(
        topic=row["type"],
        key=str(row["subject"]).encode(),
        headers=[(name, value.encode()) for name, value in headers.items()],
        value=row["data"].encode(),
    )


class Unreadable(Exception):  # noqa: N818
    """A record is not one of our events; the message says what is wrong with it, and never what it holds."""


class ConsumedRecord(Protocol):
    """A record as a consumer gets it. `headers` are pairs of name and value."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int | None: ...
    @property
    def offset(self) -> int | None: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Event:
    """What a record tells."""

    id: UUID
    type: EventType
    merchant: str
    subject: UUID
    sequence: int
    data: dict[str, Any]


def parse_event(record: ConsumedRecord) -> Event:
    """Read a record.

    Raises:
        Unreadable: it does not keep to the envelope.
    """
    headers = dict(record.headers)
    type_ = _text(headers, "ce_type")
    if type_ != record.topic or type_ not in set(EventType):
        raise Unreadable("ce_type is not the topic's")
    source = _SOURCE.match(_text(headers, "ce_source"))
    if source is None:
        raise Unreadable("ce_source names no merchant")
    sequence = _text(headers, "ce_sequence")
    if not _SEQUENCE.match(sequence):
        raise Unreadable("ce_sequence is no number from 1")
    return Event(
        id=_uuid(_text(headers, "ce_id"), "ce_id"),
        type=EventType(type_),
        merchant=source.group(1),
        subject=_uuid(_decoded(record.key, "the key"), "the key"),
        sequence=int(sequence),
        data=_data(record.value),
    )


def _text(headers: Mapping[str, bytes | None], name: str) -> str:
    if name not in headers:
        raise Unreadable(f"{name} is missing")
    return _decoded(headers[name], name)


def _decoded(value: bytes | None, what: str) -> str:
    try:
        return (value or b"").decode()
    except UnicodeDecodeError:
        raise Unreadable(f"{what} is not UTF-8") from None


def _uuid(text: str, what: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Unreadable(f"{what} is no UUID") from None


def _data(value: bytes | None) -> dict[str, Any]:
    try:
        data = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        raise Unreadable("the value is not JSON") from None
    if not isinstance(data, dict):
        raise Unreadable("the value is no JSON object")
    return data
