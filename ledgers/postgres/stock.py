"""The stock ledger in PostgreSQL.

Locks are taken in one order, so that two transactions cannot deadlock: the order's gate, its reservation,
then the rows of the stock by SKU. (A reservation that is being inserted needs no lock: nobody else can see
it.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from orderplane.crds.order import Item
from orderplane.events.types import EventType
from orderplane.ledgers.errors import GateClosed
from orderplane.ledgers.postgres.gate import (
    OrderRow,
    append_order_event,
    find_and_lock,
    lock_gate,
)
from orderplane.ledgers.postgres.history import append_event, event_arguments
from orderplane.ledgers.postgres.session import Connection, Pool, Row, session, transaction
from orderplane.ledgers.states import (
    LABEL_POSSIBLE,
    RESERVING,
    GateState,
    ReservationState,
    StockMovementKind,
)
from orderplane.ledgers.stock import HOLD_SECONDS, ReservationEntry

_FIND_HOLDER = """
SELECT holder FROM reservations WHERE merchant = $1 AND name = $2 ORDER BY created_at DESC LIMIT 1
"""

_FIND_OVERDUE = """
SELECT merchant, name FROM reservations
WHERE order_uid IS NULL AND state = 'Held' AND expires_at < now()
ORDER BY expires_at LIMIT $1
"""

_HOLD_TIME = timedelta(seconds=HOLD_SECONDS)

# The time that is left is told by the clock that decides: this server's.
_READ = """
SELECT *, expires_at - clock_timestamp() AS time_left FROM reservations WHERE merchant = $1 AND holder = $2
"""

_LOCK = """
SELECT *, expires_at - clock_timestamp() AS time_left FROM reservations
WHERE merchant = $1 AND holder = $2 FOR UPDATE
"""

# Also one whose time is over, as long as nobody has given it back.
_LOCK_STANDALONE = """
SELECT *, expires_at - clock_timestamp() AS time_left FROM reservations
WHERE merchant = $1 AND name = $2 AND order_uid IS NULL AND state = 'Held' FOR UPDATE
"""

_SET_STATE = """
UPDATE reservations SET state = $3 WHERE merchant = $1 AND holder = $2
RETURNING *, expires_at - clock_timestamp() AS time_left
"""

_EXTEND = """
UPDATE reservations SET expires_at = clock_timestamp() + $3 WHERE merchant = $1 AND holder = $2
RETURNING *, expires_at - clock_timestamp() AS time_left
"""

_READ_LINES = """
SELECT sku, quantity FROM reservation_lines WHERE merchant = $1 AND holder = $2 ORDER BY sku
"""

_READ_SHIPMENT_STATE = "SELECT state FROM shipments WHERE merchant = $1 AND order_uid = $2"

# All lines are held or none: each needs as many pieces as are on hand and not reserved. An order has to be
# open, and its event is appended here; a reservation without an order ($3 is null) is admitted as it is, and
# the caller appends its event.
#
# The stock is locked before the reservation is inserted, for the length of this statement. `reserved` is set
# from the locked rows: PostgreSQL checks the constraints of an updated row before it finds that there is a
# newer version of it.
_HOLD = """
WITH gate AS (
    SELECT * FROM orders WHERE merchant = $1 AND uid = $3 AND state = 'Open' FOR UPDATE
), admitted AS MATERIALIZED (
    SELECT true FROM gate UNION ALL SELECT true WHERE $3::uuid IS NULL
), line AS (
    SELECT * FROM unnest($6::text[], $7::bigint[]) AS t (sku, quantity)
), available AS MATERIALIZED (
    SELECT s.sku, s.on_hand, s.reserved, s.on_hand - s.reserved AS free FROM admitted, stock s
    WHERE s.merchant = $1 AND s.sku = ANY($6) ORDER BY s.sku FOR UPDATE OF s
), short AS (
    SELECT string_agg(format('%s: %s wanted, %s left', sku, quantity, coalesce(free, 0)), '; ' ORDER BY sku)
        AS message
    FROM line LEFT JOIN available USING (sku) WHERE coalesce(free, 0) < quantity
), reservation AS (
    INSERT INTO reservations (merchant, holder, order_uid, name, state, message, expires_at)
    SELECT $1, $2, $3, $4, CASE WHEN message IS NULL THEN 'Held' ELSE 'Rejected' END,
        CASE WHEN length(message) > 500 THEN left(message, 500) || '...' ELSE message END,
        coalesce($5, clock_timestamp() + $12::interval)
    FROM admitted, short ON CONFLICT DO NOTHING RETURNING *
), reservation_line AS (
    INSERT INTO reservation_lines (merchant, holder, sku, quantity)
    SELECT reservation.merchant, reservation.holder, line.sku, line.quantity FROM reservation, line
), held AS (
    SELECT reservation.merchant, reservation.holder, line.quantity, available.sku, available.on_hand,
        available.reserved
    FROM reservation, line JOIN available USING (sku) WHERE reservation.state = 'Held'
), moved AS (
    UPDATE stock s SET on_hand = held.on_hand, reserved = held.reserved + held.quantity
    FROM held WHERE s.merchant = held.merchant AND s.sku = held.sku
), movement AS (
    INSERT INTO stock_movements (merchant, sku, on_hand_delta, reserved_delta, kind, holder)
    SELECT merchant, sku, 0, quantity, 'Hold', holder FROM held
), numbered AS (
    UPDATE orders o SET seq = o.seq + 1
    FROM gate, (SELECT DISTINCT holder FROM held) AS held
    WHERE o.merchant = gate.merchant AND o.uid = gate.uid RETURNING o.*
), event AS (
    INSERT INTO history (event_id, merchant, subject, name, type, data, traceparent, partition, seq)
    SELECT $8::uuid, merchant, uid, name, $9::text,
        jsonb_build_object('merchant', merchant, 'order', jsonb_build_object('name', name, 'uid', uid))
            || $10::jsonb || jsonb_build_object('expiresAt',
                to_char(expires_at AT TIME ZONE 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')),
        traceparent, $11::smallint, seq
    FROM numbered, (SELECT expires_at FROM reservation) AS reservation RETURNING seq
)
SELECT reservation.*, expires_at - clock_timestamp() AS time_left
FROM reservation, (SELECT count(*) FROM event) AS event
"""

# Each line of a reservation changes the stock by its quantity times $3 (on hand) and times $4 (reserved), and
# each change is a movement. The caller has locked the reservation.
_MOVE = """
WITH line AS MATERIALIZED (
    SELECT s.merchant, s.sku, s.on_hand, s.reserved, l.holder, l.quantity
    FROM reservation_lines l JOIN stock s ON s.merchant = l.merchant AND s.sku = l.sku
    WHERE l.merchant = $1 AND l.holder = $2
    ORDER BY s.sku FOR UPDATE OF s
), moved AS (
    UPDATE stock s
    SET on_hand = line.on_hand + $3::bigint * line.quantity,
        reserved = line.reserved + $4::bigint * line.quantity
    FROM line WHERE s.merchant = line.merchant AND s.sku = line.sku
), movement AS (
    INSERT INTO stock_movements (merchant, sku, on_hand_delta, reserved_delta, kind, holder)
    SELECT merchant, sku, $3::bigint * quantity, $4::bigint * quantity, $5, holder FROM line
)
SELECT sku, quantity FROM line
"""

# Only goods that are still pinned can leave: a recount may have taken them.
_COMMIT = """
UPDATE reservations SET state = 'Committed'
WHERE merchant = $1 AND holder = $2 AND state = 'Pinned' RETURNING true
"""

_NEXT_SEQ = "SELECT coalesce(max(seq), 0) + 1 FROM history WHERE subject = $1"


@dataclass(frozen=True, slots=True)
class ReservationRef:
    """Which reservation it is."""

    merchant: str
    holder: UUID
    name: str

    def event_data(self, lines: Mapping[str, int]) -> dict[str, Any]:
        """What an event says of it."""
        return {
            "reservation": {"name": self.name, "uid": str(self.holder)},
            "items": [{"sku": sku, "quantity": quantity} for sku, quantity in sorted(lines.items())],
        }


class PostgresStockLedger:
    """Implements `ledgers.stock.StockLedger`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def uid_of(self, merchant: str, name: str) -> str | None:
        async with session(self._pool) as connection:
            uid = await connection.fetchval(_FIND_HOLDER, merchant, name)
        return str(uid) if uid else None

    async def overdue(self, limit: int) -> Sequence[tuple[str, str]]:
        async with session(self._pool) as connection:
            rows = await connection.fetch(_FIND_OVERDUE, limit)
        return [(row["merchant"], row["name"]) for row in rows]

    async def read(self, merchant: str, holder: str) -> ReservationEntry | None:
        async with session(self._pool) as connection:
            row = await connection.fetchrow(_READ, merchant, holder)
        return _entry(row) if row else None

    async def hold(
        self,
        merchant: str,
        holder: str,
        *,
        order_uid: str | None,
        name: str,
        items: Sequence[Item],
        expires_at: datetime | None,
        traceparent: str | None,
        taking: str | None = None,
    ) -> ReservationEntry:
        reservation = ReservationRef(merchant, UUID(holder), name)
        lines = {item.sku: item.quantity for item in items}
        data = reservation.event_data(lines)
        arguments = (
            merchant, holder, order_uid, name, expires_at, list(lines), list(lines.values()),
            *event_arguments(EventType.INVENTORY_RESERVED, UUID(holder), data), _HOLD_TIME,
        )  # fmt: skip
        if order_uid is None:
            async with transaction(self._pool) as connection:
                row = await connection.fetchrow(_HOLD, *arguments)
                if row is not None and row["state"] == ReservationState.HELD:
                    data["expiresAt"] = row["expires_at"].isoformat()
                    await append_reservation_event(
                        connection, None, reservation, EventType.INVENTORY_RESERVED, data, traceparent
                    )
        elif taking is not None:
            async with transaction(self._pool) as connection:
                order = await lock_gate(connection, merchant, order_uid, GateState.OPEN)
                if await connection.fetchrow(_LOCK, merchant, holder) is None:
                    await _pass_over(connection, order, taking, lines)
                row = await connection.fetchrow(_HOLD, *arguments)
        else:
            async with session(self._pool) as connection:
                row = await connection.fetchrow(_HOLD, *arguments)
                if row is None:
                    await lock_gate(connection, merchant, order_uid, GateState.OPEN)
        entry = _entry(row) if row else await self.read(merchant, holder)
        if entry is None:
            raise GateClosed(f"reservation {merchant}/{name} was made and compensated meanwhile")
        return entry

    async def expire(self, merchant: str, holder: str) -> ReservationEntry | None:
        async with transaction(self._pool) as connection:
            order, row = await _lock(connection, merchant, holder)
            if row is None or not _is_overdue(row):
                return _entry(row) if row else None
            return await _give_back(
                connection, order, row, ReservationState.EXPIRED, StockMovementKind.EXPIRE, "Expired"
            )

    async def extend(self, merchant: str, holder: str) -> ReservationEntry | None:
        async with transaction(self._pool) as connection:
            await lock_gate(connection, merchant, holder, GateState.OPEN)
            row = await connection.fetchrow(_LOCK, merchant, holder)
            if row is not None and _is_overdue(row):
                row = await connection.fetchrow(_EXTEND, merchant, holder, _HOLD_TIME)
            return _entry(row) if row else None

    async def release(self, merchant: str, holder: str) -> ReservationEntry | None:
        async with transaction(self._pool) as connection:
            order, row = await _lock(connection, merchant, holder)
            if order is not None:
                if order.state is not GateState.COMPENSATING:
                    raise GateClosed(f"order {merchant}/{order.name} is {order.state}, not Compensating")
                await refuse_while_label_possible(connection, order)
            state = ReservationState(row["state"]) if row else None
            if row is None or state not in (*RESERVING, ReservationState.COMMITTED):
                return _entry(row) if row else None
            if state is ReservationState.COMMITTED:
                kind, reason = StockMovementKind.RETURN, "Returned"
            else:
                kind, reason = StockMovementKind.RELEASE, "Released"
            return await _give_back(connection, order, row, ReservationState.RELEASED, kind, reason)


async def refuse_while_label_possible(connection: Connection, order: OrderRow) -> None:
    """Neither goods nor money are given back while a parcel may still be on its way.

    Raises:
        GateClosed: a valid label exists or may come to exist. The order's row is locked, so none is begun
            meanwhile.
    """
    state = await connection.fetchval(_READ_SHIPMENT_STATE, order.merchant, order.uid)
    if state in LABEL_POSSIBLE:
        raise GateClosed(f"order {order.merchant}/{order.name} has a shipment that is {state}")


async def move_stock(
    connection: Connection,
    merchant: str,
    holder: str | UUID,
    *,
    kind: StockMovementKind,
    on_hand: int,
    reserved: int,
) -> dict[str, int]:
    """Change the stock by each line of a reservation times `on_hand` and `reserved` (-1, 0 or 1).

    Returns the lines, quantities by SKU. The reservation is locked by this transaction.
    """
    rows = await connection.fetch(_MOVE, merchant, holder, on_hand, reserved, kind.value)
    return {row["sku"]: row["quantity"] for row in rows}


async def commit_stock(connection: Connection, merchant: str, order_uid: str) -> bool:
    """The goods leave: PINNED becomes COMMITTED. False where a recount took them first.

    The order's row is locked by this transaction.
    """
    if not await connection.fetchval(_COMMIT, merchant, order_uid):
        return False
    await move_stock(connection, merchant, order_uid, kind=StockMovementKind.COMMIT, on_hand=-1, reserved=-1)
    return True


async def read_lines(connection: Connection, merchant: str, holder: str | UUID) -> dict[str, int]:
    """A reservation's quantities by SKU."""
    rows = await connection.fetch(_READ_LINES, merchant, holder)
    return {row["sku"]: row["quantity"] for row in rows}


async def append_reservation_event(
    connection: Connection,
    order: OrderRow | None,
    reservation: ReservationRef,
    type_: EventType,
    data: Mapping[str, Any],
    traceparent: str | None = None,
) -> None:
    """Append an event of a reservation. The order's row gives its number; without an order, its own history
    does."""
    if order is not None:
        await append_order_event(connection, order, type_, data)
        return
    await append_event(
        connection,
        type_=type_,
        effect=reservation.holder,
        merchant=reservation.merchant,
        subject=reservation.holder,
        name=reservation.name,
        seq=await connection.fetchval(_NEXT_SEQ, reservation.holder),
        data={"merchant": reservation.merchant, **data},
        traceparent=traceparent,
    )


async def _lock(connection: Connection, merchant: str, holder: str) -> tuple[OrderRow | None, Row | None]:
    """The gate first, then the reservation; either may not be there."""
    order = await find_and_lock(connection, merchant, holder)
    return order, await connection.fetchrow(_LOCK, merchant, holder)


async def _give_back(
    connection: Connection,
    order: OrderRow | None,
    row: Row,
    state: ReservationState,
    kind: StockMovementKind,
    reason: str,
    *,
    passed_to: Mapping[str, str] | None = None,
) -> ReservationEntry:
    reservation = ReservationRef(row["merchant"], row["holder"], row["name"])
    # What has left is on hand again; what was only reserved is not reserved any more.
    on_hand, reserved = (1, 0) if kind is StockMovementKind.RETURN else (0, -1)
    lines = await move_stock(
        connection, row["merchant"], row["holder"], kind=kind, on_hand=on_hand, reserved=reserved
    )
    after = await connection.fetchrow(_SET_STATE, row["merchant"], row["holder"], state.value)
    assert after is not None
    data = {**reservation.event_data(lines), "reason": reason}
    if passed_to is not None:
        data["passedTo"] = passed_to
    await append_reservation_event(connection, order, reservation, EventType.INVENTORY_RELEASED, data)
    return _entry(after)


async def _pass_over(connection: Connection, order: OrderRow, taking: str, lines: Mapping[str, int]) -> None:
    """Give back what a Reservation without an order holds, for an order that holds it next in this
    transaction: the stock stays locked in between."""
    row = await connection.fetchrow(_LOCK_STANDALONE, order.merchant, taking)
    if row is None or await read_lines(connection, order.merchant, row["holder"]) != lines:
        return
    state, kind = ReservationState.RELEASED, StockMovementKind.RELEASE
    passed_to = {"name": order.name, "uid": str(order.uid)}
    await _give_back(connection, None, row, state, kind, "Released", passed_to=passed_to)


def _is_overdue(row: Row) -> bool:
    return bool(row["state"] == ReservationState.HELD and row["time_left"] <= timedelta())


def _entry(row: Row) -> ReservationEntry:
    return ReservationEntry(
        ReservationState(row["state"]), row["message"], row["expires_at"], row["time_left"]
    )
