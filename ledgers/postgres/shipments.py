"""The shipment ledger in PostgreSQL."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from orderplane.crds.reasons import Reason
from orderplane.events.types import EventType
from orderplane.ledgers.errors import GateClosed, Transient
from orderplane.ledgers.postgres.gate import OrderRow, append_order_event, lock_gate, seal_as
from orderplane.ledgers.postgres.history import event_arguments
from orderplane.ledgers.postgres.session import Connection, Pool, Row, session, transaction
from orderplane.ledgers.postgres.stock import commit_stock
from orderplane.ledgers.shipments import Label, PickupClaim, ShipmentEntry, ShipmentRef
from orderplane.ledgers.states import (
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

_READ = "SELECT * FROM shipments WHERE merchant = $1 AND order_uid = $2"

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
ON CONFLICT DO NOTHING RETURNING *
"""

# A label may be bought from here on: the purchase is written down before it is sent, for one shipment of the
# carrier.
_BEGIN_BUY = """
WITH gate AS (
    SELECT * FROM orders WHERE merchant = $1 AND uid = $2 AND state = 'Open' FOR UPDATE
)
UPDATE shipments s SET provider_id = $3, rate_id = $4, buy_begun_at = $5 FROM gate
WHERE s.merchant = gate.merchant AND s.order_uid = gate.uid AND s.state = 'Intended'
  AND coalesce(s.provider_id, $3) = $3
RETURNING s.*
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
    SET state = 'Bought', bought_at = $3, next_poll_at = $4, carrier = $5, service = $6, tracking_code = $7,
        tracker_id = $8, tracking_url = $9, cost = $10, cost_currency = $11,
        is_shipped = EXISTS (SELECT FROM pinned)
    FROM gate WHERE s.merchant = gate.merchant AND s.order_uid = gate.uid AND s.state = 'Intended'
    RETURNING s.*
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
    SELECT $12::uuid, merchant, uid, name, $13::text,
        jsonb_build_object('merchant', merchant, 'order', jsonb_build_object('name', name, 'uid', uid))
            || $14::jsonb,
        traceparent, $15::smallint, seq
    FROM numbered RETURNING seq
)
SELECT bought.* FROM bought, (SELECT count(*) FROM event) AS event
"""

# Without a label: refused by the carrier, or cancelled before one was bought.
_END_WITHOUT_LABEL = """
UPDATE shipments SET state = $3, reason = $4, message = $5
WHERE merchant = $1 AND order_uid = $2 AND state = 'Intended'
"""

_RECORD_VOID = """
UPDATE shipments SET state = 'Voided', void_state = $3, next_poll_at = NULL
WHERE merchant = $1 AND order_uid = $2 AND state = 'Bought' RETURNING tracking_code
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

# SKIP LOCKED: two pollers claim different shipments.
_CLAIM_DUE_FOR_POLLING = """
UPDATE shipments SET next_poll_at = $1::timestamptz + $3::interval, poll_count = poll_count + 1
WHERE (merchant, order_uid) IN (
    SELECT merchant, order_uid FROM shipments
    WHERE next_poll_at <= $1 ORDER BY next_poll_at LIMIT $2 FOR UPDATE SKIP LOCKED
) RETURNING *
"""

# A shipment that was delivered or voided meanwhile is not polled again.
_SCHEDULE_POLLS = """
UPDATE shipments s SET next_poll_at = t.at
FROM unnest($1::text[], $2::uuid[], $3::timestamptz[]) AS t (merchant, order_uid, at)
WHERE s.merchant = t.merchant AND s.order_uid = t.order_uid AND s.next_poll_at IS NOT NULL
"""

# A pickup that the carrier created and nobody confirmed is booked before another one is created.
_CLAIM_CREATED_PICKUP = """
UPDATE shipments SET pickup_claimed_at = $1
WHERE pickup IS NULL AND pickup_batch = (
    SELECT pickup_batch FROM shipments
    WHERE pickup IS NULL AND pickup_id IS NOT NULL AND pickup_claimed_at < $2
    LIMIT 1 FOR UPDATE SKIP LOCKED
) RETURNING *
"""

_CLAIM_NEW_PICKUP = """
UPDATE shipments SET pickup_batch = $4, pickup_claimed_at = $1
WHERE (merchant, order_uid) IN (
    SELECT merchant, order_uid FROM shipments
    WHERE state = 'Bought' AND pickup IS NULL AND pickup_id IS NULL AND tracking_status = 'PreTransit'
      AND (pickup_claimed_at IS NULL OR pickup_claimed_at < $2)
    LIMIT $3 FOR UPDATE SKIP LOCKED
) RETURNING *
"""

_RECORD_PICKUP_CREATED = """
UPDATE shipments SET pickup_id = $2 WHERE pickup_batch = $1 AND pickup_id IS NULL
"""

_RECORD_PICKUP_BOOKED = "UPDATE shipments SET pickup = $2 WHERE pickup_batch = $1"

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
            return await _reread(connection, merchant, order_uid)

    async def begin_buy(
        self, merchant: str, order_uid: str, *, provider_id: str, rate_id: str, now: datetime
    ) -> ShipmentEntry:
        async with session(self._pool) as connection:
            row = await connection.fetchrow(_BEGIN_BUY, merchant, order_uid, provider_id, rate_id, now)
        if row is None:
            raise GateClosed(f"buying a label for order {merchant}/{order_uid} is not admitted any more")
        return _entry(row)

    async def record_label(
        self, merchant: str, order_uid: str, label: Label, *, now: datetime, next_poll_at: datetime
    ) -> ShipmentEntry:
        event = event_arguments(EventType.ORDER_SHIPPED, UUID(order_uid), _event_data(label))
        async with session(self._pool) as connection:
            row = await connection.fetchrow(
                _RECORD_LABEL,
                merchant, order_uid, now, next_poll_at, label.carrier, label.service, label.tracking_code,
                label.tracker_id, label.tracking_url, label.cost, label.currency, *event,
            )  # fmt: skip
            if row is not None:
                return _entry(row)
            await lock_gate(connection, merchant, order_uid, *_LIVE)
            return await _reread(connection, merchant, order_uid)

    async def refuse(self, merchant: str, order_uid: str, reason: str, message: str) -> ShipmentEntry:
        async with transaction(self._pool) as connection:
            await lock_gate(connection, merchant, order_uid, *_LIVE)
            await connection.execute(
                _END_WITHOUT_LABEL, merchant, order_uid, ShipmentState.REFUSED.value, reason, message
            )
            return await _reread(connection, merchant, order_uid)

    async def cancel(self, merchant: str, order_uid: str) -> ShipmentEntry:
        async with transaction(self._pool) as connection:
            await lock_gate(connection, merchant, order_uid, GateState.COMPENSATING)
            await connection.execute(
                _END_WITHOUT_LABEL, merchant, order_uid, ShipmentState.CANCELLED.value, None, None
            )
            return await _reread(connection, merchant, order_uid)

    async def record_void(self, merchant: str, order_uid: str, void: VoidState) -> ShipmentEntry:
        async with transaction(self._pool) as connection:
            order = await lock_gate(connection, merchant, order_uid, GateState.COMPENSATING)
            row = await connection.fetchrow(_RECORD_VOID, merchant, order_uid, void.value)
            if row is not None:
                data = {"trackingCode": row["tracking_code"], "void": void.value}
                await append_order_event(connection, order, EventType.SHIPMENT_CANCELLED, data)
            return await _reread(connection, merchant, order_uid)

    async def record_tracking_status(
        self, merchant: str, order_uid: str, tracking_status: TrackingStatus
    ) -> ShipmentEntry:
        async with transaction(self._pool) as connection:
            order = await lock_gate(connection, merchant, order_uid, *GateState)
            row = await connection.fetchrow(_READ, merchant, order_uid)
            if row is None:
                raise GateClosed(f"order {merchant}/{order_uid} has no shipment")
            entry = _entry(row)
            if (
                entry.state is not ShipmentState.BOUGHT
                or tracking_status not in TRACKING_TRANSITIONS[entry.tracking_status]
            ):
                return entry
            is_over = tracking_status in (TrackingStatus.DELIVERED, TrackingStatus.RETURNED)
            await connection.execute(
                _SET_TRACKING_STATUS, merchant, order_uid, tracking_status.value, is_over
            )
            if order.state is not GateState.SEALED and not row["is_shipped"]:
                # The order was compensated, or a recount took its stock, and the goods have left after all.
                await _ship_late(connection, order, entry)
            is_delivered = tracking_status is TrackingStatus.DELIVERED
            if order.state is not GateState.SEALED or is_delivered:
                await seal_as(connection, order, Outcome.DELIVERED if is_delivered else Outcome.SHIPPED)
            if is_delivered:
                data = {"trackingCode": row["tracking_code"]}
                await append_order_event(connection, order, EventType.ORDER_DELIVERED, data)
            return await _reread(connection, merchant, order_uid)

    async def claim_due_for_polling(self, now: datetime, limit: int, lease: float) -> Sequence[ShipmentRef]:
        async with session(self._pool) as connection:
            rows = await connection.fetch(_CLAIM_DUE_FOR_POLLING, now, limit, timedelta(seconds=lease))
        return [_ref(row) for row in rows]

    async def schedule_polls(self, parcels: Sequence[ShipmentRef], at: Sequence[datetime]) -> None:
        async with session(self._pool) as connection:
            await connection.execute(
                _SCHEDULE_POLLS,
                [parcel.merchant for parcel in parcels], [parcel.order_uid for parcel in parcels], list(at),
            )  # fmt: skip

    async def claim_pickup(self, now: datetime, limit: int, lease: float) -> PickupClaim | None:
        stale = now - timedelta(seconds=lease)
        async with transaction(self._pool) as connection:
            rows = await connection.fetch(_CLAIM_CREATED_PICKUP, now, stale)
            if not rows:
                rows = await connection.fetch(_CLAIM_NEW_PICKUP, now, stale, limit, uuid4())
        if not rows:
            return None
        return PickupClaim(str(rows[0]["pickup_batch"]), [_ref(row) for row in rows], rows[0]["pickup_id"])

    async def record_pickup_created(self, batch: str, pickup_id: str) -> bool:
        async with session(self._pool) as connection:
            tag = await connection.execute(_RECORD_PICKUP_CREATED, batch, pickup_id)
        return tag != "UPDATE 0"

    async def record_pickup_booked(self, batch: str, confirmation: str) -> None:
        async with session(self._pool) as connection:
            await connection.execute(_RECORD_PICKUP_BOOKED, batch, confirmation)


async def _ship_late(connection: Connection, order: OrderRow, entry: ShipmentEntry) -> None:
    if not await commit_stock(connection, order.merchant, entry.order_uid):
        await connection.execute(_COMMIT_LOST, order.merchant, order.uid)
    assert entry.label is not None
    await connection.execute(_SET_SHIPPED, order.merchant, order.uid)
    await append_order_event(connection, order, EventType.ORDER_SHIPPED, _event_data(entry.label))


async def _reread(connection: Connection, merchant: str, order_uid: str) -> ShipmentEntry:
    row = await connection.fetchrow(_READ, merchant, order_uid)
    if row is None:
        raise GateClosed(f"order {merchant}/{order_uid} has no shipment")
    return _entry(row)


def _event_data(label: Label) -> dict[str, Any]:
    return {
        "carrier": label.carrier,
        "service": label.service,
        "trackingCode": label.tracking_code,
        "trackingUrl": label.tracking_url,
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
        buy_begun_at=row["buy_begun_at"],
        label=label,
        void=VoidState(row["void_state"]),
        tracking_status=TrackingStatus(row["tracking_status"]),
        pickup=row["pickup"],
        reason=row["reason"],
        message=row["message"],
    )


def _ref(row: Row) -> ShipmentRef:
    return ShipmentRef(
        merchant=row["merchant"],
        order_uid=str(row["order_uid"]),
        name=row["name"],
        provider_id=row["provider_id"],
        tracking_code=row["tracking_code"],
        tracking_status=TrackingStatus(row["tracking_status"]),
        poll_count=row["poll_count"],
    )
