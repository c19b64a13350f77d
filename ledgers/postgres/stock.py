"""The stock ledger in PostgreSQL.

Locks are always taken in one order, gate, reservation, then stock rows by SKU, so that no two
transactions can wait for each other. (A reservation that is only being made has nobody who could want it.)
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from orderplane.crds.order import Item
from orderplane.events.types import EventType
from orderplane.ledgers.errors import GateClosed
from orderplane.ledgers.gate import GateState, ReservationState, ShipmentState
from orderplane.ledgers.postgres.gate import gate_of, pass_gate, tell, told_of
from orderplane.ledgers.postgres.history import insert_told, record, told_arguments
from orderplane.ledgers.postgres.session import Connection, Pool, session, transaction
from orderplane.ledgers.stock import ReservationEntry

# The stock is locked before anything is made, for no longer than this statement. It is set from what was
# locked: PostgreSQL checks a row's constraints before it finds that there is a newer version of it.
_TAKE = """
line AS (SELECT * FROM unnest($6::text[], $7::bigint[]) AS t (sku, quantity)),
shelf AS MATERIALIZED (
    SELECT s.sku, s.on_hand, s.reserved, s.on_hand - s.reserved AS free FROM admitted, stock s
    WHERE s.merchant = $1 AND s.sku = ANY($6) ORDER BY s.sku FOR UPDATE OF s
), short AS (
    SELECT string_agg(format('%s: %s wanted, %s left', sku, quantity, coalesce(free, 0)), '; ' ORDER BY sku)
        AS message
    FROM line LEFT JOIN shelf USING (sku) WHERE coalesce(free, 0) < quantity
), made AS (
    INSERT INTO reservations (merchant, holder, order_uid, name, state, message, expires_at)
    SELECT $1, $2, $3, $4, CASE WHEN message IS NULL THEN 'Held' ELSE 'Rejected' END,
        CASE WHEN length(message) > 500 THEN left(message, 500) || '...' ELSE message END, $5
    FROM admitted, short ON CONFLICT DO NOTHING RETURNING *
), lines AS (
    INSERT INTO reservation_lines (merchant, holder, sku, quantity)
    SELECT made.merchant, made.holder, line.sku, line.quantity FROM made, line
), held AS (
    SELECT made.merchant, made.holder, line.quantity, shelf.sku, shelf.on_hand, shelf.reserved
    FROM made, line JOIN shelf USING (sku) WHERE made.state = 'Held'
), moved AS (
    UPDATE stock s SET on_hand = held.on_hand, reserved = held.reserved + held.quantity
    FROM held WHERE s.merchant = held.merchant AND s.sku = held.sku
), noted AS (
    INSERT INTO stock_movements (merchant, sku, on_hand_delta, reserved_delta, kind, holder)
    SELECT merchant, sku, 0, quantity, 'Hold', holder FROM held
)"""

_HOLD_ALONE = f"WITH admitted AS (SELECT $3::uuid), {_TAKE} SELECT * FROM made"  # noqa: S608

_HOLD = f"""
WITH {gate_of("$3", GateState.OPEN)}, admitted AS (SELECT uid FROM gate), {_TAKE},
taken AS (SELECT DISTINCT holder FROM held),
{told_of("taken")}, written AS ({insert_told(8)})
SELECT made.* FROM made, (SELECT count(*) FROM written) AS written
"""  # noqa: S608

_MOVE = """
line AS MATERIALIZED (
    SELECT s.merchant, s.sku, s.on_hand, s.reserved, l.holder, l.quantity
    FROM moving m JOIN reservation_lines l ON l.merchant = m.merchant AND l.holder = m.holder
    JOIN stock s ON s.merchant = l.merchant AND s.sku = l.sku
    ORDER BY s.sku FOR UPDATE OF s
), moved AS (
    UPDATE stock s
    SET on_hand = line.on_hand + moving.on_hand * line.quantity,
        reserved = line.reserved + moving.reserved * line.quantity
    FROM moving, line WHERE s.merchant = line.merchant AND s.sku = line.sku
), noted AS (
    INSERT INTO stock_movements (merchant, sku, on_hand_delta, reserved_delta, kind, holder)
    SELECT line.merchant, sku, moving.on_hand * quantity, moving.reserved * quantity, kind, line.holder
    FROM moving, line
)"""

_MOVE_LINES = f"""
WITH moving AS (
    SELECT $1::text AS merchant, $2::uuid AS holder,
        $3::bigint AS on_hand, $4::bigint AS reserved, $5::text AS kind
), {_MOVE}
SELECT sku, quantity FROM line
"""  # noqa: S608

COMMIT_GONE = f"""
moving AS (SELECT merchant, holder, -1 AS on_hand, -1 AS reserved, 'Commit' AS kind FROM gone), {_MOVE}
"""  # noqa: S608
"""The part of a statement that takes the goods of a reservation, `gone`, off the shelf."""


class PostgresStockLedger:
    """Implements `controllers.reservation.ledger.StockLedger`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def uid_of(self, merchant: str, name: str) -> str | None:
        async with session(self._pool) as connection:
            uid = await connection.fetchval(
                "SELECT holder FROM reservations WHERE merchant = $1 AND name = $2 "
                "ORDER BY created_at DESC LIMIT 1",
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

    async def read(self, merchant: str, holder: str) -> ReservationEntry | None:
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
    ) -> ReservationEntry:
        wanted = {item.sku: item.quantity for item in items}
        arguments = (
            merchant, holder, order_uid, name, expires_at, list(wanted), list(wanted.values()),
        )  # fmt: skip
        data = {**about({"name": name, "holder": holder}, wanted), "expiresAt": expires_at.isoformat()}
        if order_uid is None:
            async with transaction(self._pool) as connection:
                row = await connection.fetchrow(_HOLD_ALONE, *arguments)
                if row is not None and row["state"] == "Held":
                    await tell_of_stock(
                        connection, None, row, EventType.INVENTORY_RESERVED, data, traceparent
                    )
        else:
            told = told_arguments(EventType.INVENTORY_RESERVED, UUID(order_uid), data)
            async with session(self._pool) as connection:
                row = await connection.fetchrow(_HOLD, *arguments, *told)
                if row is None:
                    await pass_gate(connection, merchant, order_uid, GateState.OPEN)
        entry = _entry(row) if row else await self.read(merchant, holder)
        if entry is None:
            raise GateClosed(f"reservation {merchant}/{name} was made and undone meanwhile")
        return entry

    async def expire(self, merchant: str, holder: str, now: datetime) -> ReservationEntry | None:
        async with transaction(self._pool) as connection:
            row, gate = await _lock_reservation(connection, merchant, holder)
            if row is None or row["state"] != "Held" or row["expires_at"] > now:
                return _entry(row) if row else None
            return await _give_back(connection, gate, row, ReservationState.EXPIRED, "Expire", "Expired")

    async def release(self, merchant: str, holder: str) -> ReservationEntry | None:
        async with transaction(self._pool) as connection:
            row, gate = await _lock_reservation(connection, merchant, holder)
            if gate is not None:
                if gate["state"] != GateState.COMPENSATING:
                    raise GateClosed(f"order {merchant}/{gate['name']} is {gate['state']}, not Compensating")
                alive = await connection.fetchval(
                    "SELECT state FROM shipments WHERE merchant = $1 AND order_uid = $2", merchant, holder
                )
                if alive in (ShipmentState.INTENDED, ShipmentState.BOUGHT):
                    raise GateClosed(f"order {merchant}/{gate['name']} has a shipment that is {alive}")
            if row is None or row["state"] not in ("Held", "Pinned", "Committed"):
                return _entry(row) if row else None
            if row["state"] == "Committed":
                return await _give_back(
                    connection, gate, row, ReservationState.RELEASED, "Return", "Returned"
                )
            return await _give_back(connection, gate, row, ReservationState.RELEASED, "Release", "Released")


async def move(
    connection: Connection, merchant: str, holder: str | UUID, *, kind: str, on_hand: int, reserved: int
) -> dict[str, int]:
    """Change stock by each line of a reservation times `on_hand` and `reserved` (-1, 0, 1), and note it.

    Answers the lines, quantities by SKU. The reservation is locked by this transaction already.
    """
    rows = await connection.fetch(_MOVE_LINES, merchant, holder, on_hand, reserved, kind)
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


async def _lock_reservation(connection: Connection, merchant: str, holder: str) -> tuple[Any, Any]:
    gate = await connection.fetchrow(
        "SELECT * FROM orders WHERE merchant = $1 AND uid = $2 FOR UPDATE", merchant, holder
    )
    row = await connection.fetchrow(
        "SELECT * FROM reservations WHERE merchant = $1 AND holder = $2 FOR UPDATE", merchant, holder
    )
    return row, gate


async def _give_back(
    connection: Connection, gate: Any, row: Any, state: ReservationState, kind: str, reason: str
) -> ReservationEntry:
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


def _entry(row: Any) -> ReservationEntry:
    return ReservationEntry(ReservationState(row["state"]), row["message"], row["expires_at"])
