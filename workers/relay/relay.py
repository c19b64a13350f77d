"""Publish the outbox to Kafka.

Delivery is at least once, and the events of an order keep their sequence, also across topics: event n+1 is
sent only after the brokers have acknowledged event n. This holds for any number of relays at once; dividing
the outbox into partitions only avoids that two relays send the same event.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from uuid import UUID

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import Counter, Gauge, Histogram

from orderplane.adapters.halves import Beat, Half
from orderplane.adapters.kafka.clients import MAX_VALUE_BYTES, open_producer
from orderplane.adapters.kafka.topics import ensure_topics
from orderplane.adapters.retry import Stopped, retry, wait_for_event
from orderplane.adapters.retryable import KAFKA, POSTGRES
from orderplane.adapters.telemetry.traces import context_from, is_recorded
from orderplane.events.envelope import to_record
from orderplane.ledgers.awaiting import awaiting
from orderplane.workers.relay.outbox import Outbox, open_backlog, open_outbox, read_backlog
from orderplane.workers.relay.plan import OutboxRow, sequential_batches, split_sendable

log = structlog.get_logger(__name__)
tracer = trace.get_tracer(__name__)

ROWS_PER_PARTITION = 64
POLL_SECONDS = 0.25
"""Pause between two polls of the outbox. At 20 orders a second, 0.1 costs a third more CPU in the relay and
half as much again in the broker; 0.5 saves nothing more. The relay polls and does not LISTEN: transactions
that call NOTIFY commit one after the other, and a poll of an empty outbox costs less than a notification."""
REBALANCE_SECONDS = 2.0
COUNT_SECONDS = 2.0
BLOCK_SECONDS = 60.0
MAX_BLOCKED = 1000
DRAIN_SECONDS = 10.0
"""For the batch in hand."""

WAITING = Gauge("orderplane_outbox_waiting_events", "Events that are not published yet, in all partitions.")
OLDEST = Gauge("orderplane_outbox_oldest_age_seconds", "Age of the oldest event that is not published.")
PUBLISHED = Counter("orderplane_relay_published_total", "Events that are acknowledged.", ["topic"])
FAILURES = Counter("orderplane_relay_failures_total", "Failures by reason.", ["reason"])
PARTITIONS = Gauge("orderplane_relay_partitions", "Outbox partitions that this relay serves.")
PUBLISH_SECONDS = Histogram(
    "orderplane_relay_publish_duration_seconds",
    "Time from the first send of a batch until it is marked.",
)


class Relay:
    """Serves its share of the outbox partitions.

    Args:
        dsn: Where to connect to; asked whenever a session begins, and a new one ends the session.
        kafka: Bootstrap servers; without them events are only counted.
        replication: Replication factor of topics that are created.
        stopping: Finish the batch in hand, then end.
    """

    def __init__(
        self, dsn: Callable[[], str], kafka: str | None, replication: int, stopping: asyncio.Event
    ) -> None:
        self._dsn = dsn
        self._kafka = kafka
        self._replication = replication
        self._stopping = stopping
        self._is_publishing = False
        self._is_counting = False
        self._blocked_until: dict[UUID, float] = {}

    @property
    def is_ready(self) -> bool:
        """Whether events are published; without Kafka, whether they are counted."""
        return self._is_publishing if self._kafka else self._is_counting

    @property
    def halves(self) -> list[Half]:
        """What has to run until `stopping` is set; a lost database or broker is waited for."""
        halves = [Half("count", self._count)]
        if self._kafka:
            publish = partial(self._publish_until_stopped, self._kafka)
            halves.append(Half("publish", publish, finish=self._stopping.set))
        else:
            log.warning("no Kafka is configured; events wait in the outbox")
        return halves

    async def _publish_until_stopped(self, kafka: str, beat: Beat) -> None:
        def note(problem: Exception) -> None:
            beat()
            _note_failure(problem)

        with suppress(Stopped):
            await retry(
                partial(self._run_session, kafka, beat),
                on=(*POSTGRES, *KAFKA),
                stopping=self._stopping,
                on_failure=note,
            )

    async def _run_session(self, kafka: str, beat: Beat) -> None:
        """One database session and one producer. When one fails, both end, and the partitions are free."""
        await ensure_topics(kafka, replication=self._replication)
        try:
            dsn = self._dsn()
            async with open_outbox(dsn) as outbox, open_producer(kafka) as producer:
                rebalance_at = 0.0
                while not self._stopping.is_set():
                    beat()
                    if self._dsn() != dsn:
                        raise ConnectionError("the DSN has changed")
                    if time.monotonic() >= rebalance_at:
                        await outbox.rebalance()
                        PARTITIONS.set(len(outbox.partitions))
                        rebalance_at = time.monotonic() + REBALANCE_SECONDS
                        self._is_publishing = True
                    with awaiting("postgres", "outbox"):
                        rows = await outbox.unpublished(ROWS_PER_PARTITION, self._blocked())
                    if rows:
                        await self._publish(outbox, producer, rows, beat)
                    if len(rows) < ROWS_PER_PARTITION:
                        await wait_for_event(self._stopping, POLL_SECONDS)
        finally:
            self._is_publishing = False
            PARTITIONS.set(0)

    async def _publish(
        self, outbox: Outbox, producer: AIOKafkaProducer, rows: Sequence[OutboxRow], beat: Beat
    ) -> None:
        """Send rows; mark those that are acknowledged, also when others fail.

        Raises:
            KafkaError: a row was not acknowledged; no later row of its subject was sent.
        """
        sendable, blocked = split_sendable(rows, MAX_VALUE_BYTES)
        for row, reason in blocked:
            self._block(row, reason)
        acknowledged: list[int] = []
        failure: KafkaError | None = None
        with PUBLISH_SECONDS.time():
            try:
                for batch in sequential_batches(sendable):
                    beat()
                    began = time.time_ns()
                    with awaiting("kafka", "publish"):
                        results = await _send(producer, batch)
                    for row, result in zip(batch, results, strict=True):
                        _trace(row, began, result)
                        if result is None:
                            acknowledged.append(row["id"])
                            PUBLISHED.labels(row["type"]).inc()
                        else:
                            failure = failure or result
                    if failure is not None or outbox.is_lost:
                        break
            finally:
                if acknowledged:
                    await outbox.mark_published(acknowledged)
        if failure is not None:
            raise failure

    def _block(self, row: OutboxRow, reason: str) -> None:
        """Leave out the subject of a row that cannot be sent, for a while; other subjects need not wait."""
        FAILURES.labels(reason).inc()
        log.error(
            "an event cannot be published; it and the later events of its order wait. If this relay does not "
            "know the type, upgrade the relay; else find what wrote the event",
            reason=reason,
            event_id=str(row["event_id"]),
            type=row["type"],
            order=f"{row['merchant']}/{row['name']}",
        )
        if len(self._blocked_until) >= MAX_BLOCKED:
            del self._blocked_until[next(iter(self._blocked_until))]
        self._blocked_until[row["subject"]] = time.monotonic() + BLOCK_SECONDS

    def _blocked(self) -> list[UUID]:
        now = time.monotonic()
        self._blocked_until = {
            subject: until for subject, until in self._blocked_until.items() if until > now
        }
        return list(self._blocked_until)

    async def _count(self, beat: Beat) -> None:
        """Update the gauges, also while a batch waits for Kafka, until cancelled."""
        while True:
            beat()
            try:
                dsn = self._dsn()
                async with open_backlog(dsn) as connection:
                    while self._dsn() == dsn:
                        beat()
                        backlog = await read_backlog(connection)
                        WAITING.set(backlog.events)
                        OLDEST.set(backlog.oldest_seconds)
                        self._is_counting = True
                        await asyncio.sleep(COUNT_SECONDS)
            except POSTGRES as problem:
                self._is_counting = False
                log.debug("the outbox cannot be counted", why=repr(problem))
                await asyncio.sleep(COUNT_SECONDS)


def _note_failure(problem: Exception) -> None:
    lost = "kafka" if isinstance(problem, KafkaError) else "postgres"
    FAILURES.labels(lost).inc()
    log.warning("connection lost; events wait until it is back", to=lost, why=repr(problem))


async def _send(producer: AIOKafkaProducer, rows: Sequence[OutboxRow]) -> list[KafkaError | None]:
    """Send all rows and wait for the result of each; None is an acknowledgement."""
    sent: list[asyncio.Future[object] | KafkaError] = []
    for row in rows:
        record = to_record(row)
        try:
            sent.append(
                await producer.send(record.topic, record.value, key=record.key, headers=record.headers)
            )
        except KafkaError as problem:
            sent.append(problem)
    results: list[KafkaError | None] = []
    for each in sent:
        if isinstance(each, KafkaError):
            results.append(each)
            continue
        try:
            await each
        except KafkaError as problem:
            results.append(problem)
        else:
            results.append(None)
    return results


def _trace(row: OutboxRow, began: int, problem: KafkaError | None) -> None:
    """A span in the trace of the event's order: whoever looks at that trace would not find one of a batch."""
    if not is_recorded(row["traceparent"]):
        return
    span = tracer.start_span(
        f"publish {row['type']}",
        context_from(row["traceparent"]),
        SpanKind.PRODUCER,
        {"messaging.system": "kafka", "messaging.destination.name": row["type"]},
        start_time=began,
    )
    if problem is not None:
        span.set_status(StatusCode.ERROR, type(problem).__name__)
    span.end()
