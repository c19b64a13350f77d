"""Which records the notifier can use, and which become dead letters."""

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from uuid import UUID

import pytest

from orderplane.events.envelope import parse_event, to_record
from orderplane.events.types import EventType
from orderplane.workers.notifier.dead_letters import dead_letter_of_message, mismatch, split_readable

ROW = {
    "event_id": UUID(int=1), "merchant": "demo", "subject": UUID(int=2), "name": "o-1", "seq": 4,
    "type": "order.shipped", "data": '{"trackingCode": "1"}', "traceparent": None,
    "at": datetime(2026, 3, 1, tzinfo=UTC),
}  # fmt: skip


def consumed(**changes):
    sent = to_record(ROW)
    fields = {
        "topic": sent.topic, "partition": 0, "offset": 9, "key": sent.key, "value": sent.value,
        "headers": tuple(sent.headers),
    }  # fmt: skip
    return SimpleNamespace(**fields | changes)


EVENT = parse_event(consumed())


def test_records_are_sorted_into_read_and_dead():
    good, bad = consumed(), consumed(value=b"\xff", headers=(*consumed().headers, ("dlq_reason", b"Old")))
    read, (dead,) = split_readable([bad, good])
    assert read == [(good, EVENT)]
    assert (dead.reason, dead.topic, dead.partition, dead.offset) == ("Unreadable", "order.shipped", 0, 9)
    assert (dead.key, dead.value) == (bad.key, bad.value)
    assert "dlq_reason" not in dict(dead.headers)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"data": {"trackingCode": "2"}}, "AlteredEvent"),
        ({"sequence": 5}, "AlteredEvent"),
        ({"merchant": "other"}, "AlteredEvent"),
        ({"subject": UUID(int=3)}, "AlteredEvent"),
        ({"type": EventType.ORDER_FAILED}, "AlteredEvent"),
        ({"id": UUID(int=4)}, "UnknownEvent"),
    ],
)
def test_only_what_the_history_says_causes_a_message(changes, reason):
    why = mismatch(replace(EVENT, **changes), {EVENT.id: EVENT})
    assert (why[0] if why else None) == reason


def test_a_dead_letter_of_a_message_is_the_record_that_the_relay_sent():
    row = {
        **ROW, "reason": "SmsRefused", "attempt": 3, "channel": "sms", "kafka_partition": 5,
        "kafka_offset": 70,
    }  # fmt: skip
    dead, sent = dead_letter_of_message(row), to_record(ROW)
    assert (dead.key, dead.value, dead.headers) == (sent.key, sent.value, sent.headers)
    assert (dead.reason, dead.channel, dead.partition, dead.offset) == ("SmsRefused", "sms", 5, 70)
