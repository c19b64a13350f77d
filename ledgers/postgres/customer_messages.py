"""Messages to customers about their orders: read them, and make those due again that were given up."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from orderplane.ledgers.postgres.session import Connection, Pool, act_as, session, transaction

_PAGE = """
SELECT n.event_id, n.channel, n.type, n.state, n.reason, n.attempt AS attempts, n.ended_at,
    h.name AS order_name
FROM notifications n JOIN history h ON h.event_id = n.event_id
WHERE n.merchant = $1 AND n.state = 'Dead' AND ($2::timestamptz IS NULL OR n.ended_at < $2)
ORDER BY n.ended_at DESC LIMIT $3
"""

_ONE = """
SELECT n.event_id, n.channel, n.type, n.state, n.reason, n.attempt AS attempts, n.ended_at,
    h.name AS order_name
FROM notifications n JOIN history h ON h.event_id = n.event_id
WHERE n.merchant = $1 AND n.event_id = $2 AND n.channel = $3
"""

_OF_ORDER = """
SELECT n.event_id, n.channel, n.type, n.state, n.reason, n.attempt AS attempts, n.ended_at,
    h.name AS order_name
FROM notifications n JOIN history h ON h.event_id = n.event_id
WHERE n.order_uid = $2 AND n.merchant = $1 ORDER BY n.seq, n.channel
"""

_COUNT = "SELECT count(*) FROM notifications WHERE state = 'Dead' AND merchant = $1"

_REVIVE = """
UPDATE notifications
SET state = 'Waiting', reason = 'Replayed', ended_at = NULL, dead_lettered_at = NULL, claimed_until = NULL,
    due_at = now(), pending_since = now(), is_forced = $4
WHERE merchant = $1 AND event_id = $2 AND ($3::text IS NULL OR channel = $3)
  AND (state = 'Dead' OR (state = 'Superseded' AND $4))
"""


@dataclass(frozen=True, slots=True)
class CustomerMessage:
    """One message about an event of an order.

    Args:
        type: Of the event.
        reason: Why it ended, or why its newest attempt failed.
        ended_at: When it was sent or given up; None while it is due.
    """

    event_id: UUID
    channel: str
    type: str
    state: str
    reason: str | None
    attempts: int
    ended_at: datetime | None
    order_name: str


class CustomerMessages:
    """The messages of a merchant's orders. Raises `Transient` as `session` does."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def of_order(self, merchant: str, uid: str) -> Sequence[CustomerMessage]:
        """All messages of one order, in the order of their events."""
        async with session(self._pool) as connection:
            rows = await connection.fetch(_OF_ORDER, merchant, uid)
        return [CustomerMessage(**row) for row in rows]

    async def failed(
        self, merchant: str, *, before: datetime | None, limit: int
    ) -> Sequence[CustomerMessage]:
        """Those that were given up last, before that time."""
        async with session(self._pool) as connection:
            rows = await connection.fetch(_PAGE, merchant, before, limit)
        return [CustomerMessage(**row) for row in rows]

    async def count_failed(self, merchant: str) -> int:
        """How many were given up."""
        async with session(self._pool) as connection:
            return int(await connection.fetchval(_COUNT, merchant))

    async def replay(
        self, merchant: str, event_id: UUID, channel: str, *, actor: str
    ) -> CustomerMessage | None:
        """Make a message due again if it was given up, and read it; None where there is none.

        If a later message of its order was sent meanwhile, it will not be sent but be superseded.
        """
        async with transaction(self._pool) as connection:
            await act_as(connection, actor)
            await revive(connection, merchant, event_id, channel, is_forced=False)
            row = await connection.fetchrow(_ONE, merchant, event_id, channel)
        return CustomerMessage(**row) if row else None


async def revive(
    connection: Connection, merchant: str, event_id: UUID, channel: str | None, *, is_forced: bool
) -> int:
    """Make dead messages of an event due again; if forced, superseded ones too. Returns their number."""
    done: str = await connection.execute(_REVIVE, merchant, event_id, channel, is_forced)
    return int(done.rpartition(" ")[2])
