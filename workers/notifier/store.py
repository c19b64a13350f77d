"""Notifications in PostgreSQL: one row for each event and channel."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypedDict, cast
from uuid import UUID

from prometheus_client import Counter

from orderplane.events.envelope import Event
from orderplane.events.notifications import Channel
from orderplane.events.types import EventType
from orderplane.ledgers.postgres.customer_messages import revive
from orderplane.ledgers.postgres.session import Pool, session, transaction
from orderplane.workers.notifier.dead_letters import DeadMessage
from orderplane.workers.notifier.plan import CHANNELS, Final, Notification, Recipient, State

FAILURES = Counter(
    "orderplane_notifier_failures_total", "Losses of PostgreSQL and Kafka, which were waited for.", ["reason"]
)

_CHANNELS = [(type_.value, channel.value) for type_, channels in CHANNELS.items() for channel in channels]

_RECORDED = """
SELECT event_id, merchant, subject, seq, type, data FROM history WHERE event_id = ANY($1::uuid[])
"""

# The events of an order are in several topics, which are read in any order. So each event also adds the
# messages of the earlier events of its order; then the first message cannot be overtaken by the second. The
# customer is in the first event of an order. It is read in a CTE of its own: without table statistics the
# planner would join each event with every user. Rows are inserted in a fixed order, so that two notifiers
# that insert the same rows cannot deadlock.
_ADD = """
WITH latest AS MATERIALIZED (
    SELECT n.merchant, n.subject, n.seq, first.data ->> 'customer' AS customer
    FROM unnest($1::text[], $2::uuid[], $3::int[]) AS n (merchant, subject, seq)
    JOIN history first ON first.subject = n.subject AND first.seq = 1 AND first.merchant = n.merchant
)
INSERT INTO notifications (merchant, event_id, channel, order_uid, seq, type, customer, state, reason,
                           ended_at, pending_since, kafka_partition, kafka_offset)
SELECT h.merchant, h.event_id, due.channel, h.subject, h.seq, h.type, u.id,
       CASE WHEN is_wanting THEN 'Waiting' ELSE 'Skipped' END,
       CASE WHEN NOT is_wanting THEN 'NotWanted' END,
       CASE WHEN NOT is_wanting THEN clock_timestamp() END,
       h.at, record.partition, record.record_offset
FROM latest
JOIN users u ON u.merchant = latest.merchant AND u.id = latest.customer AND u.deleted_at IS NULL
JOIN history h ON h.merchant = latest.merchant AND h.subject = latest.subject AND h.seq <= latest.seq
JOIN unnest($4::text[], $5::text[]) AS due (type, channel) ON due.type = h.type
LEFT JOIN unnest($6::uuid[], $7::int[], $8::int8[]) AS record (event_id, partition, record_offset)
    ON record.event_id = h.event_id
CROSS JOIN LATERAL (SELECT coalesce((u.preferences ->> due.channel)::boolean, false)) AS wish (is_wanting)
ORDER BY h.event_id, due.channel
ON CONFLICT DO NOTHING
"""

# For each order and channel one message at a time, the earliest first. An attempt counts as unknown from its
# beginning, so that it still counts after a crash.
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
    SET attempt = attempt + 1, unknown_attempts = unknown_attempts + 1, claimed_until = now() + $3,
        first_tried_at = coalesce(first_tried_at, now())
    FROM due WHERE n.merchant = due.merchant AND n.event_id = due.event_id AND n.channel = due.channel
    RETURNING n.*
)
SELECT c.*, clock_timestamp() - greatest(c.first_tried_at, c.pending_since) AS tried_for,
       h.name AS order_name, h.data, h.traceparent,
       u.id AS user_id, u.name,
       CASE WHEN c.channel = 'sms' THEN u.phone WHEN u.email_confirmed_at IS NOT NULL THEN u.email END
           AS address,
       CASE c.channel WHEN 'sms' THEN u.unconfirmed_phone IS NOT NULL ELSE u.email_confirmed_at IS NULL END
           AS has_unconfirmed,
       coalesce((u.preferences ->> c.channel)::boolean, false) AS is_wanting,
       EXISTS (SELECT FROM notifications later
               WHERE later.merchant = c.merchant AND later.order_uid = c.order_uid
                 AND later.channel = c.channel AND later.seq > c.seq AND later.state = 'Sent') AS is_overtaken
FROM claimed c
JOIN history h ON h.event_id = c.event_id
LEFT JOIN users u ON u.merchant = c.merchant AND u.id = c.customer AND u.deleted_at IS NULL
"""

# A result is written only by the attempt that has the claim: not after a later attempt has begun.
_FINISH = """
UPDATE notifications SET state = $5, reason = $6, provider_id = $7,
    unknown_attempts = unknown_attempts - 1, claimed_until = NULL, ended_at = clock_timestamp()
WHERE merchant = $1 AND event_id = $2 AND channel = $3 AND attempt = $4 AND state = 'Waiting'
"""
_RETRY_LATER = """
UPDATE notifications SET reason = $5, unknown_attempts = unknown_attempts - 1, claimed_until = NULL,
    due_at = now() + $6
WHERE merchant = $1 AND event_id = $2 AND channel = $3 AND attempt = $4 AND state = 'Waiting'
"""
_KEEP_UNKNOWN = """
UPDATE notifications SET reason = $5
WHERE merchant = $1 AND event_id = $2 AND channel = $3 AND attempt = $4 AND state = 'Waiting'
"""

_DEAD = """
SELECT n.*, h.subject, h.name, h.data::text AS data, h.traceparent, h.at
FROM notifications n JOIN history h ON h.event_id = n.event_id
WHERE n.state = 'Dead' AND n.dead_lettered_at IS NULL
ORDER BY n.ended_at LIMIT $1 FOR UPDATE OF n SKIP LOCKED
"""
_DEAD_LETTERED = """
UPDATE notifications n SET dead_lettered_at = now()
FROM unnest($1::text[], $2::uuid[], $3::text[]) AS dead (merchant, event_id, channel)
WHERE n.merchant = dead.merchant AND n.event_id = dead.event_id AND n.channel = dead.channel
"""
_STATES = "SELECT channel, state FROM notifications WHERE merchant = $1 AND event_id = $2"
_COUNTS = """
SELECT channel, state, count(*) AS messages,
       coalesce(extract(epoch FROM clock_timestamp() - min(pending_since)), 0)::float8 AS age
FROM notifications WHERE merchant = coalesce($1, merchant) GROUP BY channel, state
"""
_WAITING = """
SELECT channel, count(*) AS messages,
       coalesce(extract(epoch FROM clock_timestamp() - min(since)), 0)::float8 AS age
FROM (SELECT channel, pending_since AS since FROM notifications WHERE state = 'Waiting'
      UNION ALL
      SELECT channel, created_at FROM account_messages WHERE state = 'Waiting') AS waiting
GROUP BY channel
"""


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """An event that was received, and where its record was read."""

    event: Event
    partition: int | None
    offset: int | None


@dataclass(frozen=True, slots=True)
class Count:
    """Number of messages of one channel in one state, and the age of the oldest in seconds."""

    channel: Channel
    state: State
    messages: int
    oldest_seconds: float


class _ClaimedRow(TypedDict):
    """What `_CLAIM` selects and a notification needs."""

    merchant: str
    event_id: UUID
    channel: str
    type: str
    order_name: str
    data: dict[str, Any]
    traceparent: str | None
    attempt: int
    unknown_attempts: int
    pending_since: datetime
    tried_for: timedelta
    is_forced: bool
    is_overtaken: bool
    user_id: str | None
    name: str
    address: str | None
    has_unconfirmed: bool
    is_wanting: bool


class NotificationStore:
    """The rows of notifications, from the arrival of an event to the end of each of its messages.

    Every method raises Transient if the database cannot be reached.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def recorded_events(self, event_ids: Sequence[UUID]) -> Mapping[UUID, Event]:
        """These events as the history has them; those that it does not have are left out."""
        async with session(self._pool) as connection:
            rows = await connection.fetch(_RECORDED, event_ids)
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

    async def add(self, received: Sequence[ReceivedEvent]) -> None:
        """Add every message that is due for these events and for earlier events of their orders, once.

        Nothing is added for a customer without an account.
        """
        newest: dict[tuple[str, UUID], int] = {}
        for each in received:
            order = each.event.merchant, each.event.subject
            newest[order] = max(each.event.sequence, newest.get(order, 0))
        async with session(self._pool) as connection:
            await connection.execute(
                _ADD,
                [merchant for merchant, _ in newest], [subject for _, subject in newest],
                list(newest.values()),
                [type_ for type_, _ in _CHANNELS], [channel for _, channel in _CHANNELS],
                [each.event.id for each in received], [each.partition for each in received],
                [each.offset for each in received],
            )  # fmt: skip

    async def claim(self, channel: Channel, limit: int, lease: timedelta) -> list[Notification]:
        """Claim messages that are due, for the time of `lease`; nobody else can claim them meanwhile."""
        async with session(self._pool) as connection:
            rows = await connection.fetch(_CLAIM, channel.value, limit, lease)
        return [_notification(row) for row in cast("list[_ClaimedRow]", rows)]

    async def finish(self, notification: Notification, final: Final) -> bool:
        """Write down how a message ended; False if a later attempt has begun."""
        async with session(self._pool) as connection:
            done = await connection.execute(
                _FINISH, *_attempt_key(notification), final.state.value, final.reason, final.provider_id
            )
        return bool(done != "UPDATE 0")

    async def retry_later(self, notification: Notification, reason: str, pause: timedelta) -> None:
        """Write down that nothing was sent, and when the next attempt is due."""
        async with session(self._pool) as connection:
            await connection.execute(_RETRY_LATER, *_attempt_key(notification), reason, pause)

    async def keep_unknown(self, notification: Notification, reason: str) -> None:
        """Write down why it is not known whether it was sent; it stays claimed, as after a crash."""
        async with session(self._pool) as connection:
            await connection.execute(_KEEP_UNKNOWN, *_attempt_key(notification), reason)

    @asynccontextmanager
    async def dead_lettering(self, limit: int) -> AsyncIterator[Sequence[DeadMessage]]:
        """Dead messages to put into the dead-letter topic; they are marked after the block.

        Their rows are locked meanwhile, so that other notifiers skip them.
        """
        async with transaction(self._pool) as connection:
            rows = cast("list[DeadMessage]", await connection.fetch(_DEAD, limit))
            yield rows
            if rows:
                await connection.execute(
                    _DEAD_LETTERED,
                    [row["merchant"] for row in rows],
                    [row["event_id"] for row in rows],
                    [row["channel"] for row in rows],
                )

    async def revive(self, merchant: str, event_id: UUID, channel: str | None, *, is_forced: bool) -> int:
        """Make dead messages of an event due again; if forced, superseded ones too. Returns their number."""
        async with session(self._pool) as connection:
            return await revive(connection, merchant, event_id, channel, is_forced=is_forced)

    async def states(self, merchant: str, event_id: UUID) -> dict[Channel, State]:
        """The states of the messages of an event."""
        async with session(self._pool) as connection:
            rows = await connection.fetch(_STATES, merchant, event_id)
        return {Channel(row["channel"]): State(row["state"]) for row in rows}

    async def counts(self, merchant: str | None = None) -> list[Count]:
        """The number of messages by channel and state, of one merchant or of all."""
        async with session(self._pool) as connection:
            rows = await connection.fetch(_COUNTS, merchant)
        return [_count(row["channel"], State(row["state"]), row["messages"], row["age"]) for row in rows]

    async def waiting(self) -> list[Count]:
        """The number of waiting messages of all merchants, those about accounts too.

        The cost does not depend on what was sent.
        """
        async with session(self._pool) as connection:
            rows = await connection.fetch(_WAITING)
        return [_count(row["channel"], State.WAITING, row["messages"], row["age"]) for row in rows]


def _attempt_key(notification: Notification) -> tuple[str, UUID, str, int]:
    return notification.merchant, notification.event_id, notification.channel.value, notification.attempt


def _count(channel: str, state: State, messages: int, age: float) -> Count:
    return Count(Channel(channel), state, messages, max(0.0, age))


def _notification(row: _ClaimedRow) -> Notification:
    recipient = None
    if row["user_id"]:
        recipient = Recipient(row["name"], row["address"], row["is_wanting"], row["has_unconfirmed"])
    return Notification(
        merchant=row["merchant"],
        event_id=row["event_id"],
        channel=Channel(row["channel"]),
        type=EventType(row["type"]),
        order=row["order_name"],
        data=row["data"],
        traceparent=row["traceparent"],
        attempt=row["attempt"],
        # Without this attempt, which was counted when it was claimed.
        unknown_attempts=row["unknown_attempts"] - 1,
        pending_since=row["pending_since"],
        tried_for=row["tried_for"],
        is_forced=row["is_forced"],
        is_overtaken=row["is_overtaken"],
        recipient=recipient,
    )
