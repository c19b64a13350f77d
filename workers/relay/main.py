"""Tell Kafka what happened: `python -m orderplane.workers.relay.main`.

The promise is at least once, each order's events in their order, also across topics: event n+1 of an order
is sent only after the brokers have acknowledged n. That holds whoever sends; the partitions only spare
duplicates where there are several relays.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from uuid import UUID

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from opentelemetry import trace
from opentelemetry.trace import SpanKind
from prometheus_client import Counter, Gauge, Histogram

from orderplane.adapters.dependencies import NO_DATABASE
from orderplane.adapters.kafka.clients import MAX_VALUE_BYTES, open_producer
from orderplane.adapters.kafka.topics import ensure_topics
from orderplane.adapters.process import Process, run_process
from orderplane.adapters.retry import Stopped, retry_until_stopped, wait_for_event
from orderplane.adapters.telemetry.traces import context_from
from orderplane.events.envelope import to_record
from orderplane.workers.relay.batch import Row, rounds, sendable
from orderplane.workers.relay.outbox import Outbox, check, open_backlog, open_outbox, read_backlog
from orderplane.workers.settings import RelaySettings

log = structlog.get_logger(__name__)
tracer = trace.get_tracer(__name__)

MOST_PER_PARTITION = 64
LOOK_SECONDS = 0.25
"""How long events gather before they are fetched. At 20 orders a second, 0.1 costs a third more CPU in the
relay and half as much again in the broker, 0.5 saves nothing more. Nobody has to call us: a transaction that
calls NOTIFY lets no other commit beside it, and looking where nothing waits costs less than being called."""
SHARE_SECONDS = 2.0
COUNT_SECONDS = 2.0
HOLD_SECONDS = 60.0
MOST_HELD = 1000
DRAIN_SECONDS = 10.0
_MOST_LINKS = 128

WAITING = Gauge("orderplane_outbox_waiting_events", "Events that Kafka was not told yet, in all partitions.")
OLDEST = Gauge("orderplane_outbox_oldest_age_seconds", "How long the oldest of them waits.")
PUBLISHED = Counter("orderplane_relay_published_total", "Events that Kafka has acknowledged.", ["topic"])
FAILURES = Counter("orderplane_relay_failures_total", "What went wrong.", ["reason"])
OWNED = Gauge("orderplane_relay_partitions", "Partitions that this relay serves.")
PUBLISH_SECONDS = Histogram("orderplane_relay_publish_duration_seconds", "One batch, from row to mark.")


class Relay:
    """Serves its share of partitions until it is stopped."""

    def __init__(self, dsn: str, kafka: str | None, replication: int, stopping: asyncio.Event) -> None:
        self._dsn = dsn
        self._kafka = kafka
        self._replication = replication
        self._stopping = stopping
        self._is_serving = False
        self._is_counting = False
        self._held: dict[UUID, float] = {}

    @property
    def is_ready(self) -> bool:
        """Events flow, or, where no Kafka is configured, are seen waiting."""
        return self._is_serving if self._kafka else self._is_counting

    async def run(self) -> None:
        """Serve until `stop`; failures of the database or of Kafka are waited out."""
        async with asyncio.TaskGroup() as group:
            counting = group.create_task(self._count())
            serving = group.create_task(self._serve())
            await self._stopping.wait()
            await asyncio.wait({serving}, timeout=DRAIN_SECONDS)
            for task in (serving, counting):
                task.cancel()

    async def _serve(self) -> None:
        if not self._kafka:
            log.warning("no Kafka is configured: events wait in the outbox")
            return
        with suppress(Stopped):
            await retry_until_stopped(
                partial(self._serve_session, self._kafka),
                on=(*NO_DATABASE, KafkaError),
                stopping=self._stopping,
                on_failure=_on_failure,
            )

    async def _serve_session(self, kafka: str) -> None:
        """One database session, one producer: whichever fails takes the other with it, and the partitions."""
        await ensure_topics(kafka, replication=self._replication)
        try:
            async with open_outbox(self._dsn) as outbox, open_producer(kafka) as producer:
                share_at = 0.0
                while not self._stopping.is_set():
                    if time.monotonic() >= share_at:
                        await outbox.share()
                        OWNED.set(len(outbox.partitions))
                        share_at = time.monotonic() + SHARE_SECONDS
                        self._is_serving = True
                    rows = await outbox.waiting(MOST_PER_PARTITION, self._still_held())
                    if rows:
                        await self._publish(outbox, producer, rows)
                    if len(rows) < MOST_PER_PARTITION:
                        await wait_for_event(self._stopping, LOOK_SECONDS)
        finally:
            self._is_serving = False
            OWNED.set(0)

    async def _publish(self, outbox: Outbox, producer: AIOKafkaProducer, rows: Sequence[Row]) -> None:
        """Send a batch round by round; what was acknowledged is marked even where something else failed.

        Raises:
            KafkaError: something was not acknowledged; nothing that comes after it was sent.
        """
        fit, refused = sendable(rows, MAX_VALUE_BYTES)
        for row, reason in refused:
            self._hold(row, reason)
        acknowledged: list[int] = []
        failure: KafkaError | None = None
        with tracer.start_as_current_span("publish", kind=SpanKind.PRODUCER) as span, PUBLISH_SECONDS.time():
            if span.is_recording():
                _link(span, fit)
            try:
                for batch in rounds(fit):
                    answers = await _send(producer, batch)
                    for row, answer in zip(batch, answers, strict=True):
                        if answer is None:
                            acknowledged.append(row["id"])
                            PUBLISHED.labels(row["type"]).inc()
                        else:
                            failure = failure or answer
                    if failure is not None or outbox.is_lost:
                        break
            finally:
                if acknowledged:
                    await outbox.mark(acknowledged)
        if failure is not None:
            raise failure

    def _hold(self, row: Row, reason: str) -> None:
        """Leave out for a while the subject of a row that cannot go out; others need not wait for it."""
        FAILURES.labels(reason).inc()
        log.error(
            "an event cannot be published; it and what follows it wait. Upgrade the relay where it does "
            "not know the type, else find what wrote the event",
            reason=reason,
            event_id=str(row["event_id"]),
            type=row["type"],
            order=f"{row['merchant']}/{row['name']}",
        )
        if len(self._held) >= MOST_HELD:
            del self._held[next(iter(self._held))]
        self._held[row["subject"]] = time.monotonic() + HOLD_SECONDS

    def _still_held(self) -> list[UUID]:
        now = time.monotonic()
        self._held = {subject: until for subject, until in self._held.items() if until > now}
        return list(self._held)

    async def _count(self) -> None:
        """Keep the gauges true, also while Kafka is down and a batch waits for it."""
        while True:
            try:
                async with open_backlog(self._dsn) as connection:
                    while True:
                        backlog = await read_backlog(connection)
                        WAITING.set(backlog.events)
                        OLDEST.set(backlog.oldest_seconds)
                        self._is_counting = True
                        await asyncio.sleep(COUNT_SECONDS)
            except NO_DATABASE as problem:
                self._is_counting = False
                log.debug("the outbox cannot be counted", why=repr(problem))
                await asyncio.sleep(COUNT_SECONDS)


def _on_failure(problem: Exception) -> None:
    lost = "Kafka" if isinstance(problem, KafkaError) else "PostgreSQL"
    FAILURES.labels("kafka" if isinstance(problem, KafkaError) else "postgres").inc()
    log.warning("lost; events wait until it is back", lost=lost, why=repr(problem))


async def _send(producer: AIOKafkaProducer, rows: Sequence[Row]) -> list[KafkaError | None]:
    """Send all rows and wait for every answer; None is an acknowledgement."""
    sent: list[asyncio.Future[object] | KafkaError] = []
    for row in rows:
        record = to_record(row)
        try:
            sent.append(
                await producer.send(record.topic, record.value, key=record.key, headers=record.headers)
            )
        except KafkaError as problem:
            sent.append(problem)
    answers: list[KafkaError | None] = []
    for each in sent:
        if isinstance(each, KafkaError):
            answers.append(each)
            continue
        try:
            await each
        except KafkaError as problem:
            answers.append(problem)
        else:
            answers.append(None)
    return answers


def _link(span: trace.Span, rows: Sequence[Row]) -> None:
    """Tie a batch's span to the traces that its events came from."""
    span.set_attribute("messaging.batch.message_count", len(rows))
    for traceparent in list(dict.fromkeys(row["traceparent"] for row in rows))[:_MOST_LINKS]:
        context = context_from(traceparent)
        if context is not None:
            span.add_link(trace.get_current_span(context).get_span_context())


async def serve(settings: RelaySettings, process: Process) -> None:
    """Publish until the process is asked to stop; then finish the batch in hand."""
    # It would write twenty lines a second while a broker is away; its failures reach us as exceptions.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    dsn = settings.postgres_dsn.get_secret_value()
    relay = Relay(dsn, settings.kafka, settings.kafka_replication, process.stopping)
    await process.wait_for("PostgreSQL", lambda: check(dsn), NO_DATABASE)
    process.serving(lambda: relay.is_ready, kafka=settings.kafka)
    await relay.run()


def main() -> int:
    """Run the relay; returns the exit code."""
    return run_process("relay", RelaySettings, serve)


if __name__ == "__main__":
    sys.exit(main())
