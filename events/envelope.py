"""Events as Kafka records, written and read, and as JSON documents: CloudEvents 1.0 in binary and in
structured mode.

Sources: https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/kafka-protocol-binding.md,
https://github.com/cloudevents/spec/blob/main/cloudevents/formats/json-format.md and
https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/sequence.md
"""

import codecs
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TypedDict
from uuid import UUID

import orjson

from orderplane.events.types import EventType

_SOURCE = re.compile(r"/orderplane/([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)\Z")
_SEQUENCE = re.compile(r"[1-9][0-9]{0,8}\Z")
_JSON = "application/json"


Headers = list[tuple[str, bytes]]


class HistoryRow(TypedDict):
    """The columns of table `history` that make an event.

    `subject` and `name` are the uid and name of the Order or Reservation, and `seq` counts its events from 1.
    `at` has a time zone, and `data` is JSON text.
    """

    event_id: UUID
    merchant: str
    subject: UUID
    name: str
    seq: int
    type: str
    data: str
    traceparent: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Record:
    """A record to produce. All events of one order have the same key, and so one partition of a topic."""

    topic: str
    key: bytes
    headers: Headers
    value: bytes


def to_record(row: HistoryRow) -> Record:
    """The record of an event. It is equal byte for byte however often the event is sent."""
    headers = {f"ce_{name}": value for name, value in _attributes(row).items()}
    headers["content-type"] = _JSON
    if row["traceparent"]:
        headers["traceparent"] = row["traceparent"]
    return Record(
        topic=row["type"],
        key=str(row["subject"]).encode(),
        headers=[(name, value.encode()) for name, value in headers.items()],
        value=row["data"].encode(),
    )


def to_document(row: HistoryRow) -> bytes:
    """The event as one JSON document. It is equal byte for byte however often it is made."""
    data = orjson.Fragment(row["data"].encode())
    return orjson.dumps({**_attributes(row), "datacontenttype": _JSON, "data": data})


def _attributes(row: HistoryRow) -> dict[str, str]:
    return {
        "specversion": "1.0",
        "id": str(row["event_id"]),
        "type": row["type"],
        "source": f"/orderplane/{row['merchant']}",
        "subject": row["name"],
        "time": row["at"].astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "sequence": str(row["seq"]),
        # The extension's type for 1, 2, 3...: consumers compare numbers, not strings.
        "sequencetype": "Integer",
    }


class Unreadable(Exception):  # noqa: N818
    """A record does not have the form of an event. The message says what is wrong, and repeats no content."""


class ConsumedRecord(Protocol):
    """A record as a consumer reads it."""

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
    def headers(self) -> Iterable[tuple[str, bytes | None]]: ...


@dataclass(frozen=True, slots=True)
class Event:
    """An event as its record says it."""

    id: UUID
    type: EventType
    merchant: str
    subject: UUID
    sequence: int
    data: dict[str, Any]


def parse_event(record: ConsumedRecord) -> Event:
    """Read a record.

    Raises:
        Unreadable: the record does not have the form that `to_record` gives it.
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
        # RFC 8259, 8.1, allows to ignore a byte order mark; what counts is whether the history has the event.
        data = orjson.loads((value or b"").removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError:
        raise Unreadable("the value is not JSON") from None
    if not isinstance(data, dict):
        raise Unreadable("the value is no JSON object")
    return data
