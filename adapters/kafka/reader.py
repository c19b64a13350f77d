"""Read all that is in topics now."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from orderplane.events.types import EventType

_TIMEOUT_MS = 10_000


async def read_all(
    bootstrap: str, *, seconds: float = 30.0, topics: Sequence[str] = tuple(EventType)
) -> AsyncIterator[Any]:
    """Every record from the beginning to what is the end when this is called.

    Yields:
        aiokafka ConsumerRecord: topic, partition, offset, key, value, headers (pairs of name and bytes),
        timestamp (milliseconds, the broker's). In order within a partition only.

    Raises:
        TimeoutError: the end was not reached in time.
        aiokafka.errors.KafkaError: the brokers cannot be reached.
    """
    deadline = time.monotonic() + seconds
    # The time-outs stand around our own waits only: the code between two records is the caller's.
    async with asyncio.timeout(seconds):
        partitions = await _partitions(bootstrap, topics)
    if not partitions:
        return
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, request_timeout_ms=_TIMEOUT_MS
    )
    try:
        async with asyncio.timeout(seconds):
            await consumer.start()
            left = await _unread(consumer, partitions)
        while left:
            for partition, records in (await consumer.getmany(*left, timeout_ms=500)).items():
                for record in records:
                    if record.offset < left[partition]:
                        yield record
            async with asyncio.timeout(max(0.5, deadline - time.monotonic())):
                for partition in tuple(left):
                    if await consumer.position(partition) >= left[partition]:
                        del left[partition]
            if left and time.monotonic() > deadline:
                raise TimeoutError(f"{len(left)} partitions were not read to their end in {seconds:g} s")
    finally:
        await consumer.stop()


async def _partitions(bootstrap: str, topics: Sequence[str]) -> list[TopicPartition]:
    """A consumer knows the partitions only of what it is subscribed to, so somebody else is asked."""
    wanted = set(topics)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=_TIMEOUT_MS)
    try:
        await admin.start()
        return [
            TopicPartition(topic["topic"], partition["partition"])
            for topic in await admin.describe_topics()
            if topic["topic"] in wanted
            for partition in topic["partitions"]
        ]
    finally:
        await admin.close()


async def _unread(
    consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, int]:
    """Go to the beginning of everything; answers where each partition that has something ends now."""
    consumer.assign(list(partitions))
    starts = await consumer.beginning_offsets(partitions)
    ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
    left = {partition: ends[partition] for partition in partitions if ends[partition] > starts[partition]}
    if left:
        consumer.assign(list(left))
        await consumer.seek_to_beginning(*left)
    return left
