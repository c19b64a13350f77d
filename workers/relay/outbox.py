"""The relay's side of the history: partitions, waiting rows, marks. One database session holds it all.

A partition's lock lives as long as the session, and only the session that holds it marks rows: a relay that
lost its partitions cannot mark, and its partitions are free for others.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import asyncpg

from orderplane.adapters.dependencies import NO_DATABASE
from orderplane.workers.relay.batch import Row
from orderplane.workers.relay.partitions import share_out

_PARTITION = 0x6F70_0001
"""The first key of the partitions' advisory locks; the partition is the second."""
_PRESENCE = 0x6F70_0002
"""A shared lock that every relay holds, so that they can be counted."""

# Found dead within 11 s where a machine or a network dies without a word; its locks go with it.
_KEEPALIVE = {"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "2", "tcp_keepalives_count": "3"}

# From each partition its oldest, by the index alone: the same small work with ten rows waiting or a million.
_WAITING_ROWS = """
SELECT h.* FROM unnest($1::smallint[]) AS mine (partition) CROSS JOIN LATERAL (
    SELECT id, event_id, merchant, subject, name, seq, type, data, traceparent, at
    FROM history
    WHERE published_at IS NULL AND partition = mine.partition AND subject <> ALL($3::uuid[])
    ORDER BY id LIMIT $2
) h
"""
_LOCKS = """
SELECT classid::int8 AS kind, objid::int4 AS partition FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 2 AND granted AND classid::int8 IN ($1, $2)
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_BACKLOG = """
SELECT count(*) AS events, coalesce(extract(epoch FROM clock_timestamp() - min(at)), 0)::float8 AS age
FROM history WHERE published_at IS NULL
"""


class Outbox:
    """What waits in the partitions that this session holds."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._partitions: set[int] = set()

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions that are ours."""
        return frozenset(self._partitions)

    @property
    def is_lost(self) -> bool:
        """The session has ended, and the partitions with it."""
        return bool(self._connection.is_closed())

    async def share(self) -> None:
        """Take free partitions up to a fair share, give back what is above it; no row may be under way."""
        locks = await self._connection.fetch(_LOCKS, _PARTITION, _PRESENCE)
        relays = sum(lock["kind"] == _PRESENCE for lock in locks)
        change = share_out(
            self._partitions, {lock["partition"] for lock in locks if lock["kind"] == _PARTITION}, relays
        )
        if change.release:
            await self._connection.execute(
                "SELECT pg_advisory_unlock($1, partition) FROM unnest($2::int[]) AS partition",
                _PARTITION,
                change.release,
            )
            self._partitions.difference_update(change.release)
        if change.claim:
            tried = await self._connection.fetch(
                "SELECT partition, pg_try_advisory_lock($1, partition) AS is_ours "
                "FROM unnest($2::int[]) AS partition",
                _PARTITION, change.claim,
            )  # fmt: skip
            self._partitions.update(row["partition"] for row in tried if row["is_ours"])

    async def waiting(self, most: int, held: Iterable[Any] = ()) -> Sequence[Row]:
        """The oldest unpublished rows of each of our partitions, `most` of each, without `held` subjects.

        Selected by what is unpublished, so that a row which commits late is found whatever its id. Of one
        subject they are always the first: its rows are numbered and committed under its gate's lock.
        """
        rows: list[Row] = await self._connection.fetch(
            _WAITING_ROWS, sorted(self._partitions), most, list(held)
        )
        return rows

    async def mark(self, ids: Sequence[int]) -> None:
        """Note that Kafka has these."""
        await self._connection.execute(
            "UPDATE history SET published_at = clock_timestamp() WHERE id = ANY($1::int8[])", ids
        )


@asynccontextmanager
async def open_outbox(dsn: str) -> AsyncIterator[Outbox]:
    """Begin a session.

    Raises:
        NO_DATABASE: the database cannot be reached; so does every method.
    """
    connection = await asyncpg.connect(
        dsn, timeout=10, command_timeout=15, server_settings={**_KEEPALIVE, "application_name": "relay"}
    )
    try:
        await connection.execute("SELECT pg_advisory_lock_shared($1, 0)", _PRESENCE)
        yield Outbox(connection)
    finally:
        with suppress(*NO_DATABASE):
            await connection.close(timeout=2)


async def check(dsn: str) -> None:
    """See that the database can be reached.

    Raises:
        NO_DATABASE: it cannot.
    """
    async with open_backlog(dsn):
        pass


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in all partitions: how many events, and for how many seconds the oldest of them."""

    events: int
    oldest_seconds: float


@asynccontextmanager
async def open_backlog(dsn: str) -> AsyncIterator[Any]:
    """A session of its own for `read_backlog`: counting goes on while a batch waits for Kafka.

    Raises:
        NO_DATABASE: the database cannot be reached.
    """
    connection = await asyncpg.connect(
        dsn, timeout=10, command_timeout=10, server_settings={"application_name": "relay-backlog"}
    )
    try:
        yield connection
    finally:
        with suppress(*NO_DATABASE):
            await connection.close(timeout=2)


async def read_backlog(connection: Any) -> Backlog:
    """Count what waits.

    Raises:
        NO_DATABASE: the database cannot be reached.
    """
    row = await connection.fetchrow(_BACKLOG)
    return Backlog(row["events"], max(0.0, row["age"]))
