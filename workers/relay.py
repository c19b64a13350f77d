"""Tell Kafka what happened: `python -m orderplane.workers.relay`.

The history is a queue of what is unpublished. Lanes are claimed by advisory locks of one database
session; losing that session ends the producer with it, so that two relays never serve one lane.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson
import structlog
import uvloop
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from prometheus_client import Counter, Gauge, Histogram

from orderplane.adapters.kafka.topics import ensure_topics
from orderplane.adapters.postgres.history import CHANNEL
from orderplane.adapters.telemetry.http import serve_telemetry
from orderplane.adapters.telemetry.logs import set_up_logs
from orderplane.adapters.telemetry.traces import set_up_traces
from orderplane.events.envelope import record_of
from orderplane.events.types import LANES
from orderplane.workers.lanes import fair_share, rounds

log = structlog.get_logger(__name__)

BATCH = 500
POLL_SECONDS = 1.0
SHARE_SECONDS = 5.0
DRAIN_SECONDS = 10.0
_LANE_LOCKS = 0x6F70_0001
"""The first key of the lanes' advisory locks; the lane is the second."""
_PRESENCE = 0x6F70_0002
"""A shared lock that every relay holds, so that they can be counted."""

WAITING = Gauge("orderplane_outbox_waiting_events", "Events that Kafka was not told yet.")
OLDEST = Gauge("orderplane_outbox_oldest_age_seconds", "How long the oldest of them waits.")
PUBLISHED = Counter("orderplane_relay_published_total", "Events that Kafka has acknowledged.", ["topic"])
FAILURES = Counter("orderplane_relay_failures_total", "What went wrong.", ["reason"])
OWNED = Gauge("orderplane_relay_lanes", "Lanes that this relay serves.")
PUBLISH_SECONDS = Histogram("orderplane_relay_publish_duration_seconds", "One batch, from row to mark.")

_UNPUBLISHED = """
SELECT id, event_id, merchant, subject, name, seq, type, data, traceparent, at FROM history
WHERE published_at IS NULL AND lane = ANY($1) ORDER BY id LIMIT $2
"""


@dataclass(frozen=True, slots=True)
class Settings:
    """See `from_env`."""

    postgres_dsn: str
    kafka: str
    metrics_port: int

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "Settings":
        """Read `ORDERPLANE_POSTGRES_DSN`, `ORDERPLANE_KAFKA` (empty: only watch) and the metrics port.

        Raises:
            KeyError: the DSN is missing.
        """
        return cls(
            env["ORDERPLANE_POSTGRES_DSN"],
            env.get("ORDERPLANE_KAFKA", ""),
            int(env.get("ORDERPLANE_METRICS_PORT", "9091")),
        )


class Relay:
    """Serves its share of lanes until it is stopped."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = asyncio.Event()
        self._news = asyncio.Event()
        self._is_ready = False

    @property
    def is_ready(self) -> bool:
        """It reached everything once."""
        return self._is_ready

    def stop(self) -> None:
        """Finish the batch in hand, then end."""
        self._stopping.set()
        self._news.set()

    async def run(self) -> None:
        """Serve, and begin anew after every failure."""
        pause = 0.2
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                await self._serve_until_stopped()
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as problem:
                FAILURES.labels("postgres").inc()
                log.warning("lost PostgreSQL", why=str(problem))
            except KafkaError as problem:
                FAILURES.labels("kafka").inc()
                log.warning("lost Kafka", why=str(problem))
            OWNED.set(0)
            pause = 0.2 if time.monotonic() - started > 10 else min(5.0, pause * 2)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()

    async def _serve_until_stopped(self) -> None:
        """A batch that hangs holds the end up for a while, not for ever."""
        serving = asyncio.create_task(self._serve())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait_for(serving, DRAIN_SECONDS)
        finally:
            stopping.cancel()
            serving.cancel()

    async def _serve(self) -> None:
        connection = await asyncpg.connect(self._settings.postgres_dsn, timeout=10, command_timeout=15)
        try:
            await connection.set_type_codec(
                "jsonb", schema="pg_catalog", encoder=lambda v: orjson.dumps(v).decode(), decoder=orjson.loads
            )
            connection.add_termination_listener(lambda *_: self._news.set())
            await connection.add_listener(CHANNEL, lambda *_: self._news.set())
            await connection.execute("SELECT pg_advisory_lock_shared($1, 0)", _PRESENCE)
            if not self._settings.kafka:
                await self._only_watch(connection)
                return
            await ensure_topics(self._settings.kafka)
            producer = AIOKafkaProducer(
                bootstrap_servers=self._settings.kafka,
                enable_idempotence=True,
                acks="all",
                linger_ms=2,
                request_timeout_ms=10_000,
                max_batch_size=65_536,
            )
            await producer.start()
            try:
                await self._relay(connection, producer)
            finally:
                with contextlib.suppress(KafkaError, TimeoutError):
                    async with asyncio.timeout(5):
                        await producer.stop()
        finally:
            with contextlib.suppress(Exception):
                await connection.close(timeout=2)

    async def _relay(self, connection: asyncpg.Connection, producer: AIOKafkaProducer) -> None:
        lanes: set[int] = set()
        shared_at = 0.0
        while not self._stopping.is_set():
            self._news.clear()
            if time.monotonic() - shared_at > SHARE_SECONDS or not lanes:
                lanes = await self._share(connection, lanes)
                OWNED.set(len(lanes))
                await self._measure(connection)
                shared_at = time.monotonic()
            self._is_ready = True
            started = time.monotonic()
            rows = await connection.fetch(_UNPUBLISHED, sorted(lanes), BATCH) if lanes else []
            if rows:
                await self._publish(connection, producer, rows)
                PUBLISH_SECONDS.observe(time.monotonic() - started)
                # A moment for more to gather: a batch costs hardly more than a single event.
                await asyncio.sleep(0.01 if len(rows) == BATCH else 0.05)
                self._news.set()
            await self._wait_for_news()

    async def _publish(
        self, connection: asyncpg.Connection, producer: AIOKafkaProducer, rows: Sequence[Any]
    ) -> None:
        """Send a batch round by round; what was acknowledged is marked even where a later one fails."""
        acknowledged: list[int] = []
        try:
            for batch in rounds(rows):
                sent = []
                for row in batch:
                    record = record_of(row)
                    sent.append(
                        await producer.send(
                            record.topic, record.value, key=record.key, headers=record.headers
                        )
                    )
                answers = await asyncio.gather(*sent, return_exceptions=True)
                for row, answer in zip(batch, answers, strict=True):
                    if not isinstance(answer, BaseException):
                        acknowledged.append(row["id"])
                        PUBLISHED.labels(row["type"]).inc()
                failed = next((answer for answer in answers if isinstance(answer, BaseException)), None)
                if failed is not None:
                    raise failed
        finally:
            if acknowledged:
                await connection.execute(
                    "UPDATE history SET published_at = clock_timestamp() WHERE id = ANY($1)", acknowledged
                )

    async def _share(self, connection: asyncpg.Connection, lanes: set[int]) -> set[int]:
        """Claim free lanes up to a fair share, give back what is above it."""
        relays = await connection.fetchval(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = $1::int8::oid "
            "AND mode = 'ShareLock' AND granted AND database = "
            "(SELECT oid FROM pg_database WHERE datname = current_database())",
            _PRESENCE,
        )
        share = fair_share(LANES, relays)
        kept = set(sorted(lanes)[:share])
        for lane in lanes - kept:
            await connection.execute("SELECT pg_advisory_unlock($1, $2)", _LANE_LOCKS, lane)
        for lane in range(LANES):
            if len(kept) >= share:
                break
            if lane not in kept and await connection.fetchval(
                "SELECT pg_try_advisory_lock($1, $2)", _LANE_LOCKS, lane
            ):
                kept.add(lane)
        return kept

    async def _only_watch(self, connection: asyncpg.Connection) -> None:
        log.warning("no Kafka is configured: events wait in the outbox")
        while not self._stopping.is_set():
            await self._measure(connection)
            self._is_ready = True
            self._news.clear()
            await self._wait_for_news()

    async def _measure(self, connection: asyncpg.Connection) -> None:
        row = await connection.fetchrow(
            "SELECT count(*) AS waiting, extract(epoch FROM clock_timestamp() - min(at)) AS age "
            "FROM history WHERE published_at IS NULL"
        )
        WAITING.set(row["waiting"])
        OLDEST.set(float(row["age"] or 0))

    async def _wait_for_news(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL_SECONDS):
                await self._news.wait()


async def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, then finish the batch in hand."""
    relay = Relay(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, relay.stop)
    async with serve_telemetry(settings.metrics_port, is_ready=lambda: relay.is_ready):
        await relay.run()


def main() -> int:
    """Run the relay."""
    set_up_logs("relay")
    set_up_traces("relay")
    try:
        uvloop.run(run(Settings.from_env()))
    except KeyError as problem:
        log.error("wrong settings", missing=str(problem))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
