"""Read all that is in our topics now."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from orderplane.events.types import EventType


async def read_all(bootstrap: str, *, seconds: float = 30.0) -> AsyncIterator[Any]:
    """Every record from the beginning to what is the end when this is called (aiokafka ConsumerRecord).

    Raises:
        TimeoutError: the end was not reached in time.
        aiokafka.errors.KafkaError: the brokers cannot be reached.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, request_timeout_ms=10_000
    )
    async with asyncio.timeout(seconds):
        await consumer.start()
        try:
            topics = await consumer.topics()
            partitions = [
                TopicPartition(type_.value, number)
                for type_ in EventType
                if type_.value in topics
                for number in consumer.partitions_for_topic(type_.value) or ()
            ]
            if not partitions:
                return
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            ends = await consumer.end_offsets(partitions)
            left = {partition for partition in partitions if ends[partition] > 0}
            while left:
                batches = await consumer.getmany(*left, timeout_ms=500)
                for partition, records in batches.items():
                    for record in records:
                        if record.offset < ends[partition]:
                            yield record
                for partition in tuple(left):
                    if await consumer.position(partition) >= ends[partition]:
                        left.discard(partition)
        finally:
            await consumer.stop()
