"""Erase the personal data of a customer from what the ledgers have of their orders."""

from dataclasses import dataclass
from uuid import UUID

from orderplane.ledgers.archive import ERASED_METHOD, erased_document
from orderplane.ledgers.postgres.history import session_actor
from orderplane.ledgers.postgres.session import Pool, transaction

BATCH = 200

# It waits for orders of the customer that are being archived; later ones see the erasure.
_LOCK_CUSTOMER = "SELECT pg_advisory_xact_lock(hashtextextended($1 || '/' || $2, 0))"

# From now on, what is archived of the orders of before is archived without it.
_REQUEST = """
INSERT INTO erasures (merchant, customer, actor) VALUES ($1, $2, $3)
ON CONFLICT (merchant, customer) DO UPDATE SET requested_at = now(), actor = EXCLUDED.actor
"""

_NEXT = """
SELECT uid, rested_at, document FROM archived_orders
WHERE customer = $2 AND merchant = $1 AND document #>> '{spec,paymentMethod}' <> $3
LIMIT $4 FOR UPDATE
"""

_ERASE = """
UPDATE archived_orders SET document = $4, revision = revision + 1
WHERE merchant = $1 AND uid = $2 AND rested_at = $3
"""

# A request that a process works on is answered in seconds; its manifest goes with the answer.
_ERASE_MANIFESTS = """
UPDATE idempotency SET manifest = NULL
WHERE merchant = $1 AND manifest #>> '{spec,customer}' = $2 AND claimed_until <= now()
"""


@dataclass(frozen=True, slots=True)
class Erased:
    """What was emptied: orders of the archive, and requests that nobody has finished."""

    orders: int
    requests: int


class PostgresErasure:
    """Every transaction is short. Raises as `session` does; it can be repeated."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def erase(self, merchant: str, customer: str) -> Erased:
        """Erase the address, the metadata and the payment method of every archived order of a customer, and
        have those that are archived later archived without. The books stay: what was bought, and for how
        much."""
        async with transaction(self._pool) as connection:
            await connection.execute(_LOCK_CUSTOMER, merchant, customer)
            await connection.execute(_REQUEST, merchant, customer, await session_actor(connection))
            tag = await connection.execute(_ERASE_MANIFESTS, merchant, customer)
        orders = 0
        while batch := await self._erase_some(merchant, customer):
            orders += batch
        return Erased(orders, int(tag.rpartition(" ")[2]))

    async def _erase_some(self, merchant: str, customer: str) -> int:
        async with transaction(self._pool) as connection:
            rows = await connection.fetch(_NEXT, merchant, customer, ERASED_METHOD, BATCH)
            erased: list[tuple[str, UUID, object, object]] = [
                (merchant, row["uid"], row["rested_at"], erased_document(row["document"])) for row in rows
            ]
            await connection.executemany(_ERASE, erased)
        return len(rows)
