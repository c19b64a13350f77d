"""A history row as a CloudEvent in the binary mode of the Kafka binding."""

from datetime import UTC, datetime, timedelta, timezone
from importlib import resources
from types import SimpleNamespace
from uuid import UUID

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from orderplane.events.envelope import parse_event, to_record
from orderplane.events.types import OUTBOX_PARTITIONS, EventType, event_id, outbox_partition_of

SUBJECT = UUID("6f1c2f0e-6f0b-4f4e-9d0f-0f2b4a1c7e11")
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ROW = {
    "event_id": UUID("0b0a6a52-6c0e-4c8b-8f55-7c9d21f0a3b4"),
    "merchant": "demo",
    "subject": SUBJECT,
    "name": "order-3f9ac1d27b",
    "seq": 10,
    "type": "order.created",
    "data": '{"merchant": "demo", "note": "Grüße"}',
    "traceparent": TRACEPARENT,
    "at": datetime(2026, 3, 1, 13, 15, 0, 250000, tzinfo=timezone(timedelta(hours=1))),
}


def headers_schema():
    document = yaml.safe_load(
        (resources.files("orderplane.events") / "asyncapi.yaml").read_text(encoding="utf-8")
    )
    return document["components"]["messageTraits"]["cloudEvent"]["headers"]


def test_a_row_becomes_one_record():
    record = to_record(ROW)
    assert record.topic == "order.created"
    assert record.key == b"6f1c2f0e-6f0b-4f4e-9d0f-0f2b4a1c7e11"
    assert record.value == '{"merchant": "demo", "note": "Grüße"}'.encode()
    assert dict(record.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"0b0a6a52-6c0e-4c8b-8f55-7c9d21f0a3b4",
        "ce_type": b"order.created",
        "ce_source": b"/orderplane/demo",
        "ce_subject": b"order-3f9ac1d27b",
        "ce_time": b"2026-03-01T12:15:00.250000Z",
        "ce_sequence": b"10",
        "ce_sequencetype": b"Integer",
        "content-type": b"application/json",
        "traceparent": TRACEPARENT.encode(),
    }


def test_a_byte_order_mark_is_no_part_of_an_event():
    record = to_record(ROW)
    consumed = SimpleNamespace(**{name: getattr(record, name) for name in ("topic", "key", "headers")})
    consumed.value = b"\xef\xbb\xbf" + record.value
    assert parse_event(consumed).data == {"merchant": "demo", "note": "Grüße"}


def test_no_trace_no_header():
    assert "traceparent" not in dict(to_record({**ROW, "traceparent": None}).headers)


@pytest.mark.parametrize("traceparent", [TRACEPARENT, None])
def test_headers_are_what_the_document_says(traceparent):
    headers = {name: value.decode() for name, value in to_record({**ROW, "traceparent": traceparent}).headers}
    schema = headers_schema()
    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(headers)
    assert headers.keys() <= schema["properties"].keys()


def test_the_same_row_is_the_same_record_wherever_it_is_read():
    assert to_record({**ROW, "at": ROW["at"].astimezone(UTC)}) == to_record(ROW)


@given(st.uuids())
def test_a_subject_stays_in_its_outbox_partition(subject):
    assert outbox_partition_of(subject) == outbox_partition_of(UUID(str(subject)))
    assert 0 <= outbox_partition_of(subject) < OUTBOX_PARTITIONS


@given(st.uuids())
def test_each_effect_has_one_id_for_each_type(effect):
    ids = {event_id(effect, type_) for type_ in EventType}
    assert len(ids) == len(EventType)
    assert ids == {event_id(UUID(str(effect)), type_) for type_ in EventType}
