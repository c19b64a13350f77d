"""The backlog of orders that were accepted and have no label yet, read from PostgreSQL.

It covers all merchants, because one operator processes the orders of all of them.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from orderplane.ledgers.postgres.session import Pool, session

WINDOW = timedelta(minutes=5)
"""An order whose first step began and that is older than this is blocked by something other than the queue;
it is left out."""

MAX_ORDERS = 10_000
"""The most orders that one query reads, the oldest first."""

_COMMIT_DELAY = timedelta(seconds=5)
"""`created_at` is when a transaction began, but its row is visible only after commit: look back by this
much."""

# The row of the idempotency key is the first record of an order. It counts if it has a response or a live
# claim. LATERAL with LIMIT makes PostgreSQL probe `orders` once for each row, which stays cheap while that
# table grows. IS NOT DISTINCT FROM keeps `merchant` out of the index condition: with `=` the planner may
# choose the primary key, which begins with the merchant, and read all orders of a merchant that had few by
# its statistics.
BACKLOG_QUERY = """
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
    """The backlog at one moment.

    Args:
        waiting: Orders that have neither a label nor an outcome and are not being compensated.
        untouched_seconds: Age of the oldest order without a gate row. Orders that are older than the newest
            one with a gate row do not count: what delays them is not the queue.
        entered: Orders accepted since the previous reading.
        seconds: Time since the previous reading.
    """

    waiting: int
    untouched_seconds: float
    entered: int
    seconds: float


class PostgresOrderBacklog:
    """Reads the backlog, each time from the oldest order that was still waiting. Raises as `session` does."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._read_at: datetime | None = None
        self._since: datetime | None = None

    async def read(self) -> OrderBacklog:
        """The backlog as it is now."""
        async with session(self._pool) as connection:
            if self._read_at is None or self._since is None:
                self._read_at = await connection.fetchval("SELECT now()")
                self._since = self._read_at - WINDOW
            row = await connection.fetchrow(BACKLOG_QUERY, self._since, self._read_at, MAX_ORDERS)
        assert row is not None, "an aggregate has one row"
        at, untouched = row["at"], row["first_untouched"]
        backlog = OrderBacklog(
            waiting=row["waiting"],
            untouched_seconds=(at - untouched).total_seconds() if untouched else 0.0,
            entered=row["entered"],
            seconds=(at - self._read_at).total_seconds(),
        )
        self._read_at = at
        since = max(at - WINDOW, (row["first"] or at) - _COMMIT_DELAY)
        # An order that the operator has not touched stays in the backlog however old it is.
        self._since = min(since, untouched) if untouched else since
        return backlog
