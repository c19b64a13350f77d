"""What customers are told, in PostgreSQL: one row per event and channel."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

from orderplane.events.envelope import Event
from orderplane.events.notifications import Channel
from orderplane.events.types import EventType
from orderplane.ledgers.postgres.session import Pool, session, transaction
from orderplane.workers.notifier.letters import DeadMessage
from orderplane.workers.notifier.plan import CHANNELS, End, Notification, Recipient, State

_TELLING = [(type_.value, channel.value) for type_, channels in CHANNELS.items() for channel in channels]

_TOLD = """
SELECT event_id, merchant, subject, seq, type, data FROM history WHERE event_id = ANY($1::uuid[])
"""

# An order's events are in several topics, which are read in any order. So each brings the earlier ones of its
# order along, and the first message of an order is never overtaken by the second. The customer is in an
# order's first event, which is read before all else: a plan without statistics would have each event meet
# every user. In order, so that two who note the same rows do not lock each other out.
_NOTE = """
WITH news AS MATERIALIZED (
    SELECT n.merchant, n.subject, n.seq, first.data ->> 'customer' AS customer
    FROM unnest($1::text[], $2::uuid[], $3::int[]) AS n (merchant, subject, seq)
    JOIN history first ON first.subject = n.subject AND first.seq = 1 AND first.merchant = n.merchant
)
INSERT INTO notifications (merchant, event_id, channel, order_uid, seq, type, customer, state, reason,
                           ended_at, pending_since, kafka_partition, kafka_offset)
SELECT h.merchant, h.event_id, telling.channel, h.subject, h.seq, h.type, u.id,
       CASE WHEN is_wanting THEN 'Waiting' ELSE 'Skipped' END,
       CASE WHEN NOT is_wanting THEN 'NotWanted' END,
       CASE WHEN NOT is_wanting THEN clock_timestamp() END,
       h.at, record.partition, record.record_offset
FROM news
JOIN users u ON u.merchant = news.merchant AND u.id = news.customer AND u.deleted_at IS NULL
JOIN history h ON h.merchant = news.merchant AND h.subject = news.subject AND h.seq <= news.seq
JOIN unnest($4::text[], $5::text[]) AS telling (type, channel) ON telling.type = h.type
LEFT JOIN unnest($6::uuid[], $7::int[], $8::int8[]) AS record (event_id, partition, record_offset)
    ON record.event_id = h.event_id
CROSS JOIN LATERAL (SELECT coalesce((u.preferences ->> telling.channel)::boolean, false)) AS wish (is_wanting)
ORDER BY h.event_id, telling.channel
ON CONFLICT DO NOTHING
"""

# Of an order and channel one message at a time, the earliest first. An attempt counts as a doubt from its
# beginning: whoever comes after a crash sees it.
_CLAIM = """
WITH due AS (
    SELECT merchant, event_id, channel FROM notifications n
    WHERE state = 'Waiting' AND channel = $1 AND due_at <= now()
      AND (claimed_until IS NULL OR claimed_until <= now())
      AND NOT EXISTS (
          SELECT FROM notifications other
          WHERE other.merchant = n.merchant AND other.order_uid = n.order_uid AND other.channel = n.channel
            AND other.state = 'Waiting' AND (other.seq < n.seq OR other.claimed_until > now()))
    ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE notifications n
    SET attempt = attempt + 1, unknown_attempts = unknown_attempts + 1, claimed_until = now() + $3
    FROM due WHERE n.merchant = due.merchant AND n.event_id = due.event_id AND n.channel = due.channel
    RETURNING n.*
)
SELECT c.*, h.name AS order_name, h.data, h.traceparent,
       u.id AS user_id, u.name, CASE c.channel WHEN 'email' THEN u.email ELSE u.phone END AS address,
       coalesce((u.preferences ->> c.channel)::boolean, false) AS is_wanting,
       EXISTS (SELECT FROM notifications later
               WHERE later.merchant = c.merchant AND later.order_uid = c.order_uid
                 AND later.channel = c.channel AND later.seq > c.seq AND later.state = 'Sent') AS is_overtaken
FROM claimed c
JOIN history h ON h.event_id = c.event_id
LEFT JOIN users u ON u.merchant = c.merchant AND u.id = c.customer AND u.deleted_at IS NULL
"""

_OURS = "merchant = $1 AND event_id = $2 AND channel = $3 AND attempt = $4 AND state = 'Waiting'"
_END = f"""
UPDATE notifications SET state = $5, reason = $6, provider_id = $7,
    unknown_attempts = unknown_attempts - 1, claimed_until = NULL, ended_at = clock_timestamp()
WHERE {_OURS}
"""  # noqa: S608
_AGAIN = f"""
UPDATE notifications SET reason = $5, unknown_attempts = unknown_attempts - 1, claimed_until = NULL,
    due_at = now() + $6
WHERE {_OURS}
"""  # noqa: S608
_IN_DOUBT = f"UPDATE notifications SET reason = $5 WHERE {_OURS}"  # noqa: S608

_UNBURIED = """
SELECT n.*, h.subject, h.name, h.data::text AS data, h.traceparent, h.at
FROM notifications n JOIN history h ON h.event_id = n.event_id
WHERE n.state = 'Dead' AND n.dead_lettered_at IS NULL
ORDER BY n.ended_at LIMIT $1 FOR UPDATE OF n SKIP LOCKED
"""
_BURIED = """
UPDATE notifications n SET dead_lettered_at = now()
FROM unnest($1::text[], $2::uuid[], $3::text[]) AS dead (merchant, event_id, channel)
WHERE n.merchant = dead.merchant AND n.event_id = dead.event_id AND n.channel = dead.channel
"""
_REVIVE = """
UPDATE notifications
SET state = 'Waiting', reason = 'Replayed', ended_at = NULL, dead_lettered_at = NULL, claimed_until = NULL,
    due_at = now(), pending_since = now(), is_forced = $4
WHERE merchant = $1 AND event_id = $2 AND ($3::text IS NULL OR channel = $3)
  AND (state = 'Dead' OR (state = 'Superseded' AND $4))
"""
_STATES = "SELECT channel, state FROM notifications WHERE merchant = $1 AND event_id = $2"
_COUNTS = """
SELECT channel, state, count(*) AS messages,
       coalesce(extract(epoch FROM clock_timestamp() - min(pending_since)), 0)::float8 AS age
FROM notifications WHERE merchant = coalesce($1, merchant) GROUP BY channel, state
"""
_WAITING = """
SELECT channel, count(*) AS messages,
       coalesce(extract(epoch FROM clock_timestamp() - min(pending_since)), 0)::float8 AS age
FROM notifications WHERE state = 'Waiting' GROUP BY channel
"""


@dataclass(frozen=True, slots=True)
class Noted:
    """An event whose messages are to be noted, and where its record was read."""

    event: Event
    partition: int | None
    offset: int | None


@dataclass(frozen=True, slots=True)
class Count:
    """So many messages of one channel in one state; the oldest waits for so many seconds."""

    channel: Channel
    state: State
    messages: int
    oldest_seconds: float


class NotificationStore:
    """The rows, from an event's arrival to the end of each of its messages.

    Every method raises Transient where the database cannot be reached.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def told(self, event_ids: Sequence[UUID]) -> Mapping[UUID, Event]:
        """What the history says of these events; those that it does not know are left out."""
        async with session(self._pool) as connection:
            rows = await connection.fetch(_TOLD, event_ids)
        return {
            row["event_id"]: Event(
                id=row["event_id"],
                type=EventType(row["type"]),
                merchant=row["merchant"],
                subject=row["subject"],
                sequence=row["seq"],
                data=row["data"],
            )
            for row in rows
        }

    async def note(self, news: Sequence[Noted]) -> None:
        """Note every message that these events and earlier ones of their orders call for, once.

        Nothing is noted for a customer who has no account.
        """
        newest: dict[tuple[str, UUID], int] = {}
        for each in news:
            order = each.event.merchant, each.event.subject
            newest[order] = max(each.event.sequence, newest.get(order, 0))
        async with session(self._pool) as connection:
            await connection.execute(
                _NOTE,
                [merchant for merchant, _ in newest], [subject for _, subject in newest],
                list(newest.values()),
                [type_ for type_, _ in _TELLING], [channel for _, channel in _TELLING],
                [each.event.id for each in news], [each.partition for each in news],
                [each.offset for each in news],
            )  # fmt: skip

    async def claim(self, channel: Channel, most: int, lease: timedelta) -> list[Notification]:
        """Take what is due, for so long as `lease`; nobody else gets it before."""
        async with session(self._pool) as connection:
            rows = await connection.fetch(_CLAIM, channel.value, most, lease)
        return [_notice(row) for row in rows]

    async def end(self, notice: Notification, end: End) -> bool:
        """Note how a message ended; False where somebody else has taken it over."""
        async with session(self._pool) as connection:
            done = await connection.execute(
                _END, *_ours(notice), end.state.value, end.reason, end.provider_id
            )
        return bool(done != "UPDATE 0")

    async def again(self, notice: Notification, reason: str, pause: timedelta) -> None:
        """Note that nothing was sent, and when to try next."""
        async with session(self._pool) as connection:
            await connection.execute(_AGAIN, *_ours(notice), reason, pause)

    async def doubt(self, notice: Notification, reason: str) -> None:
        """Note why nobody knows whether it was sent; it stays claimed, as after a crash."""
        async with session(self._pool) as connection:
            await connection.execute(_IN_DOUBT, *_ours(notice), reason)

    @asynccontextmanager
    async def burying(self, most: int) -> AsyncIterator[Sequence[DeadMessage]]:
        """Dead rows, with their events, that the dead-letter topic has not; it has them after the block.

        They are locked meanwhile, so that several notifiers do not bury the same ones.
        """
        async with transaction(self._pool) as connection:
            rows = cast("list[DeadMessage]", [dict(row) for row in await connection.fetch(_UNBURIED, most)])
            yield rows
            if rows:
                await connection.execute(
                    _BURIED,
                    [row["merchant"] for row in rows],
                    [row["event_id"] for row in rows],
                    [row["channel"] for row in rows],
                )

    async def revive(self, merchant: str, event_id: UUID, channel: str | None, *, is_forced: bool) -> int:
        """Have dead messages of an event tried again; forced, superseded ones too. Answers how many."""
        async with session(self._pool) as connection:
            done: str = await connection.execute(_REVIVE, merchant, event_id, channel, is_forced)
        return int(done.rpartition(" ")[2])

    async def states(self, merchant: str, event_id: UUID) -> dict[Channel, State]:
        """Where the messages of an event stand."""
        async with session(self._pool) as connection:
            rows = await connection.fetch(_STATES, merchant, event_id)
        return {Channel(row["channel"]): State(row["state"]) for row in rows}

    async def counts(self, merchant: str | None = None) -> list[Count]:
        """How many messages of each channel are in which state, of one merchant or of all."""
        async with session(self._pool) as connection:
            rows = await connection.fetch(_COUNTS, merchant)
        return [_count(row, row["state"]) for row in rows]

    async def waiting(self) -> list[Count]:
        """What waits, of all merchants; cheap however much was sent."""
        async with session(self._pool) as connection:
            rows = await connection.fetch(_WAITING)
        return [_count(row, State.WAITING) for row in rows]


def _ours(notice: Notification) -> tuple[str, UUID, str, int]:
    return notice.merchant, notice.event_id, notice.channel.value, notice.attempt


def _count(row: Any, state: str) -> Count:
    return Count(Channel(row["channel"]), State(state), row["messages"], max(0.0, row["age"]))


def _notice(row: Any) -> Notification:
    recipient = Recipient(row["name"], row["address"], row["is_wanting"]) if row["user_id"] else None
    return Notification(
        merchant=row["merchant"],
        event_id=row["event_id"],
        channel=Channel(row["channel"]),
        type=EventType(row["type"]),
        order=row["order_name"],
        data=row["data"],
        traceparent=row["traceparent"],
        attempt=row["attempt"],
        # Without this attempt itself, which was counted when it was claimed.
        unknown_attempts=row["unknown_attempts"] - 1,
        pending_since=row["pending_since"],
        is_forced=row["is_forced"],
        is_overtaken=row["is_overtaken"],
        recipient=recipient,
    )
