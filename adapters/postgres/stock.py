"""The stock ledger in PostgreSQL.

Locks are always taken in one order, gate, reservation, then stock rows by SKU, so that no two
transactions can wait for each other.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from orderplane.adapters.postgres.gates import pass_gate, tell
from orderplane.adapters.postgres.history import record
from orderplane.adapters.postgres.pool import Connection, Pool, session, transaction
from orderplane.controllers.gate import GateClosed, GateState, ParcelState, StockState
from orderplane.controllers.reservation.ledger import StockEntry
from orderplane.crds.order import Item
from orderplane.events.types import EventType

_RESERVE = """
WITH made AS (
    INSERT INTO reservations (merchant, holder, order_uid, name, state, expires_at)
    VALUES ($1, $2, $3, $4, 'Held', $5) ON CONFLICT DO NOTHING RETURNING *
), lines AS (
    INSERT INTO reservation_lines (merchant, holder, sku, quantity)
    SELECT made.merchant, made.holder, t.* FROM made, unnest($6::text[], $7::bigint[]) AS t
)
SELECT * FROM made
"""

_MOVE = """
WITH line AS MATERIALIZED (
    SELECT s.merchant, s.sku, l.holder, l.quantity
    FROM reservation_lines l JOIN stock s ON s.merchant = l.merchant AND s.sku = l.sku
    WHERE l.merchant = $1 AND l.holder = $2 ORDER BY s.sku FOR UPDATE OF s
), moved AS (
    UPDATE stock s
    SET on_hand = s.on_hand + $3 * line.quantity, reserved = s.reserved + $4 * line.quantity
    FROM line WHERE s.merchant = line.merchant AND s.sku = line.sku
), noted AS (
    INSERT INTO movements (merchant, sku, on_hand_delta, reserved_delta, kind, holder)
    SELECT merchant, sku, $3 * quantity, $4 * quantity, $5, holder FROM line
)
SELECT sku, quantity FROM line
"""


class PostgresStock:
    """Implements `controllers.reservation.ledger.StockLedger`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def uid_of(self, merchant: str, name: str) -> str | None:
        async with session(self._pool) as connection:
            uid = await connection.fetchval(
                "SELECT holder FROM reservations WHERE merchant = $1 AND name = $2 "
                "ORDER BY made_at DESC LIMIT 1",
                merchant, name,
            )  # fmt: skip
        return str(uid) if uid else None

    async def overdue(self, limit: int) -> Sequence[tuple[str, str]]:
        async with session(self._pool) as connection:
            rows = await connection.fetch(
                "SELECT merchant, name FROM reservations "
                "WHERE order_uid IS NULL AND state = 'Held' AND expires_at < now() "
                "ORDER BY expires_at LIMIT $1",
                limit,
            )
        return [(row["merchant"], row["name"]) for row in rows]

    async def read(self, merchant: str, holder: str) -> StockEntry | None:
        async with session(self._pool) as connection:
            row = await connection.fetchrow(
                "SELECT * FROM reservations WHERE merchant = $1 AND holder = $2", merchant, holder
            )
        return _entry(row) if row else None

    async def hold(
        self,
        merchant: str,
        holder: str,
        *,
        order_uid: str | None,
        name: str,
        items: Sequence[Item],
        expires_at: datetime,
        traceparent: str | None,
    ) -> StockEntry:
        wanted = {item.sku: item.quantity for item in items}
        async with transaction(self._pool) as connection:
            gate = await pass_gate(connection, merchant, order_uid, GateState.OPEN) if order_uid else None
            row = await connection.fetchrow(
                _RESERVE,
                merchant, holder, order_uid, name, expires_at, list(wanted), list(wanted.values()),
            )  # fmt: skip
            if row is None:
                held = await connection.fetchrow(
                    "SELECT * FROM reservations WHERE merchant = $1 AND holder = $2", merchant, holder
                )
                return _entry(held)
            short = shortage(wanted, await _lock_stock(connection, merchant, list(wanted)))
            if short is not None:
                rejected = await connection.fetchrow(
                    "UPDATE reservations SET state = 'Rejected', message = $3 "
                    "WHERE merchant = $1 AND holder = $2 RETURNING *",
                    merchant, holder, short,
                )  # fmt: skip
                return _entry(rejected)
            lines = await move(connection, merchant, holder, kind="Hold", on_hand=0, reserved=1)
            data = {**about(row, lines), "expiresAt": expires_at.isoformat()}
            await tell_of_stock(connection, gate, row, EventType.INVENTORY_RESERVED, data, traceparent)
            return _entry(row)

    async def expire(self, merchant: str, holder: str, now: datetime) -> StockEntry | None:
        async with transaction(self._pool) as connection:
            row, gate = await _lock_reservation(connection, merchant, holder)
            if row is None or row["state"] != "Held" or row["expires_at"] > now:
                return _entry(row) if row else None
            return await _give_back(connection, gate, row, StockState.EXPIRED, "Expire", "Expired")

    async def release(self, merchant: str, holder: str) -> StockEntry | None:
        async with transaction(self._pool) as connection:
            row, gate = await _lock_reservation(connection, merchant, holder)
            if gate is not None:
                if gate["state"] != GateState.UNDOING:
                    raise GateClosed(f"order {merchant}/{gate['name']} is {gate['state']}, not Undoing")
                alive = await connection.fetchval(
                    "SELECT state FROM shipments WHERE merchant = $1 AND order_uid = $2", merchant, holder
                )
                if alive in (ParcelState.INTENDED, ParcelState.BOUGHT):
                    raise GateClosed(f"order {merchant}/{gate['name']} has a shipment that is {alive}")
            if row is None or row["state"] not in ("Held", "Pinned", "Committed"):
                return _entry(row) if row else None
            if row["state"] == "Committed":
                return await _give_back(connection, gate, row, StockState.RELEASED, "Return", "Returned")
            return await _give_back(connection, gate, row, StockState.RELEASED, "Release", "Released")


def shortage(wanted: Mapping[str, int], free: Mapping[str, int]) -> str | None:
    """What is missing, as a sentence for the customer; None where there is enough of everything."""
    short = [
        f"{sku}: {quantity} wanted, {free.get(sku, 0)} left"
        for sku, quantity in sorted(wanted.items())
        if free.get(sku, 0) < quantity
    ]
    if not short:
        return None
    text = "; ".join(short)
    return text if len(text) <= 500 else f"{text[:500]}..."


async def move(
    connection: Connection, merchant: str, holder: str | UUID, *, kind: str, on_hand: int, reserved: int
) -> dict[str, int]:
    """Change stock by each line of a reservation times `on_hand` and `reserved` (-1, 0, 1), and note it.

    Answers the lines, quantities by SKU. The reservation is locked by this transaction already.
    """
    rows = await connection.fetch(_MOVE, merchant, holder, on_hand, reserved, kind)
    return {row["sku"]: row["quantity"] for row in rows}


async def commit_lines(connection: Connection, merchant: str, order_uid: str) -> bool:
    """The goods leave: PINNED becomes COMMITTED. Answers False where a recount took them first.

    The order's gate row is locked by this transaction.
    """
    is_ours = await connection.fetchval(
        "UPDATE reservations SET state = 'Committed' "
        "WHERE merchant = $1 AND holder = $2 AND state = 'Pinned' RETURNING true",
        merchant, order_uid,
    )  # fmt: skip
    if not is_ours:
        return False
    await move(connection, merchant, order_uid, kind="Commit", on_hand=-1, reserved=-1)
    return True


async def lines_of(connection: Connection, merchant: str, holder: str | UUID) -> dict[str, int]:
    """A reservation's quantities by SKU."""
    rows = await connection.fetch(
        "SELECT sku, quantity FROM reservation_lines WHERE merchant = $1 AND holder = $2 ORDER BY sku",
        merchant, holder,
    )  # fmt: skip
    return {row["sku"]: row["quantity"] for row in rows}


async def _lock_stock(connection: Connection, merchant: str, skus: list[str]) -> dict[str, int]:
    rows = await connection.fetch(
        "SELECT sku, on_hand - reserved AS free FROM stock "
        "WHERE merchant = $1 AND sku = ANY($2) ORDER BY sku FOR UPDATE",
        merchant, skus,
    )  # fmt: skip
    return {row["sku"]: row["free"] for row in rows}


async def _lock_reservation(connection: Connection, merchant: str, holder: str) -> tuple[Any, Any]:
    gate = await connection.fetchrow(
        "SELECT * FROM orders WHERE merchant = $1 AND uid = $2 FOR UPDATE", merchant, holder
    )
    row = await connection.fetchrow(
        "SELECT * FROM reservations WHERE merchant = $1 AND holder = $2 FOR UPDATE", merchant, holder
    )
    return row, gate


async def _give_back(
    connection: Connection, gate: Any, row: Any, state: StockState, kind: str, reason: str
) -> StockEntry:
    on_hand, reserved = (1, 0) if kind == "Return" else (0, -1)
    lines = await move(
        connection, row["merchant"], row["holder"], kind=kind, on_hand=on_hand, reserved=reserved
    )
    after = await connection.fetchrow(
        "UPDATE reservations SET state = $3 WHERE merchant = $1 AND holder = $2 RETURNING *",
        row["merchant"], row["holder"], state.value,
    )  # fmt: skip
    data = {**about(row, lines), "reason": reason}
    await tell_of_stock(connection, gate, row, EventType.INVENTORY_RELEASED, data, None)
    return _entry(after)


async def tell_of_stock(
    connection: Connection,
    gate: Any,
    row: Any,
    type_: EventType,
    data: dict[str, Any],
    traceparent: str | None,
) -> None:
    """An order's events are numbered by its gate row; a Reservation alone numbers its own."""
    if gate is not None:
        await tell(connection, gate, type_, data)
        return
    seq = await connection.fetchval(
        "SELECT coalesce(max(seq), 0) + 1 FROM history WHERE subject = $1", row["holder"]
    )
    await record(
        connection,
        type_=type_,
        effect=row["holder"],
        merchant=row["merchant"],
        subject=row["holder"],
        name=row["name"],
        seq=seq,
        data={"merchant": row["merchant"], **data},
        traceparent=traceparent,
    )


def about(row: Any, lines: Mapping[str, int]) -> dict[str, Any]:
    """What an event says of a reservation."""
    return {
        "reservation": {"name": row["name"], "uid": str(row["holder"])},
        "items": [{"sku": sku, "quantity": quantity} for sku, quantity in sorted(lines.items())],
    }


def _entry(row: Any) -> StockEntry:
    return StockEntry(StockState(row["state"]), row["message"], row["expires_at"])
