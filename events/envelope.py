"""A history row as a Kafka record: CloudEvents 1.0, binary mode.

Source: https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/kafka-protocol-binding.md and
https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/sequence.md
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any


@dataclass(frozen=True, slots=True)
class Record:
    """What goes to the broker. All events of one order share the key, hence the partition number."""

    topic: str
    key: bytes
    headers: list[tuple[str, bytes]]
    value: bytes


def record_of(row: Mapping[str, Any]) -> Record:
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
