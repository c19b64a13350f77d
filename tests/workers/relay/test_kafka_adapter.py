"""What the Kafka adapter says where no broker is, and that topics can be made by several at once."""

import asyncio
from enum import StrEnum

import pytest
from aiokafka.errors import KafkaError

from orderplane.adapters.kafka import clients
from orderplane.adapters.kafka.clients import open_producer
from orderplane.adapters.kafka.topics import ensure_topics, read_all
from orderplane.dev.localplane.ports import free_port


@pytest.fixture
def nobody():
    """An address where nobody listens."""
    return f"127.0.0.1:{free_port()}"


async def test_making_topics_where_no_broker_is(nobody):
    with pytest.raises(KafkaError):
        await ensure_topics(nobody)


async def test_a_producer_where_no_broker_is(nobody):
    with pytest.raises(KafkaError):
        async with open_producer(nobody):
            pytest.fail("there is nothing to produce to")


async def test_reading_where_no_broker_is(nobody):
    with pytest.raises(KafkaError):
        _ = [message async for message in read_all(nobody)]


@pytest.mark.integration
async def test_topics_are_made_once_by_whoever_is_first(kept_stage):
    made = await asyncio.gather(*(ensure_topics(kept_stage.kafka) for _ in range(3)))
    assert len({topic for each in made for topic in each}) == sum(map(len, made))
    assert await ensure_topics(kept_stage.kafka) == []


@pytest.mark.integration
async def test_what_brokers_refuse_is_said(kept_stage, monkeypatch):
    class MoreTypes(StrEnum):
        REPLICATED = "order.replicated"

    monkeypatch.setattr("orderplane.adapters.kafka.topics.EventType", MoreTypes)
    with pytest.raises(KafkaError, match=r"order\.replicated"):
        await ensure_topics(kept_stage.kafka, replication=3)


class Stopping:
    """A client whose stop ends as aiokafka's does when one of its tasks was cancelled."""

    async def start(self):
        pass

    async def stop(self):
        inner = asyncio.create_task(asyncio.sleep(60))
        inner.cancel()
        await inner


async def test_a_stop_that_leaks_a_cancellation_hides_no_failure():
    with pytest.raises(KafkaError, match="the broker is gone"):
        async with clients._started(Stopping(), "nobody:1", 1, 1):
            raise KafkaError("the broker is gone")


async def test_a_stop_that_is_cancelled_from_outside_is_cancelled():
    async def use():
        async with clients._started(Hanging(), "nobody:1", 1, 60):
            pass

    using = asyncio.create_task(use())
    await asyncio.sleep(0.01)
    using.cancel()
    with pytest.raises(asyncio.CancelledError):
        await using


class Hanging(Stopping):
    async def stop(self):
        await asyncio.Event().wait()
