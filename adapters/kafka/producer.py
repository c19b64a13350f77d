"""A producer that neither loses nor reorders what it is given, with every wait bounded."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaProducer

from orderplane.adapters.kafka.connected import connected

REQUEST_SECONDS = 10.0
MAX_VALUE_BYTES = 900_000
"""Values up to this fit, with their key and headers, what brokers take by default (1 MiB a message)."""


@asynccontextmanager
async def open_producer(bootstrap: str) -> AsyncIterator[AIOKafkaProducer]:
    """Connect, and let what is under way end before the connection is closed.

    Idempotent and acks=all: what it acknowledges is on every replica, and its own retries neither double
    nor swap anything. After a failed send its numbering has a gap: open another one.

    Raises:
        aiokafka.errors.KafkaError: the brokers cannot be reached.
    """
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        enable_idempotence=True,
        acks="all",
        linger_ms=2,
        request_timeout_ms=int(REQUEST_SECONDS * 1000),
        max_batch_size=65_536,
        # Not compressed: the events of a batch go to many partitions, a few hundred bytes to each.
        compression_type=None,
    )
    # What is unacknowledged expires after the request's time-out, so stopping ends before ours.
    async with connected(
        producer, bootstrap, start_seconds=REQUEST_SECONDS, stop_seconds=REQUEST_SECONDS + 2
    ) as member:
        yield member
