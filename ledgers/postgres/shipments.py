"""The shipment ledger in PostgreSQL."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from orderplane.crds.reasons import Reason
from orderplane.events.types import EventType
from orderplane.ledgers.errors import GateClosed, Transient
from orderplane.ledgers.postgres.gate import OrderRow, append_order_event, lock_gate, seal_as
from orderplane.ledgers.postgres.history import event_arguments
from orderplane.ledgers.postgres.refunds import end_settled_return
from orderplane.ledgers.postgres.session import Connection, Pool, Row, session, transaction
from orderplane.ledgers.postgres.stock import commit_stock
from orderplane.ledgers.shipments import Label, ShipmentEntry
from orderplane.ledgers.states import (
    LABEL_ALIVE,
    STILL_VALID,
    TRACKING_TRANSITIONS,
    GateState,
    Outcome,
    ReservationState,
    ShipmentState,
    TrackingStatus,
    VoidState,
)

_FIND_ORDER = """
SELECT order_uid FROM shipments WHERE merchant = $1 AND name = $2 ORDER BY created_at DESC LIMIT 1
"""

_READ = """
SELECT s.*, clock_timestamp() - s.buy_begun_at AS buy_age
FROM shipments s WHERE s.merchant = $1 AND s.order_uid = $2
"""

_READ_CAPTURED = """
SELECT captured FROM payments WHERE merchant = $1 AND order_uid = $2 AND state = 'Captured' AND currency = $3
"""

_READ_RESERVATION_STATE = "SELECT state FROM reservations WHERE merchant = $1 AND holder = $2"

# A shipment is begun only where exactly the order's total was captured and its stock is pinned, whatever a
# resource says. The reservation is locked: a recount may be taking it. The payment needs no lock: while the
# order is open, a captured payment does not change.
_INTEND = """
WITH gate AS (
    SELECT * FROM orders WHERE merchant = $1 AND uid = $2 AND state = 'Open' FOR UPDATE
), pinned AS (
    SELECT gate.* FROM gate JOIN reservations r ON r.merchant = gate.merchant AND r.holder = gate.uid
    WHERE r.state = 'Pinned' FOR UPDATE OF r
)
INSERT INTO shipments (merchant, order_uid, name)
SELECT o.merchant, o.uid, $3 FROM pinned o JOIN payments p ON p.merchant = o.merchant AND p.order_uid = o.uid
WHERE p.state = 'Captured' AND p.captured = o.total AND p.currency = o.currency
ON CONFLICT DO NOTHING RETURNING *, NULL::interval AS buy_age
"""

# A label may be bought from here on: the purchase is written down before it is sent, for one shipment of the
# carrier, each attempt once.
_BEGIN_BUY = """
WITH gate AS (
    SELECT * FROM orders WHERE merchant = $1 AND uid = $2 AND state = 'Open' FOR UPDATE
)
UPDATE shipments s
SET provider_id = $3, rate_id = $4, buy_attempt = $5, buy_begun_by = $6, buy_begun_at = clock_timestamp()
FROM gate
WHERE s.merchant = gate.merchant AND s.order_uid = gate.uid AND s.state = 'Intended'
  AND coalesce(s.provider_id, $3) = $3 AND s.buy_attempt < $5
RETURNING s.*, interval '0' AS buy_age
"""

# A label that was bought is recorded whether the order is open or compensating: the carrier does not ask the
# gate. The goods leave, and the order ships, only where it is open and they are still pinned.
_RECORD_LABEL = """
WITH gate AS (
    SELECT * FROM orders WHERE merchant = $1 AND uid = $2 AND state IN ('Open', 'Compensating') FOR UPDATE
), pinned AS (
    SELECT r.merchant, r.holder
    FROM gate JOIN reservations r ON r.merchant = gate.merchant AND r.holder = gate.uid
    WHERE gate.state = 'Open' AND r.state = 'Pinned' FOR UPDATE OF r
), bought AS (
    UPDATE shipments s
    SET state = 'Bought', bought_at = clock_timestamp(), next_poll_at = clock_timestamp() + $3::interval,
        carrier = $4, service = $5, tracking_code = $6, tracker_id = $7, tracking_url = $8, cost = $9,
        cost_currency = $10, is_shipped = EXISTS (SELECT FROM pinned), reason = NULL, message = NULL
    FROM gate WHERE s.merchant = gate.merchant AND s.order_uid = gate.uid AND s.state = 'Intended'
    RETURNING s.*, clock_timestamp() - s.buy_begun_at AS buy_age
), committed AS (
    UPDATE reservations r SET state = 'Committed' FROM bought, pinned
    WHERE r.merchant = pinned.merchant AND r.holder = pinned.holder RETURNING r.merchant, r.holder
), line AS MATERIALIZED (
    SELECT s.merchant, s.sku, s.on_hand, s.reserved, l.holder, l.quantity
    FROM committed c JOIN reservation_lines l ON l.merchant = c.merchant AND l.holder = c.holder
    JOIN stock s ON s.merchant = l.merchant AND s.sku = l.sku
    ORDER BY s.sku FOR UPDATE OF s
), moved AS (
    UPDATE stock s SET on_hand = line.on_hand - line.quantity, reserved = line.reserved - line.quantity
    FROM line WHERE s.merchant = line.merchant AND s.sku = line.sku
), movement AS (
    INSERT INTO stock_movements (merchant, sku, on_hand_delta, reserved_delta, kind, holder)
    SELECT merchant, sku, -quantity, -quantity, 'Commit', holder FROM line
), numbered AS (
    UPDATE orders o SET seq = o.seq + 1 FROM gate, committed
    WHERE o.merchant = gate.merchant AND o.uid = gate.uid RETURNING o.*
), event AS (
    INSERT INTO history (event_id, merchant, subject, name, type, data, traceparent, partition, seq)
    SELECT $11::uuid, merchant, uid, name, $12::text,
        jsonb_build_object('merchant', merchant, 'order', jsonb_build_object('name', name, 'uid', uid))
            || $13::jsonb,
        traceparent, $14::smallint, seq
    FROM numbered RETURNING seq
)
SELECT bought.* FROM bought, (SELECT count(*) FROM event) AS event
"""

# A purchase that landed after it was settled that there is no label: the order goes on as it is, the label is
# voided.
_RECORD_STRAY = """
UPDATE shipments s
SET state = 'Stray', bought_at = clock_timestamp(), next_poll_at = clock_timestamp() + $3::interval,
    carrier = $4, service = $5, tracking_code = $6, tracker_id = $7, tracking_url = $8, cost = $9,
    cost_currency = $10
WHERE s.merchant = $1 AND s.order_uid = $2 AND s.state IN ('Cancelled', 'Refused')
"""

_FIND_STRAYS = "SELECT merchant, name FROM shipments WHERE state = 'Stray' LIMIT $1"

# Refused, or cancelled before a label was bought. Where a purchase was begun, the carrier is asked again
# later: it may have landed after all.
_REFUSE = """
UPDATE shipments
SET state = 'Refused', reason = $3, message = $4, poll_count = 0,
    next_poll_at = CASE WHEN buy_begun_at IS NOT NULL THEN clock_timestamp() + $6::interval END
WHERE merchant = $1 AND order_uid = $2 AND state = 'Intended' AND buy_attempt = $5
"""

_CANCEL = """
UPDATE shipments
SET state = 'Cancelled', reason = NULL, message = NULL, poll_count = 0,
    next_poll_at = CASE WHEN buy_begun_at IS NOT NULL THEN clock_timestamp() + $3::interval END
WHERE merchant = $1 AND order_uid = $2 AND state = 'Intended'
"""

_NOTE_REFUSAL = """
UPDATE shipments SET reason = $3, message = $4
WHERE merchant = $1 AND order_uid = $2 AND state = 'Intended' AND buy_attempt = $5
"""

# With an answer that leaves the label valid ($4), only the answer is noted.
_RECORD_VOID = """
UPDATE shipments
SET void_state = $3, void_reference = coalesce($5, void_reference),
    state = CASE WHEN $4 THEN state WHEN state = 'Stray' THEN 'Discarded' ELSE 'Voided' END,
    next_poll_at = CASE WHEN $4 THEN next_poll_at END
WHERE merchant = $1 AND order_uid = $2 AND state IN ('Bought', 'Stray')
RETURNING state, tracking_code
"""

_SET_TRACKING_STATUS = """
UPDATE shipments SET tracking_status = $3, next_poll_at = CASE WHEN $4 THEN NULL ELSE next_poll_at END
WHERE merchant = $1 AND order_uid = $2
"""

_SET_SHIPPED = "UPDATE shipments SET is_shipped = true WHERE merchant = $1 AND order_uid = $2"

# A recount has taken these goods off the stock already; they have left all the same, so only the state is
# corrected.
_COMMIT_LOST = """
UPDATE reservations SET state = 'Committed' WHERE merchant = $1 AND holder = $2 AND state = 'Lost'
"""

_LIVE = (GateState.OPEN, GateState.COMPENSATING)


class PostgresShipmentLedger:
    """Implements `ledgers.shipments.ShipmentLedger`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def uid_of(self, merchant: str, name: str) -> str | None:
        async with session(self._pool) as connection:
            uid = await connection.fetchval(_FIND_ORDER, merchant, name)
        return str(uid) if uid else None

    async def read(self, merchant: str, order_uid: str) -> ShipmentEntry | None:
        async with session(self._pool) as connection:
            row = await connection.fetchrow(_READ, merchant, order_uid)
        return _entry(row) if row else None

    async def intend(self, merchant: str, order_uid: str, *, name: str) -> ShipmentEntry:
        async with session(self._pool) as connection:
            row = await connection.fetchrow(_INTEND, merchant, order_uid, name)
            if row is not None:
                return _entry(row)
            order = await lock_gate(connection, merchant, order_uid, GateState.OPEN)
            captured = await connection.fetchval(_READ_CAPTURED, merchant, order_uid, order.currency)
            if captured != order.total:
                raise Transient(
                    Reason.NOT_PAID, f"order {merchant}/{order.name} is not paid in full; no label"
                )
            state = await connection.fetchval(_READ_RESERVATION_STATE, merchant, order_uid)
            if state != ReservationState.PINNED:
                raise Transient(
                    Reason.STOCK_NOT_PINNED,
                    f"stock of order {merchant}/{order.name} is {state or 'not held'}",
                )
            return await read_shipment(connection, merchant, order_uid)

    async def begin_buy(
        self, merchant: str, order_uid: str, *, provider_id: str, rate_id: str, attempt: int, operator: str
    ) -> ShipmentEntry:
        async with session(self._pool) as connection:
            row = await connection.fetchrow(
                _BEGIN_BUY, merchant, order_uid, provider_id, rate_id, attempt, operator
            )
        if row is None:
            raise GateClosed(f"purchase {attempt} of order {merchant}/{order_uid} is not admitted any more")
        return _entry(row)

    async def record_label(
        self, merchant: str, order_uid: str, label: Label, *, first_poll: timedelta
    ) -> ShipmentEntry:
        event = event_arguments(EventType.ORDER_SHIPPED, UUID(order_uid), _event_data(label))
        bought = (
            merchant, order_uid, first_poll, label.carrier, label.service, label.tracking_code,
            label.tracker_id, label.tracking_url, label.cost, label.currency,
        )  # fmt: skip
        async with session(self._pool) as connection:
            row = await connection.fetchrow(_RECORD_LABEL, *bought, *event)
            if row is not None:
                return _entry(row)
        async with transaction(self._pool) as connection:
            await lock_gate(connection, merchant, order_uid, *GateState)
            await connection.execute(_RECORD_STRAY, *bought)
            return await read_shipment(connection, merchant, order_uid)

    async def refuse(
        self,
        merchant: str,
        order_uid: str,
        reason: str,
        message: str,
        *,
        attempt: int,
        is_final: bool,
        look_again: timedelta,
    ) -> ShipmentEntry:
        refusal = (merchant, order_uid, reason, message, attempt)
        async with transaction(self._pool) as connection:
            await lock_gate(connection, merchant, order_uid, *_LIVE)
            if is_final:
                await connection.execute(_REFUSE, *refusal, look_again)
            else:
                await connection.execute(_NOTE_REFUSAL, *refusal)
            return await read_shipment(connection, merchant, order_uid)

    async def cancel(self, merchant: str, order_uid: str, *, look_again: timedelta) -> ShipmentEntry:
        async with transaction(self._pool) as connection:
            await lock_gate(connection, merchant, order_uid, GateState.COMPENSATING)
            await connection.execute(_CANCEL, merchant, order_uid, look_again)
            return await read_shipment(connection, merchant, order_uid)

    async def record_void(self, merchant: str, order_uid: str, void: VoidState) -> ShipmentEntry:
        async with transaction(self._pool) as connection:
            order = await lock_gate(connection, merchant, order_uid, *GateState)
            entry = await read_shipment(connection, merchant, order_uid)
            if entry.state is not ShipmentState.STRAY and order.state is not GateState.COMPENSATING:
                raise GateClosed(f"order {merchant}/{order.name} is {order.state}, not Compensating")
            await record_void(connection, order, void)
            return await read_shipment(connection, merchant, order_uid)

    async def record_tracking_status(
        self, merchant: str, order_uid: str, tracking_status: TrackingStatus
    ) -> ShipmentEntry:
        async with transaction(self._pool) as connection:
            order = await lock_gate(connection, merchant, order_uid, *GateState)
            row = await connection.fetchrow(_READ, merchant, order_uid)
            if row is None:
                raise GateClosed(f"order {merchant}/{order_uid} has no shipment")
            entry = _entry(row)
            is_news = tracking_status in TRACKING_TRANSITIONS[entry.tracking_status]
            if entry.state not in LABEL_ALIVE or not is_news or order.is_returned:
                return entry
            is_delivered = tracking_status is TrackingStatus.DELIVERED
            await connection.execute(
                _SET_TRACKING_STATUS, merchant, order_uid, tracking_status.value, is_delivered
            )
            if entry.state is ShipmentState.STRAY:
                # The order has ended, or is being undone, without this parcel: a person has to act.
                return await read_shipment(connection, merchant, order_uid)
            if order.state is not GateState.SEALED and not row["is_shipped"]:
                # The order was compensated, or a recount took its stock, and the goods have left after all.
                await _ship_late(connection, order, entry)
            if order.state is not GateState.SEALED or is_delivered:
                await seal_as(connection, order, Outcome.DELIVERED if is_delivered else Outcome.SHIPPED)
            if is_delivered:
                data = {"trackingCode": row["tracking_code"]}
                await append_order_event(connection, order, EventType.ORDER_DELIVERED, data)
            await end_settled_return(connection, order)
            return await read_shipment(connection, merchant, order_uid)

    async def strays(self, limit: int) -> Sequence[tuple[str, str]]:
        async with session(self._pool) as connection:
            rows = await connection.fetch(_FIND_STRAYS, limit)
        return [(row["merchant"], row["name"]) for row in rows]


async def record_void(
    connection: Connection,
    order: OrderRow,
    void: VoidState,
    *,
    note: str | None = None,
    by_hand: Mapping[str, str] | None = None,
) -> None:
    """Record what the carrier, or with `by_hand` a person, has done with the label."""
    row = await connection.fetchrow(
        _RECORD_VOID, order.merchant, order.uid, void.value, void in STILL_VALID, note
    )
    if row is not None and row["state"] == ShipmentState.VOIDED:
        data = {"trackingCode": row["tracking_code"], "void": void.value, **(by_hand or {})}
        await append_order_event(connection, order, EventType.SHIPMENT_CANCELLED, data)


async def _ship_late(connection: Connection, order: OrderRow, entry: ShipmentEntry) -> None:
    if not await commit_stock(connection, order.merchant, entry.order_uid):
        await connection.execute(_COMMIT_LOST, order.merchant, order.uid)
    assert entry.label is not None
    await connection.execute(_SET_SHIPPED, order.merchant, order.uid)
    await append_order_event(connection, order, EventType.ORDER_SHIPPED, _event_data(entry.label))


async def read_shipment(connection: Connection, merchant: str, order_uid: str) -> ShipmentEntry:
    """The entry of an order.

    Raises:
        GateClosed: no shipment was ever begun.
    """
    row = await connection.fetchrow(_READ, merchant, order_uid)
    if row is None:
        raise GateClosed(f"order {merchant}/{order_uid} has no shipment")
    return _entry(row)


def _event_data(label: Label) -> dict[str, Any]:
    return {
        "carrier": label.carrier,
        "service": label.service,
        "trackingCode": label.tracking_code,
        "trackingUrl": label.tracking_url or None,
    }


def _entry(row: Row) -> ShipmentEntry:
    label = (
        Label(
            tracking_code=row["tracking_code"],
            tracker_id=row["tracker_id"],
            tracking_url=row["tracking_url"],
            carrier=row["carrier"],
            service=row["service"],
            cost=row["cost"],
            currency=row["cost_currency"],
        )
        if row["tracking_code"]
        else None
    )
    return ShipmentEntry(
        order_uid=str(row["order_uid"]),
        state=ShipmentState(row["state"]),
        provider_id=row["provider_id"],
        rate_id=row["rate_id"],
        label=label,
        void=VoidState(row["void_state"]),
        tracking_status=TrackingStatus(row["tracking_status"]),
        pickup=row["pickup"],
        reason=row["reason"],
        message=row["message"],
        buy_age=row["buy_age"],
        buy_attempt=row["buy_attempt"],
        buy_begun_by=row["buy_begun_by"],
    )
