"""The relay as a process, against a real PostgreSQL and a real Kafka."""

import asyncio
from uuid import uuid4

import pytest

from orderplane.events.types import EventType, outbox_partition_of

pytestmark = pytest.mark.integration


async def test_orders_keep_their_order_across_topics(stage):
    subjects = [uuid4() for _ in range(60)]
    await stage.start_relay("relay-alone")
    await asyncio.gather(*(stage.write_orders(subjects[start::4], 12) for start in range(4)))
    await stage.all_published()
    assert await stage.check() == 0
    messages = await stage.messages()
    assert len(messages) == 720
    assert len({message.topic for message in messages}) == len(EventType)
    assert await stage.metric("relay-alone", "orderplane_relay_partitions") == 16
    assert await stage.metric("relay-alone", "orderplane_relay_published_total") == 720


async def test_a_message_is_a_cloud_event_of_its_row(stage):
    subject = uuid4()
    await stage.start_relay("relay-envelope")
    await stage.write_orders([subject], 1)
    await stage.all_published()
    (message,) = await stage.messages()
    (row,) = await stage.rows()
    headers = {name: value.decode() for name, value in message.headers}
    assert message.topic == headers["ce_type"] == row["type"]
    assert message.key == str(subject).encode()
    assert headers["ce_id"] == str(row["event_id"])
    assert headers["ce_sequence"] == "1"
    assert headers["traceparent"] == row["traceparent"]


async def test_a_backlog_of_one_lane_is_drained_in_many_batches(stage):
    subject = uuid4()
    others = [
        each
        for each in (uuid4() for _ in range(200))
        if outbox_partition_of(each) == outbox_partition_of(subject)
    ]
    await stage.write_orders([subject], 150)
    await stage.write_orders(others, 5)
    await stage.start_relay("relay-backlog")
    await stage.all_published()
    assert await stage.check() == 0


async def test_a_row_that_commits_late_with_a_lower_id_is_found(stage):
    late, early = uuid4(), uuid4()
    await stage.start_relay("relay-late")
    async with stage.database() as slow:
        transaction = slow.transaction()
        await transaction.start()
        await stage.write(slow, late, 1)
        await stage.write_orders([early], 3)
        await stage.all_published()
        assert len(await stage.messages()) == 3
        await transaction.commit()
    rows = await stage.rows()
    assert rows[0]["subject"] == late
    await stage.all_published()
    assert await stage.check() == 0


async def test_what_cannot_be_published_holds_up_only_its_own_order(stage):
    broken, sound = uuid4(), uuid4()
    async with stage.database() as connection:
        await stage.write(connection, broken, 1)
        await connection.execute("UPDATE history SET type = 'order.unheard'")
    await stage.write_orders([broken], 2, first=2)
    await stage.start_relay("relay-poisoned")
    await stage.write_orders([sound], 4)

    async def is_only_broken_left() -> bool:
        return await stage.unpublished() == 3

    await stage.until(is_only_broken_left, "the sound order is published")
    assert {message.key for message in await stage.messages()} == {str(sound).encode()}
    assert await stage.metric("relay-poisoned", "orderplane_relay_failures_total") == 1


async def test_without_kafka_it_is_ready_and_counts_what_waits(stage):
    await stage.write_orders([uuid4()], 5)
    await stage.start_relay("relay-blind", kafka="")

    async def are_counted() -> bool:
        return await stage.metric("relay-blind", "orderplane_outbox_waiting_events") == 5

    await stage.until(are_counted, "five events are seen waiting")
    assert await stage.metric("relay-blind", "orderplane_outbox_oldest_age_seconds") > 0
    assert await stage.metric("relay-blind", "orderplane_relay_partitions") == 0
    assert await stage.unpublished() == 5
