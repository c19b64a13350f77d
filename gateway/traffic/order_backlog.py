"""How the orders stand that were accepted and are not on their way yet.

Over all merchants, because one operator serves them all.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from orderplane.ledgers.postgres.session import Pool, session

LOOK_BACK = timedelta(minutes=5)
"""Who was begun and waits for longer waits for something else than its turn, and is not in this line."""

MOST = 10_000
"""So many orders are looked at, the first ones."""

_LATE = timedelta(seconds=5)
"""A row is seen when its transaction is over, which is later than the time it carries."""

# The row of the key is the first that is known of an order; what has an answer or is being worked on counts.
# Looked up one by one, as a plan for few rows has to do it: the tables grow, the line does not. By the name
# alone: an equal merchant could be looked up in the primary key, by reading all of its orders, and while they
# are few, a plan that does so looks as good as any.
LOOK = """
WITH accepted AS (
    SELECT merchant, name, created_at FROM idempotency
    WHERE kind = 'Order' AND created_at >= $1 AND created_at <= now()
      AND (status IS NOT NULL OR claimed_until > now())
    ORDER BY created_at LIMIT $3
), known AS (
    SELECT a.created_at, o.uid IS NULL AS is_untouched,
        o.uid IS NULL OR (o.state = 'Open' AND coalesce(s.state, 'Intended') = 'Intended') AS is_waiting
    FROM accepted a
    LEFT JOIN LATERAL (
        SELECT merchant, uid, state FROM orders
        WHERE name = a.name AND merchant IS NOT DISTINCT FROM a.merchant ORDER BY opened_at DESC LIMIT 1
    ) o ON true
    LEFT JOIN LATERAL (
        SELECT state FROM shipments WHERE merchant = o.merchant AND order_uid = o.uid
    ) s ON true
)
SELECT now() AS at,
    count(*) FILTER (WHERE is_waiting) AS waiting,
    min(created_at) FILTER (WHERE is_waiting) AS first,
    min(created_at) FILTER (
        WHERE is_untouched
          AND created_at > coalesce((SELECT max(created_at) FROM known WHERE NOT is_untouched), '-infinity')
    ) AS first_untouched,
    count(*) FILTER (WHERE created_at > $2) AS entered
FROM known
"""


@dataclass(frozen=True, slots=True)
class OrderBacklog:
    """The line at one moment.

    Args:
        waiting: How many orders have neither a label nor an end, nor are being undone.
        untouched_seconds: How long the first of those waits that the operator has not even looked at. Not
            counted is who was overtaken: that one waits for something else than its turn.
        entered: How many came since the last look.
        seconds: How long ago that was.
    """

    waiting: int
    untouched_seconds: float
    entered: int
    seconds: float


class PostgresOrderBacklog:
    """Looks at the line from where it began the last time. Raises `Transient` as `session` does."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._looked_at: datetime | None = None
        self._first: datetime | None = None

    async def look(self) -> OrderBacklog:
        """The line as it is now."""
        async with session(self._pool) as connection:
            if self._looked_at is None or self._first is None:
                self._looked_at = await connection.fetchval("SELECT now()")
                self._first = self._looked_at - LOOK_BACK
            row = await connection.fetchrow(LOOK, self._first, self._looked_at, MOST)
        at, untouched = row["at"], row["first_untouched"]
        line = OrderBacklog(
            waiting=row["waiting"],
            untouched_seconds=(at - untouched).total_seconds() if untouched else 0.0,
            entered=row["entered"],
            seconds=(at - self._looked_at).total_seconds(),
        )
        self._looked_at = at
        first = max(at - LOOK_BACK, (row["first"] or at) - _LATE)
        # Whoever was not begun stays in the line, however long that takes.
        self._first = min(first, untouched) if untouched else first
        return line
