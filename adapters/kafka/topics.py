"""Create the topics, and read topics to their present end."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, KafkaTimeoutError, TopicAlreadyExistsError, for_code

from orderplane.events.dead_letters import DEAD_LETTER_TOPIC
from orderplane.events.envelope import ConsumedRecord
from orderplane.events.types import EventType

PARTITIONS = 8
_CONFIG = {
    # The audit compares the order in which the broker appended events, not the relay's own timestamps.
    "message.timestamp.type": "LogAppendTime",
    "retention.ms": "604800000",  # 7 days
}
# A dead letter waits for a person, so it is kept longer than an event.
_DEAD_LETTER_CONFIG = {**_CONFIG, "retention.ms": "2592000000"}  # 30 days
_TIMEOUT_MS = 10_000


class StoredRecord(ConsumedRecord, Protocol):
    """A record of a topic; `timestamp` is the broker's, in milliseconds of Unix time."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...


async def ensure_topics(bootstrap: str, *, replication: int = 1) -> list[str]:
    """Create the topics that do not exist; returns their names.

    Several processes may do this at once. Existing topics are not changed.

    Args:
        bootstrap: `host:port` of one or more brokers, with commas between.
        replication: The replication factor of topics that are created.

    Raises:
        aiokafka.errors.KafkaError: the brokers cannot be reached, or refuse.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=_TIMEOUT_MS)
    try:
        await admin.start()
        known = set(await admin.list_topics())
        wanted = [
            *(NewTopic(type_.value, PARTITIONS, replication, topic_configs=_CONFIG) for type_ in EventType),
            # One partition, so that an offset names one dead letter.
            NewTopic(DEAD_LETTER_TOPIC, 1, replication, topic_configs=_DEAD_LETTER_CONFIG),
        ]
        missing = [topic for topic in wanted if topic.name not in known]
        if not missing:
            return []
        answer = await admin.create_topics(missing, timeout_ms=_TIMEOUT_MS)
    except TimeoutError as problem:
        raise KafkaTimeoutError(f"{bootstrap} did not answer while topics were created") from problem
    finally:
        await admin.close()
    created = []
    for topic, code, *details in answer.topic_errors:
        error = for_code(code)
        if code == 0:
            created.append(topic)
        # Another process may have created it since the list was read.
        elif error is not TopicAlreadyExistsError:
            raise _creation_error(error, topic, details)
    return created


def _creation_error(error: type[KafkaError], topic: str, details: list[str | None]) -> KafkaError:
    message = details[0] if details and details[0] else "no reason given"
    return error(f"the brokers did not create topic {topic}: {message}")


async def read_all(
    bootstrap: str, *, seconds: float = 30.0, topics: Sequence[str] = tuple(EventType)
) -> AsyncIterator[StoredRecord]:
    """Read every record from the beginning to the end that the topics have now.

    Records are in order within a partition only.

    Args:
        seconds: The most that reading may take, without the caller's work between two records.

    Raises:
        TimeoutError: the end was not reached in time.
        aiokafka.errors.KafkaError: the brokers cannot be reached.
    """
    deadline = time.monotonic() + seconds
    # The timeouts enclose no yield: what the caller does between two records must not be cancelled.
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
            ends = await _assign_nonempty(consumer, partitions)
        while ends:
            for partition, records in (await consumer.getmany(*ends, timeout_ms=500)).items():
                for record in records:
                    if record.offset < ends[partition]:
                        yield record
            async with asyncio.timeout(max(0.5, deadline - time.monotonic())):
                for partition in tuple(ends):
                    if await consumer.position(partition) >= ends[partition]:
                        del ends[partition]
            if ends and time.monotonic() > deadline:
                raise TimeoutError(f"{len(ends)} partitions were not read to their end in {seconds:g} s")
    finally:
        await consumer.stop()


async def _partitions(bootstrap: str, topics: Sequence[str]) -> list[TopicPartition]:
    """Ask the admin API: a consumer knows only the partitions of topics that it is subscribed to."""
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


async def _assign_nonempty(
    consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, int]:
    """Assign the partitions that hold records and seek to their beginning; returns their end offsets."""
    consumer.assign(list(partitions))
    starts = await consumer.beginning_offsets(partitions)
    ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
    nonempty = {partition: ends[partition] for partition in partitions if ends[partition] > starts[partition]}
    if nonempty:
        consumer.assign(list(nonempty))
        await consumer.seek_to_beginning(*nonempty)
    return nonempty
