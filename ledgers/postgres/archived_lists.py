"""Read archived orders: one by its name, or a list from the newest on."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orderplane.ledgers.postgres.session import Pool, Row, session

# A name can be used again: the newest order of it is meant.
_GET = """
SELECT document, resource_version, revision FROM archived_orders
WHERE name = $2 AND merchant = $1 ORDER BY created_at DESC LIMIT 1
"""

# First where they are, in the order of an index, then what they are. LATERAL with LIMIT keeps the planner,
# which may have no statistics, from reading a whole partition. There is one upper bound: of two, a backward
# scan may begin at the weaker one, and walk to the other.
_LIST = """
WITH found AS MATERIALIZED (
    SELECT uid, rested_at, created_at, name FROM {table}
    WHERE {driver} AND merchant = $1 AND created_at >= $3 AND (created_at, name) < ($4, $5)
    ORDER BY created_at DESC, name DESC LIMIT $6
)
SELECT a.document, a.resource_version, a.revision FROM found f CROSS JOIN LATERAL (
    SELECT document, resource_version, revision FROM archived_orders
    WHERE merchant = $1 AND uid = f.uid AND rested_at = f.rested_at LIMIT 1
) a ORDER BY f.created_at DESC, f.name DESC
"""

_STATEMENTS = {
    "reference": _LIST.format(table="archived_orders", driver="reference = $2"),
    "customer": _LIST.format(table="archived_orders", driver="customer = $2"),
    "sku": _LIST.format(table="archived_order_skus", driver="sku = $2"),
    "phase": _LIST.format(table="archived_orders", driver="phase = $2"),
    "": _LIST.format(table="archived_orders", driver="$2::text IS NULL"),
}
"""By the criterion that selects most; each has an index. The order of the keys is the order of preference."""

_FIRST, _LAST = datetime.fromisoformat("0001-01-02T00:00:00Z"), datetime.fromisoformat("9999-12-30T00:00:00Z")


@dataclass(frozen=True, slots=True)
class ArchiveCriteria:
    """What the orders of a list have in common; None matches all.

    Args:
        since: Placed at this time or later.
        until: Placed before this time.
    """

    reference: str | None = None
    customer: str | None = None
    sku: str | None = None
    phase: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class PostgresArchivedLists:
    """Reads `archived_orders`. Raises `Transient` as `session` does."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def get(self, merchant: str, name: str) -> Mapping[str, Any] | None:
        """The order of that name."""
        async with session(self._pool) as connection:
            row = await connection.fetchrow(_GET, merchant, name)
        return _document(row) if row else None

    async def page(
        self,
        merchant: str,
        criteria: ArchiveCriteria,
        before: tuple[datetime, str] | None,
        limit: int,
    ) -> list[Mapping[str, Any]]:
        """Up to `limit` orders that come before a place in time, from the newest on.

        Of the criteria, the times count and the one that selects most; the caller compares the others.
        """
        driver = next(name for name in _STATEMENTS if not name or getattr(criteria, name) is not None)
        until = _within(criteria.until, _LAST), ""
        async with session(self._pool) as connection:
            rows = await connection.fetch(
                _STATEMENTS[driver],
                merchant, getattr(criteria, driver) if driver else None,
                _within(criteria.since, _FIRST), *min(until, before or until), limit,
            )  # fmt: skip
        return [_document(row) for row in rows]


def _within(at: datetime | None, default: datetime) -> datetime:
    """PostgreSQL takes no time beyond those of Python's calendar, in any zone."""
    return default if at is None else min(max(at, _FIRST), _LAST)


def _document(row: Row) -> Mapping[str, Any]:
    """As the API server would send it. Its version tells two contents apart, and is none of etcd's."""
    document: Mapping[str, Any] = row["document"]
    version = f"{row['resource_version']}-{row['revision']}"
    return {**document, "metadata": {**document["metadata"], "resourceVersion": version}}
