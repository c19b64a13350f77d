"""Look at stock: how much there is, how it moved, for whom it is kept. Nothing is changed here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orderplane.ledgers.gate import ReservationState
from orderplane.ledgers.postgres.session import Pool, session
from orderplane.ledgers.postgres.stock import lines_of

_MOVEMENTS = """
SELECT m.id, m.at, m.kind, m.on_hand_delta, m.reserved_delta, m.note, r.name AS reservation, o.name AS "order"
FROM stock_movements m
LEFT JOIN reservations r ON r.merchant = m.merchant AND r.holder = m.holder
LEFT JOIN orders o ON o.merchant = m.merchant AND o.uid = m.holder
WHERE m.merchant = $1 AND m.sku = $2 AND ($3::bigint IS NULL OR m.id < $3)
ORDER BY m.id DESC LIMIT $4
"""

_RESERVATION = """
SELECT r.*, o.name AS "order" FROM reservations r
LEFT JOIN orders o ON o.merchant = r.merchant AND o.uid = r.order_uid
"""


@dataclass(frozen=True, slots=True)
class StockLevel:
    """The stock of one SKU: how many are there, and how many of those are kept for somebody."""

    sku: str
    on_hand: int
    reserved: int


@dataclass(frozen=True, slots=True)
class StockMovement:
    """One change of a stock. `reservation` and `order` are names; `note` is what a person gave as reason."""

    id: int
    at: datetime
    kind: str
    on_hand_delta: int
    reserved_delta: int
    note: str | None
    reservation: str | None
    order: str | None


@dataclass(frozen=True, slots=True)
class ReservationRecord:
    """One reservation as the ledger has it; `order` is the name of the order that it is for, if any."""

    name: str
    order: str | None
    state: ReservationState
    message: str | None
    items: Mapping[str, int]
    expires_at: datetime


class PostgresInventory:
    """Reads the stock ledger. Raises `Transient` as `session` does."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def level(self, merchant: str, sku: str) -> StockLevel | None:
        """The stock of one SKU; None where it was never counted."""
        async with session(self._pool) as connection:
            row = await connection.fetchrow(
                "SELECT sku, on_hand, reserved FROM stock WHERE merchant = $1 AND sku = $2", merchant, sku
            )
        return StockLevel(**row) if row else None

    async def levels(self, merchant: str, *, after: str, limit: int) -> Sequence[StockLevel]:
        """The first `limit` stocks whose SKU follows `after`, by SKU."""
        async with session(self._pool) as connection:
            rows = await connection.fetch(
                "SELECT sku, on_hand, reserved FROM stock WHERE merchant = $1 AND sku > $2 "
                "ORDER BY sku LIMIT $3",
                merchant, after, limit,
            )  # fmt: skip
        return [StockLevel(**row) for row in rows]

    async def movements(
        self, merchant: str, sku: str, *, before: int | None, limit: int
    ) -> Sequence[StockMovement]:
        """The newest `limit` movements of one SKU whose id is less than `before`, newest first."""
        async with session(self._pool) as connection:
            rows = await connection.fetch(_MOVEMENTS, merchant, sku, before, limit)
        return [StockMovement(**row) for row in rows]

    async def reservation_of(self, merchant: str, holder: str) -> ReservationRecord | None:
        """The reservation of one holder: an order's uid, or a Reservation's own."""
        return await self._kept("WHERE r.merchant = $1 AND r.holder = $2", merchant, holder)

    async def reservation_named(self, merchant: str, name: str) -> ReservationRecord | None:
        """The newest reservation of that name, also where its resource is gone."""
        return await self._kept(
            "WHERE r.merchant = $1 AND r.name = $2 ORDER BY r.created_at DESC LIMIT 1", merchant, name
        )

    async def _kept(self, which: str, merchant: str, key: str) -> ReservationRecord | None:
        async with session(self._pool) as connection:
            row = await connection.fetchrow(_RESERVATION + which, merchant, key)
            lines = await lines_of(connection, merchant, row["holder"]) if row else {}
        return _kept(row, lines) if row else None


def _kept(row: Any, lines: Mapping[str, int]) -> ReservationRecord:
    return ReservationRecord(
        name=row["name"],
        order=row["order"],
        state=ReservationState(row["state"]),
        message=row["message"],
        items=lines,
        expires_at=row["expires_at"],
    )
