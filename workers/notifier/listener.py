"""Read the topics: add the messages that customers are to get, and dead-letter records that cannot be used.

An event's messages are in the database before its offset is committed, so none is lost; and a record that is
read again adds nothing. Messages are not sent here: a mail server that is down must not stop a partition.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaTimeoutError
from prometheus_client import Counter, Gauge

from orderplane.adapters.halves import Beat
from orderplane.adapters.kafka.clients import open_consumer, open_producer
from orderplane.adapters.kafka.topics import ensure_topics
from orderplane.adapters.retry import Stopped, retry
from orderplane.adapters.retryable import KAFKA
from orderplane.events.dead_letters import DEAD_LETTER_TOPIC, DeadLetter, dead_letter_headers
from orderplane.events.types import EventType
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
WAIT_MS = 500
"""How long to wait for records. They come in batches, see `open_consumer`: no pause is needed for that."""
COMMIT_SECONDS = 5.0
DEAD_LETTER_SECONDS = 1.0
DEAD_LETTER_BATCH = 50

DEAD_LETTERS = Counter("orderplane_dead_letters_total", "Records put into the dead-letter topic.", ["reason"])
LAG = Gauge("orderplane_notifier_lag_records", "Records that are not processed yet.", ["topic"])
LAST_READ = Gauge("orderplane_notifier_last_read_age_seconds", "Time since the topics were last read.")


class Listener:
    """Reads events until it is stopped. A lost database or broker is waited for.

    Args:
        on_added: Called when messages may have become due.
    """

    def __init__(
        self, kafka: str, replication: int, store: NotificationStore, on_added: Callable[[], None]
    ) -> None:
        self._kafka = kafka
        self._replication = replication
        self._store = store
        self._on_added = on_added
        self._dead_letters_at = 0.0
        self._consumer: AIOKafkaConsumer | None = None
        self._next_offsets: dict[TopicPartition, int] = {}
        self.is_listening = False
        self._read_at = time.monotonic()
        LAST_READ.set_function(lambda: time.monotonic() - self._read_at)

    async def run(self, stopping: asyncio.Event, beat: Beat) -> None:
        """Listen until `stopping` is set; then finish the batch in hand and leave the consumer group."""

        def note(problem: Exception) -> None:
            beat()
            _note_failure(problem)

        with suppress(Stopped):
            await retry(
                partial(self._run_session, stopping, beat),
                on=(Transient, *KAFKA),
                stopping=stopping,
                on_failure=note,
            )

    async def _run_session(self, stopping: asyncio.Event, beat: Beat) -> None:
        await ensure_topics(self._kafka, replication=self._replication)
        try:
            async with (
                open_producer(self._kafka) as producer,
                open_consumer(self._kafka, GROUP, [type_.value for type_ in CHANNELS]) as consumer,
            ):
                self._consumer = consumer
                while not stopping.is_set():
                    beat()
                    batch = await consumer.getmany(timeout_ms=WAIT_MS, max_records=BATCH)
                    self.is_listening = True
                    self._read_at = _answered_at(consumer, self._read_at)
                    records = [record for each in batch.values() for record in each]
                    if records:
                        for partition, each in batch.items():
                            self._next_offsets.setdefault(partition, each[0].offset)
                        await self._process(records, producer)
                        await _commit(consumer)
                        for partition, each in batch.items():
                            self._next_offsets[partition] = each[-1].offset + 1
                    if time.monotonic() >= self._dead_letters_at:
                        await self._publish_dead_messages(producer)
        finally:
            self.is_listening = False
            self._consumer = None
            self._next_offsets.clear()

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

    def measure_lag(self) -> None:
        """Update the gauge of unread records, also while a batch waits for the database.

        Without a consumer it keeps its value: how many records there are is not known then, and the age of
        the last read says since when.
        """
        if self._consumer is None:
            return
        lags = dict.fromkeys(CHANNELS, 0)
        for partition in self._consumer.assignment():
            newest, read = self._consumer.highwater(partition), self._next_offsets.get(partition)
            if newest is not None and read is not None:
                lags[EventType(partition.topic)] += max(0, newest - read)
        for type_, lag in lags.items():
            LAG.labels(type_.value).set(lag)

    async def _publish_dead_messages(self, producer: AIOKafkaProducer) -> None:
        async with self._store.dead_lettering(DEAD_LETTER_BATCH) as rows:
            await _publish([dead_letter_of_message(row) for row in rows], producer)
        if len(rows) < DEAD_LETTER_BATCH:
            self._dead_letters_at = time.monotonic() + DEAD_LETTER_SECONDS


def _answered_at(consumer: AIOKafkaConsumer, before: float) -> float:
    """The monotonic time of the newest answer to a fetch: while the brokers are away, aiokafka returns
    nothing and raises nothing. A consumer to which the group has given no partition has nothing to read."""
    polls = [consumer.last_poll_timestamp(partition) for partition in consumer.assignment()]
    if not polls:
        return time.monotonic()
    newest = max((poll for poll in polls if poll is not None), default=0)
    return max(before, time.monotonic() - (time.time() - newest / 1000))


def _note_failure(problem: Exception) -> None:
    lost = "postgres" if isinstance(problem, Transient) else "kafka"
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
