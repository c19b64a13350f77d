"""Records that are not events, and dead letters written and read."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from uuid import UUID

import pytest
from jsonschema import Draft202012Validator

from orderplane.events.dead_letters import (
    DEAD_LETTER_TOPIC,
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    DeadLetter,
    dead_letter_headers,
    parse_dead_letter,
)
from orderplane.events.envelope import Event, Unreadable, parse_event, to_record
from orderplane.events.types import EventType

from .test_event_contract import DOCUMENT, resolved

ROW = {
    "event_id": UUID("0b0a6a52-6c0e-4c8b-8f55-7c9d21f0a3b4"),
    "merchant": "demo",
    "subject": UUID("6f1c2f0e-6f0b-4f4e-9d0f-0f2b4a1c7e11"),
    "name": "order-1",
    "seq": 4,
    "type": "order.shipped",
    "data": '{"merchant": "demo"}',
    "traceparent": None,
    "at": datetime(2026, 3, 1, tzinfo=UTC),
}
SECRET = "ada@example.org"


def consumed(**changes):
    """The record of the row as a consumer gets it, with one thing or another changed."""
    sent = to_record(ROW)
    headers = dict(sent.headers) | changes.pop("headers", {})
    fields = {
        "topic": sent.topic, "partition": 3, "offset": 17, "key": sent.key, "value": sent.value,
        "headers": [(name, value) for name, value in headers.items() if value is not None],
    }  # fmt: skip
    return SimpleNamespace(**fields | changes)


def test_a_record_tells_what_its_row_says():
    assert parse_event(consumed()) == Event(
        ROW["event_id"], EventType.ORDER_SHIPPED, "demo", ROW["subject"], 4, {"merchant": "demo"}
    )


POISON = [
    consumed(headers={"ce_id": None}),
    consumed(headers={"ce_id": SECRET.encode()}),
    consumed(headers={"ce_id": b"\xff"}),
    consumed(headers={"ce_type": b"order.created"}),
    consumed(headers={"ce_type": b"order.unheard"}, topic="order.unheard"),
    consumed(headers={"ce_source": SECRET.encode()}),
    consumed(headers={"ce_sequence": b"0"}),
    consumed(headers={"ce_sequence": b"9" * 30}),
    consumed(headers=dict.fromkeys(("ce_id", "ce_type", "ce_source", "ce_sequence"))),
    consumed(key=None),
    consumed(key=SECRET.encode()),
    consumed(value=None),
    consumed(value=SECRET.encode()),
    consumed(value=b'"text"'),
    consumed(value=b"\xff\xfe"),
]


@pytest.mark.parametrize("record", POISON, ids=range(len(POISON)))
def test_what_is_no_event_is_said_without_repeating_it(record):
    with pytest.raises(Unreadable) as told:
        parse_event(record)
    assert SECRET not in str(told.value)


def letter(**changes):
    record = consumed()
    built = DeadLetter(
        "RecipientRefused", "given up", "notifier", record.topic, 3, 17, record.key, record.value,
        record.headers, "email",
    )  # fmt: skip
    return replace(built, **changes)


def in_topic(dead):
    return SimpleNamespace(key=dead.key, value=dead.value, headers=dead_letter_headers(dead))


@pytest.mark.parametrize(
    "dead",
    [letter(), letter(channel=None), letter(partition=None, offset=None), letter(key=None, value=None)],
)
def test_what_was_buried_can_be_dug_up(dead):
    assert parse_dead_letter(in_topic(dead)) == dead
    assert dead.event_id == str(ROW["event_id"])


def test_who_dies_twice_has_the_last_reason_only():
    again = replace(parse_dead_letter(in_topic(letter())), reason="GivenUp")
    assert parse_dead_letter(in_topic(again)).reason == "GivenUp"
    assert sum(name == "dlq_reason" for name, _ in dead_letter_headers(again)) == 1


def test_a_strangers_headers_are_bounded():
    many = [(f"x-{number}", b"y" * 10_000) for number in range(1000)]
    kept = [value for name, value in dead_letter_headers(letter(headers=many)) if name.startswith("x-")]
    assert (len(kept), max(map(len, kept))) == (MAX_HEADERS, MAX_HEADER_BYTES)


def test_what_is_in_the_topic_without_our_headers_can_be_shown():
    assert (
        parse_dead_letter(SimpleNamespace(key=None, value=b"x", headers=[("dlq_offset", b"many")])).reason
        == ""
    )


def test_headers_are_as_the_contract_says():
    (channel,) = (c for c in DOCUMENT["channels"].values() if c["address"] == DEAD_LETTER_TOPIC)
    ((_, reference),) = channel["messages"].items()
    schema = resolved(reference["$ref"])["headers"]
    told = {name: value.decode() for name, value in dead_letter_headers(letter()) if name.startswith("dlq_")}
    Draft202012Validator(schema).validate(told)
    assert set(told) == set(schema["properties"])
    assert all(re.fullmatch(r"dlq_[a-z_]+", name) for name in told)
