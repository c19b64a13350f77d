"""The relay as a process, against a real PostgreSQL and a real Kafka."""

import asyncio
from uuid import uuid4

import pytest

pytestmark = pytest.mark.integration


async def test_orders_keep_their_order_across_topics(stage):
    subjects = [uuid4() for _ in range(60)]
    await stage.start_relay("relay-alone")
    await asyncio.gather(*(stage.write_orders(subjects[start::4], 12) for start in range(4)))
    await stage.all_published()
    assert await stage.check() == 0
    messages = await stage.messages()
    assert len(messages) == 720
    assert len({message.topic for message in messages}) == 12
    assert await stage.metric("relay-alone", "orderplane_relay_lanes") == 16
    assert await stage.metric("relay-alone", "orderplane_relay_published_total") == 720
