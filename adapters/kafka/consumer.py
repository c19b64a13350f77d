"""A member of a consumer group that commits only what it is told to."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer

from orderplane.adapters.kafka.connected import connected

START_SECONDS = 20.0
SILENCE_MS = 6_000
"""A member that was silent for so long is dead, and others take over: the least that brokers allow."""


@asynccontextmanager
async def open_consumer(bootstrap: str, group: str, topics: Sequence[str]) -> AsyncIterator[AIOKafkaConsumer]:
    """Join a group; leave it at the end, so that others take over at once. A new group begins at the oldest.

    Raises:
        aiokafka.errors.KafkaError: the brokers cannot be reached.
    """
    consumer = AIOKafkaConsumer(
        *topics,
        bootstrap_servers=bootstrap,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        request_timeout_ms=10_000,
        session_timeout_ms=SILENCE_MS,
        heartbeat_interval_ms=2_000,
    )
    async with connected(
        consumer, bootstrap, start_seconds=START_SECONDS, stop_seconds=START_SECONDS
    ) as member:
        yield member
