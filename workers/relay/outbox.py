"""The relay's part of the history: partitions, unpublished rows, marks, all in one database session.

A partition belongs to the session that holds its advisory lock, and only that session marks rows. When the
session ends, PostgreSQL releases its locks: a relay that has lost its session cannot mark rows any more, and
others can claim its partitions.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import cast
from uuid import UUID

import asyncpg

from orderplane.adapters.postgres.migrate import check_schema
from orderplane.adapters.retryable import POSTGRES
from orderplane.workers.relay.plan import OutboxRow, rebalance

_PARTITION = 0x6F70_0001
"""First key of the advisory lock of a partition; the second is its number."""
_PRESENCE = 0x6F70_0002
"""First key of a shared advisory lock that every relay holds, so that relays can be counted."""

# PostgreSQL notices within 11 s that the machine of a relay is gone, and releases its locks.
_KEEPALIVE = {"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "2", "tcp_keepalives_count": "3"}

# The oldest rows of each partition, by the index alone: the same small work for ten rows or a million. Rows
# are selected because they are unpublished, not by an id to go on from: ids are drawn before the commit, so a
# transaction that commits late has a low one.
_UNPUBLISHED = """
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


_MARK = "UPDATE history SET published_at = clock_timestamp() WHERE id = ANY($1::int8[])"
_RELEASE = "SELECT pg_advisory_unlock($1, partition) FROM unnest($2::int[]) AS partition"
_CLAIM = """
SELECT partition, pg_try_advisory_lock($1, partition) AS is_mine FROM unnest($2::int[]) AS partition
"""


class Outbox:
    """The partitions that this session holds, and their rows."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._partitions: set[int] = set()

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions that this session holds."""
        return frozenset(self._partitions)

    @property
    def is_lost(self) -> bool:
        """Whether the session has ended, and the partitions with it."""
        return bool(self._connection.is_closed())

    async def rebalance(self) -> None:
        """Claim free partitions up to a fair share and release those above it. No row may be in flight."""
        locks = await self._connection.fetch(_LOCKS, _PARTITION, _PRESENCE)
        relays = sum(lock["kind"] == _PRESENCE for lock in locks)
        taken = {lock["partition"] for lock in locks if lock["kind"] == _PARTITION}
        change = rebalance(self._partitions, taken, relays)
        if change.release:
            await self._connection.execute(_RELEASE, _PARTITION, change.release)
            self._partitions.difference_update(change.release)
        if change.claim:
            tried = await self._connection.fetch(_CLAIM, _PARTITION, change.claim)
            self._partitions.update(row["partition"] for row in tried if row["is_mine"])

    async def unpublished(self, limit: int, blocked: Sequence[UUID] = ()) -> list[OutboxRow]:
        """The oldest rows of each partition, at most `limit` of each, without the `blocked` subjects.

        The rows of a subject are its next ones without a gap: they are numbered and committed under the lock
        of its gate.
        """
        rows = await self._connection.fetch(_UNPUBLISHED, sorted(self._partitions), limit, list(blocked))
        return cast("list[OutboxRow]", rows)

    async def mark_published(self, ids: Sequence[int]) -> None:
        """Write down that the brokers have acknowledged these rows."""
        await self._connection.execute(_MARK, ids)


@asynccontextmanager
async def open_outbox(dsn: str) -> AsyncIterator[Outbox]:
    """Begin a session.

    Raises:
        retryable.POSTGRES: the database cannot be reached; every method raises it, too.
    """
    connection = await asyncpg.connect(
        dsn, timeout=10, command_timeout=15, server_settings={**_KEEPALIVE, "application_name": "relay"}
    )
    try:
        await connection.execute("SELECT pg_advisory_lock_shared($1, 0)", _PRESENCE)
        yield Outbox(connection)
    finally:
        with suppress(*POSTGRES):
            await connection.close(timeout=2)


async def check_database(dsn: str) -> None:
    """Connect once, and compare the schema.

    Raises:
        retryable.POSTGRES: it cannot.
        OlderSchema: the database lacks migrations of this version.
    """
    async with open_backlog(dsn) as connection:
        await check_schema(connection)


@dataclass(frozen=True, slots=True)
class Backlog:
    """The unpublished events of all partitions: their number, and the age of the oldest."""

    events: int
    oldest_seconds: float


@asynccontextmanager
async def open_backlog(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A session for `read_backlog` alone, so that counting goes on while a batch waits for Kafka.

    Raises:
        retryable.POSTGRES: the database cannot be reached.
    """
    connection = await asyncpg.connect(
        dsn, timeout=10, command_timeout=10, server_settings={"application_name": "relay-backlog"}
    )
    try:
        yield connection
    finally:
        with suppress(*POSTGRES):
            await connection.close(timeout=2)


async def read_backlog(connection: asyncpg.Connection) -> Backlog:
    """Count unpublished events.

    Raises:
        retryable.POSTGRES: the database cannot be reached.
    """
    row = await connection.fetchrow(_BACKLOG)
    assert row is not None, "an aggregate has one row"
    return Backlog(row["events"], max(0.0, row["age"]))
