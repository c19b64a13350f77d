"""The archive in PostgreSQL."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from orderplane.ledgers.archive import ArchivedOrder, without_personal_data
from orderplane.ledgers.errors import GateClosed
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.postgres.gate import find_and_lock, read_gate
from orderplane.ledgers.postgres.session import Connection, Pool, session, transaction

# An erasure waits for whoever has not seen it yet.
_LOCK_CUSTOMER = "SELECT pg_advisory_xact_lock_shared(hashtextextended($1 || '/' || $2, 0))"

_IS_ERASED = """
SELECT true FROM erasures WHERE merchant = $1 AND customer = $2 AND requested_at >= $3
"""

# A restored etcd has versions that are older than those that were archived.
_MARK = """
UPDATE orders
SET archived_version = $3, archived_at = coalesce(archived_at, now()), is_archive_outdated = false
WHERE merchant = $1 AND uid = $2 AND coalesce(archived_version <= $3, true) RETURNING archived_at
"""

_STORE = """
INSERT INTO archived_orders
    (merchant, uid, name, customer, reference, phase, created_at, resource_version, document, rested_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (merchant, uid, rested_at) DO UPDATE
SET reference = EXCLUDED.reference, phase = EXCLUDED.phase, resource_version = EXCLUDED.resource_version,
    document = EXCLUDED.document, revision = archived_orders.revision + 1
"""

_STORE_SKUS = """
INSERT INTO archived_order_skus (merchant, sku, created_at, name, uid, rested_at)
SELECT $1, unnest($6::text[]), $2, $3, $4, $5 ON CONFLICT DO NOTHING
"""

_OUTDATED = """
SELECT a.document FROM orders o
JOIN archived_orders a ON a.merchant = o.merchant AND a.uid = o.uid AND a.rested_at = o.archived_at
WHERE o.name = $2 AND o.merchant = $1 AND o.is_archive_outdated
"""

_OUTDATED_KEYS = "SELECT merchant, name FROM orders WHERE is_archive_outdated LIMIT $1"


class PostgresOrderArchive:
    """Implements `ledgers.archive.OrderArchive`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def store(self, order: ArchivedOrder, seen: Gate) -> Gate:
        async with transaction(self._pool) as connection:
            # The lock first: nothing moves between the comparison and the commit.
            await find_and_lock(connection, order.merchant, order.uid)
            gate = await read_gate(connection, order.merchant, order.uid)
            if gate is None or gate != replace(seen, archived_version=gate.archived_version):
                raise GateClosed(f"order {order.merchant}/{order.name} has moved since it was read")
            rested_at = await connection.fetchval(_MARK, order.merchant, order.uid, order.version)
            if rested_at is None:
                return gate
            await connection.execute(_LOCK_CUSTOMER, order.merchant, order.customer)
            if await connection.fetchval(_IS_ERASED, order.merchant, order.customer, order.created_at):
                order = without_personal_data(order)
            await _store(connection, order, rested_at)
            return replace(gate, archived_version=order.version)

    async def outdated(self, merchant: str, name: str) -> Sequence[Mapping[str, Any]]:
        async with session(self._pool) as connection:
            return [row["document"] for row in await connection.fetch(_OUTDATED, merchant, name)]

    async def outdated_keys(self, limit: int) -> Sequence[tuple[str, str]]:
        async with session(self._pool) as connection:
            return [(row["merchant"], row["name"]) for row in await connection.fetch(_OUTDATED_KEYS, limit)]


async def _store(connection: Connection, order: ArchivedOrder, rested_at: datetime) -> None:
    await connection.execute(
        _STORE,
        order.merchant, order.uid, order.name, order.customer, order.reference, order.phase,
        order.created_at, order.version, order.document, rested_at,
    )  # fmt: skip
    await connection.execute(
        _STORE_SKUS, order.merchant, order.created_at, order.name, order.uid, rested_at, list(order.skus)
    )
