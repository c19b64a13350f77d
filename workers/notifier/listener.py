"""Read the topics: note what customers are to be told, and bury what nobody can deal with.

What a record calls for is in the ledger before its offset is committed, so nothing is lost; and a record that
comes again notes nothing new. Sending is not done here: a mail server that is away holds no partition back.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError

from orderplane.adapters.kafka.clients import open_consumer, open_producer
from orderplane.adapters.kafka.topics import ensure_topics
from orderplane.adapters.retry import Stopped, retry_until_stopped, wait_for_event
from orderplane.events.dead_letters import DEAD_LETTER_TOPIC, DeadLetter, dead_letter_headers
from orderplane.ledgers.errors import Transient
from orderplane.workers.notifier import metrics
from orderplane.workers.notifier.letters import disagreement, letter_for, letter_of_row, sort
from orderplane.workers.notifier.plan import CHANNELS
from orderplane.workers.notifier.store import Noted, NotificationStore

log = structlog.get_logger(__name__)

GROUP = "orderplane-notifier"
BATCH = 200
FETCH_MS = 250
GATHER_SECONDS = 0.4
"""Between two looks, unless there was more than one look could take. A look costs about as much for one event
as for fifty, and nobody minds when a message comes so much later."""
COMMIT_SECONDS = 5.0
BURY_SECONDS = 1.0
MOST_BURIED = 50


class Listener:
    """Listens until it is stopped; failures of Kafka or of the database are waited out.

    Args:
        on_news: Called when something may have become due.
    """

    def __init__(
        self, kafka: str | None, replication: int, book: NotificationStore, on_news: Callable[[], None]
    ) -> None:
        self._kafka = kafka
        self._replication = replication
        self._book = book
        self._on_news = on_news
        self._bury_at = 0.0
        self._lag: dict[Any, int] = {}
        self.is_listening = False

    async def run(self, stopping: asyncio.Event) -> None:
        """Listen until `stopping` is set; then finish the batch in hand and leave the group."""
        if not self._kafka:
            log.warning("no Kafka is configured: nobody is told anything new")
            return
        with suppress(Stopped):
            await retry_until_stopped(
                partial(self._listen, self._kafka, stopping),
                on=(Transient, KafkaError),
                stopping=stopping,
                on_failure=_on_failure,
            )

    async def _listen(self, kafka: str, stopping: asyncio.Event) -> None:
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
                        await self._take(records, producer)
                        await _commit(consumer)
                        self._measure(consumer, batch)
                    if time.monotonic() >= self._bury_at:
                        await self._bury_dead(producer)
                    if len(records) < BATCH:
                        await wait_for_event(stopping, GATHER_SECONDS)
        finally:
            self.is_listening = False

    async def _take(self, records: Sequence[Any], producer: AIOKafkaProducer) -> None:
        read, dead = sort(records)
        told = await self._book.told([event.id for _, event in read])
        news: list[Noted] = []
        for record, event in read:
            if why := disagreement(event, told):
                dead.append(letter_for(record, *why))
            else:
                news.append(Noted(event, record.partition, record.offset))
        await _bury(dead, producer)
        if news:
            await self._book.note(news)
            self._on_news()

    def _measure(self, consumer: AIOKafkaConsumer, batch: Mapping[Any, Sequence[Any]]) -> None:
        for partition, records in batch.items():
            self._lag[partition] = max(0, (consumer.highwater(partition) or 0) - records[-1].offset - 1)
        ours = consumer.assignment()
        for type_ in CHANNELS:
            lag = sum(
                n for partition, n in self._lag.items() if partition.topic == type_ and partition in ours
            )
            metrics.LAG.labels(type_.value).set(lag)

    async def _bury_dead(self, producer: AIOKafkaProducer) -> None:
        """Put into the dead-letter topic what could not be sent."""
        async with self._book.burying(MOST_BURIED) as rows:
            await _bury([letter_of_row(row) for row in rows], producer)
        if len(rows) < MOST_BURIED:
            self._bury_at = time.monotonic() + BURY_SECONDS


def _on_failure(problem: Exception) -> None:
    lost = "Kafka" if isinstance(problem, KafkaError) else "PostgreSQL"
    metrics.FAILURES.labels("kafka" if isinstance(problem, KafkaError) else "postgres").inc()
    log.warning("lost; what is unread waits in Kafka", lost=lost, why=repr(problem))


async def _commit(consumer: AIOKafkaConsumer) -> None:
    """Commit what was read; on its own aiokafka would try for ever."""
    try:
        async with asyncio.timeout(COMMIT_SECONDS):
            await consumer.commit()
    except TimeoutError as problem:
        raise KafkaTimeoutError(f"no commit within {COMMIT_SECONDS:g} s") from problem


async def _bury(letters: Sequence[DeadLetter], producer: AIOKafkaProducer) -> None:
    for letter in letters:
        await producer.send_and_wait(
            DEAD_LETTER_TOPIC, letter.value, key=letter.key, headers=dead_letter_headers(letter), partition=0
        )
        metrics.DEAD_LETTERS.labels(letter.reason).inc()
        log.error(
            "a dead letter: see `orderplane dlq list`",
            reason=letter.reason,
            topic=letter.topic,
            partition=letter.partition,
            offset=letter.offset,
            channel=letter.channel,
        )
