"""Read the topics: add the messages that customers are to get, and dead-letter records that cannot be used.

An event's messages are in the database before its offset is committed, so none is lost; and a record that is
read again adds nothing. Messages are not sent here: a mail server that is down must not stop a partition.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError
from prometheus_client import Counter, Gauge

from orderplane.adapters.kafka.clients import open_consumer, open_producer
from orderplane.adapters.kafka.topics import ensure_topics
from orderplane.adapters.retry import Stopped, retry, wait_for_event
from orderplane.events.dead_letters import DEAD_LETTER_TOPIC, DeadLetter, dead_letter_headers
from orderplane.ledgers.errors import Transient
from orderplane.workers.notifier.dead_letters import (
    dead_letter_of_message,
    dead_letter_of_record,
    mismatch,
    split_readable,
)
from orderplane.workers.notifier.plan import CHANNELS
from orderplane.workers.notifier.store import FAILURES, NotificationStore, ReceivedEvent

log = structlog.get_logger(__name__)

GROUP = "orderplane-notifier"
BATCH = 200
FETCH_MS = 250
POLL_SECONDS = 0.4
"""Pause between two fetches, unless the last one was full. A fetch costs about as much for one event as for
fifty, and a message may be so much later."""
COMMIT_SECONDS = 5.0
DEAD_LETTER_SECONDS = 1.0
DEAD_LETTER_BATCH = 50

DEAD_LETTERS = Counter("orderplane_dead_letters_total", "Records put into the dead-letter topic.", ["reason"])
LAG = Gauge("orderplane_notifier_lag_records", "Records that are not read yet.", ["topic"])


class Listener:
    """Reads events until it is stopped. A lost database or broker is waited for.

    Args:
        on_added: Called when messages may have become due.
    """

    def __init__(
        self, kafka: str | None, replication: int, store: NotificationStore, on_added: Callable[[], None]
    ) -> None:
        self._kafka = kafka
        self._replication = replication
        self._store = store
        self._on_added = on_added
        self._dead_letters_at = 0.0
        self._lag: dict[TopicPartition, int] = {}
        self.is_listening = False

    async def run(self, stopping: asyncio.Event) -> None:
        """Listen until `stopping` is set; then finish the batch in hand and leave the consumer group."""
        if not self._kafka:
            log.warning("no Kafka is configured; no new events are read")
            return
        with suppress(Stopped):
            await retry(
                partial(self._run_session, self._kafka, stopping),
                on=(Transient, KafkaError),
                stopping=stopping,
                on_failure=_note_failure,
            )

    async def _run_session(self, kafka: str, stopping: asyncio.Event) -> None:
        await ensure_topics(kafka, replication=self._replication)
        try:
            async with (
                open_producer(kafka) as producer,
                open_consumer(kafka, GROUP, [type_.value for type_ in CHANNELS]) as consumer,
            ):
                while not stopping.is_set():
                    batch = await consumer.getmany(timeout_ms=FETCH_MS, max_records=BATCH)
                    self.is_listening = True
                    records = [record for each in batch.values() for record in each]
                    if records:
                        await self._process(records, producer)
                        await _commit(consumer)
                        self._measure_lag(consumer, batch)
                    if time.monotonic() >= self._dead_letters_at:
                        await self._publish_dead_messages(producer)
                    if len(records) < BATCH:
                        await wait_for_event(stopping, POLL_SECONDS)
        finally:
            self.is_listening = False

    async def _process(self, records: Sequence[ConsumerRecord], producer: AIOKafkaProducer) -> None:
        readable, dead = split_readable(records)
        recorded = await self._store.recorded_events([event.id for _, event in readable])
        received: list[ReceivedEvent] = []
        for record, event in readable:
            if why := mismatch(event, recorded):
                dead.append(dead_letter_of_record(record, *why))
            else:
                received.append(ReceivedEvent(event, record.partition, record.offset))
        await _publish(dead, producer)
        if received:
            await self._store.add(received)
            self._on_added()

    def _measure_lag(
        self, consumer: AIOKafkaConsumer, batch: Mapping[TopicPartition, Sequence[ConsumerRecord]]
    ) -> None:
        for partition, records in batch.items():
            self._lag[partition] = max(0, (consumer.highwater(partition) or 0) - records[-1].offset - 1)
        assigned = consumer.assignment()
        for type_ in CHANNELS:
            lag = sum(
                n for partition, n in self._lag.items() if partition.topic == type_ and partition in assigned
            )
            LAG.labels(type_.value).set(lag)

    async def _publish_dead_messages(self, producer: AIOKafkaProducer) -> None:
        async with self._store.dead_lettering(DEAD_LETTER_BATCH) as rows:
            await _publish([dead_letter_of_message(row) for row in rows], producer)
        if len(rows) < DEAD_LETTER_BATCH:
            self._dead_letters_at = time.monotonic() + DEAD_LETTER_SECONDS


def _note_failure(problem: Exception) -> None:
    lost = "kafka" if isinstance(problem, KafkaError) else "postgres"
    FAILURES.labels(lost).inc()
    log.warning("connection lost; unread events wait in Kafka", to=lost, why=repr(problem))


async def _commit(consumer: AIOKafkaConsumer) -> None:
    """Commit the offsets of what was read. aiokafka alone would retry without a limit."""
    try:
        async with asyncio.timeout(COMMIT_SECONDS):
            await consumer.commit()
    except TimeoutError as problem:
        raise KafkaTimeoutError(f"no commit within {COMMIT_SECONDS:g} s") from problem


async def _publish(letters: Sequence[DeadLetter], producer: AIOKafkaProducer) -> None:
    for letter in letters:
        await producer.send_and_wait(
            DEAD_LETTER_TOPIC, letter.value, key=letter.key, headers=dead_letter_headers(letter), partition=0
        )
        DEAD_LETTERS.labels(letter.reason).inc()
        log.error(
            "a dead letter: see `orderplane dlq list`",
            reason=letter.reason,
            topic=letter.topic,
            partition=letter.partition,
            offset=letter.offset,
            channel=letter.channel,
        )
