"""Kafka consumers and producers with safe settings, where starting and stopping have timeouts."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaTimeoutError

from orderplane.adapters.retry import is_being_cancelled
from orderplane.ledgers.awaiting import awaiting

log = structlog.get_logger(__name__)

MAX_VALUE_BYTES = 900_000
"""A value of this size fits with key and headers into `message.max.bytes`, which is 1 MiB by default."""

_REQUEST_TIMEOUT_SECONDS = 10.0
_GROUP_TIMEOUT_SECONDS = 20.0
"""Joining or leaving a consumer group may have to wait for a rebalance."""
_SESSION_TIMEOUT_MS = 6_000
"""A member that sends no heartbeat for so long loses its partitions. Brokers allow no less: it is their
`group.min.session.timeout.ms`."""


_FETCH_MS, _FETCH_BYTES = 400, 65_536
"""A broker collects records for so long, or until there are so many bytes, before it answers a fetch. An
answer costs broker and client about as much with one record as with fifty."""


@asynccontextmanager
async def open_producer(bootstrap: str) -> AsyncIterator[AIOKafkaProducer]:
    """Open an idempotent producer; on exit, wait until the requests under way are done.

    With acks=all and idempotence an acknowledged record is on every in-sync replica, and the client's own
    retries neither duplicate nor reorder records. After a failed send the sequence numbers have a gap, so the
    caller must open another producer.

    Raises:
        aiokafka.errors.KafkaError: the brokers cannot be reached.
    """
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        enable_idempotence=True,
        acks="all",
        linger_ms=2,
        request_timeout_ms=int(_REQUEST_TIMEOUT_SECONDS * 1000),
        max_batch_size=65_536,
        # A batch spreads over many partitions, a few hundred bytes for each: too little to compress.
        compression_type=None,
    )
    # Unacknowledged records expire after the request timeout, so a flush ends before the stop timeout.
    async with _started(producer, bootstrap, _REQUEST_TIMEOUT_SECONDS, _REQUEST_TIMEOUT_SECONDS + 2):
        yield producer


@asynccontextmanager
async def open_consumer(bootstrap: str, group: str, topics: Sequence[str]) -> AsyncIterator[AIOKafkaConsumer]:
    """Join a consumer group; leave it on exit, so that its partitions are reassigned at once.

    Offsets are committed by the caller only. A new group begins with the oldest records. A record that comes
    alone is read up to `_FETCH_MS` after it was written.

    Raises:
        aiokafka.errors.KafkaError: the brokers cannot be reached.
    """
    consumer = AIOKafkaConsumer(
        *topics,
        bootstrap_servers=bootstrap,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=_FETCH_MS,
        fetch_min_bytes=_FETCH_BYTES,
        request_timeout_ms=int(_REQUEST_TIMEOUT_SECONDS * 1000),
        session_timeout_ms=_SESSION_TIMEOUT_MS,
        heartbeat_interval_ms=_SESSION_TIMEOUT_MS // 3,
    )
    async with _started(consumer, bootstrap, _GROUP_TIMEOUT_SECONDS, _GROUP_TIMEOUT_SECONDS):
        yield consumer


class _Client(Protocol):
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


@asynccontextmanager
async def _started(
    client: _Client, bootstrap: str, start_seconds: float, stop_seconds: float
) -> AsyncIterator[None]:
    """Start and stop a client: aiokafka has no timeout for either. A stop that fails is logged and left.

    `stop()` awaits tasks that it has just cancelled, and can pass their CancelledError on to its caller, who
    was not cancelled (`Fetcher.close`, `BaseCoordinator` of aiokafka 0.12).
    """
    try:
        try:
            with awaiting("kafka", "connect"):
                async with asyncio.timeout(start_seconds):
                    await client.start()
        except TimeoutError as problem:
            raise KafkaTimeoutError(f"no connection to {bootstrap} within {start_seconds:g} s") from problem
        yield
    finally:
        try:
            async with asyncio.timeout(stop_seconds):
                await client.stop()
        except TimeoutError:
            _note_bad_stop(client, bootstrap, f"not within {stop_seconds:g} s")
        except asyncio.CancelledError:
            if is_being_cancelled():
                raise
            _note_bad_stop(client, bootstrap, "one of its own tasks was cancelled")


def _note_bad_stop(client: _Client, bootstrap: str, why: str) -> None:
    log.warning("a Kafka client did not stop", client=type(client).__name__, bootstrap=bootstrap, why=why)
