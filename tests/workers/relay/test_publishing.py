"""One batch against a broker that answers as it likes: what goes out when, and what is marked."""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from uuid import UUID, uuid5

import pytest
from aiokafka.errors import KafkaTimeoutError
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from orderplane.events.types import EventType
from orderplane.workers.relay.relay import Relay

TYPES = tuple(EventType)


class Broker:
    """Acknowledges in any order; refuses what it is told to, before it is queued or after."""

    def __init__(self, verdicts):
        self._verdicts = verdicts
        self.acknowledged = []
        self.handed_over = []

    async def send(self, topic, value, *, key, headers):
        seq = int(dict(headers)["ce_sequence"])
        name = (UUID(key.decode()), seq)
        self.handed_over.append((name, set(self.acknowledged)))
        verdict = self._verdicts.get(name, "ack")
        if verdict == "full":
            raise KafkaTimeoutError("no room")
        answer = asyncio.get_running_loop().create_future()

        def settle():
            if verdict == "lost":
                answer.set_exception(KafkaTimeoutError("no answer"))
            else:
                self.acknowledged.append(name)
                answer.set_result(None)

        asyncio.get_running_loop().call_later(0.0002 * (hash(name) % 5), settle)
        return answer


class Table:
    """What the outbox is told."""

    def __init__(self):
        self.is_lost = False
        self.marked = []

    async def mark_published(self, ids):
        self.marked += ids


def rows_of(lengths):
    subjects = [UUID(int=number + 1) for number in range(len(lengths))]
    numbered = [(s, seq) for s, length in zip(subjects, lengths, strict=True) for seq in range(1, length + 1)]
    return [
        {
            "id": number,
            "event_id": uuid5(subject, str(seq)),
            "merchant": "demo",
            "subject": subject,
            "name": "order",
            "seq": seq,
            "type": TYPES[seq % len(TYPES)].value,
            "data": "{}",
            "traceparent": None,
            "at": datetime(2026, 1, 1, tzinfo=UTC),
        }
        for number, (subject, seq) in enumerate(numbered)
    ]


def no_beat():
    """Nobody listens."""


def relay():
    return Relay(lambda: "postgresql://nowhere", "nowhere:1", 1, asyncio.Event())


lengths_and_verdicts = st.lists(st.integers(1, 5), min_size=1, max_size=6).flatmap(
    lambda lengths: st.tuples(
        st.just(lengths),
        st.dictionaries(
            st.tuples(st.integers(1, len(lengths)).map(lambda number: UUID(int=number)), st.integers(1, 5)),
            st.sampled_from(["full", "lost"]),
            max_size=4,
        ),
    )
)


@settings(max_examples=60, deadline=None)
@given(lengths_and_verdicts)
async def test_the_next_goes_out_only_after_the_acknowledgement_of_the_last(case):
    lengths, verdicts = case
    rows, broker, table = rows_of(lengths), Broker(verdicts), Table()
    failed = False
    try:
        await relay()._publish(table, broker, rows, no_beat)
    except KafkaTimeoutError:
        failed = True
    for (subject, seq), acknowledged_before in broker.handed_over:
        assert seq == 1 or (subject, seq - 1) in acknowledged_before
    assert Counter(name for name, _ in broker.handed_over).most_common(1)[0][1] == 1
    by_id = {row["id"]: (row["subject"], row["seq"]) for row in rows}
    assert sorted(by_id[number] for number in table.marked) == sorted(broker.acknowledged)
    assert failed == any(name in verdicts for name, _ in broker.handed_over)
    assert failed or len(table.marked) == len(rows)


async def test_nothing_more_is_sent_once_the_partitions_are_lost():
    rows, broker, table = rows_of([3, 3]), Broker({}), Table()
    table.is_lost = True
    await relay()._publish(table, broker, rows, no_beat)
    assert {seq for (_, seq), _ in broker.handed_over} == {1}


async def test_an_event_that_cannot_go_out_blocks_only_its_subject():
    rows, broker, table = rows_of([3, 3]), Broker({}), Table()
    rows[0]["type"] = "order.unheard"
    served = relay()
    await served._publish(table, broker, rows, no_beat)
    assert {subject for (subject, _), _ in broker.handed_over} == {rows[3]["subject"]}
    assert served._blocked() == [rows[0]["subject"]]


@pytest.fixture
def spans(monkeypatch):
    """What the relay has traced so far."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("orderplane.workers.relay.relay.tracer", provider.get_tracer("test"))
    return exporter.get_finished_spans


async def test_each_event_is_a_span_in_its_own_trace(spans):
    rows = rows_of([2, 1, 1])
    for row in rows:
        row["traceparent"] = f"00-{row['subject'].int:032x}-b7ad6b7169203331-01"
    rows[1]["traceparent"] = None
    rows[3]["traceparent"] = f"00-{3:032x}-b7ad6b7169203331-00"
    await relay()._publish(Table(), Broker({}), rows, no_beat)
    assert [(span.context.trace_id, span.parent.span_id) for span in spans()] == [
        (1, 0xB7AD6B7169203331),
        (2, 0xB7AD6B7169203331),
    ]
    assert {(span.name, span.status.status_code) for span in spans()} == {
        (f"publish {rows[0]['type']}", StatusCode.UNSET)
    }


@pytest.mark.parametrize("verdict", ["full", "lost"])
async def test_an_event_that_was_not_acknowledged_is_a_failed_span(spans, verdict):
    [row] = rows_of([1])
    row["traceparent"] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with pytest.raises(KafkaTimeoutError):
        await relay()._publish(Table(), Broker({(row["subject"], 1): verdict}), [row], no_beat)
    [span] = spans()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "KafkaTimeoutError")
