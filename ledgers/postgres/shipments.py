"""The shipment ledger in PostgreSQL."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from orderplane.crds.reasons import Reason
from orderplane.events.types import EventType
from orderplane.ledgers.errors import GateClosed, Transient
from orderplane.ledgers.gate import GateState, Outcome, ShipmentState, TrackingStatus
from orderplane.ledgers.postgres.gate import gate_of, pass_gate, seal_as, tell, told_of
from orderplane.ledgers.postgres.history import insert_told, told_arguments
from orderplane.ledgers.postgres.session import Connection, Pool, session, transaction
from orderplane.ledgers.postgres.stock import COMMIT_GONE, commit_lines
from orderplane.ledgers.shipments import Label, PickupClaim, ShipmentEntry, ShipmentRef, VoidState

_LIVE = (GateState.OPEN, GateState.COMPENSATING)

_INTEND = f"""
WITH {gate_of("$2", GateState.OPEN)}, pinned AS (
    SELECT gate.* FROM gate JOIN reservations r ON r.merchant = gate.merchant AND r.holder = gate.uid
    WHERE r.state = 'Pinned' FOR UPDATE OF r
)
INSERT INTO shipments (merchant, order_uid, name)
SELECT o.merchant, o.uid, $3 FROM pinned o JOIN payments p ON p.merchant = o.merchant AND p.order_uid = o.uid
-- The payment of an open order stays as it is once it is captured.
WHERE p.state = 'Captured' AND p.captured = o.total AND p.currency = o.currency
ON CONFLICT DO NOTHING RETURNING *
"""  # noqa: S608

_BEGIN_BUY = f"""
WITH {gate_of("$2", GateState.OPEN)}
UPDATE shipments s SET provider_id = $3, rate_id = $4, buy_begun_at = $5 FROM gate
WHERE s.merchant = gate.merchant AND s.order_uid = gate.uid AND s.state = 'Intended'
  AND coalesce(s.provider_id, $3) = $3
RETURNING s.*
"""  # noqa: S608

_LABEL = f"""
WITH {gate_of("$2", *_LIVE)}, pinned AS (
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
), gone AS (
    UPDATE reservations r SET state = 'Committed' FROM bought, pinned
    WHERE r.merchant = pinned.merchant AND r.holder = pinned.holder RETURNING r.merchant, r.holder
), {COMMIT_GONE}, {told_of("gone")}, written AS ({insert_told(12)})
SELECT bought.* FROM bought, (SELECT count(*) FROM written) AS written
"""  # noqa: S608

_ORDER = {state: rank for rank, state in enumerate(("PreTransit", "InTransit", "Returned", "Delivered"))}


class PostgresShipmentLedger:
    """Implements `controllers.shipment.ledger.ShipmentLedger`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def uid_of(self, merchant: str, name: str) -> str | None:
        async with session(self._pool) as connection:
            uid = await connection.fetchval(
                "SELECT order_uid FROM shipments WHERE merchant = $1 AND name = $2 "
                "ORDER BY created_at DESC LIMIT 1",
                merchant, name,
            )  # fmt: skip
        return str(uid) if uid else None

    async def read(self, merchant: str, order_uid: str) -> ShipmentEntry | None:
        async with session(self._pool) as connection:
            row = await connection.fetchrow(
                "SELECT * FROM shipments WHERE merchant = $1 AND order_uid = $2", merchant, order_uid
            )
        return _entry(row) if row else None

    async def intend(self, merchant: str, order_uid: str, *, name: str) -> ShipmentEntry:
        async with session(self._pool) as connection:
            row = await connection.fetchrow(_INTEND, merchant, order_uid, name)
            if row is not None:
                return _entry(row)
            gate = await pass_gate(connection, merchant, order_uid, GateState.OPEN)
            paid = await connection.fetchval(
                "SELECT captured FROM payments "
                "WHERE merchant = $1 AND order_uid = $2 AND state = 'Captured' AND currency = $3",
                merchant, order_uid, gate["currency"],
            )  # fmt: skip
            if paid != gate["total"]:
                raise Transient(
                    Reason.NOT_PAID, f"order {merchant}/{gate['name']} is not paid in full; no label"
                )
            stock = await connection.fetchval(
                "SELECT state FROM reservations WHERE merchant = $1 AND holder = $2", merchant, order_uid
            )
            if stock != "Pinned":
                raise Transient(
                    Reason.STOCK_NOT_PINNED,
                    f"stock of order {merchant}/{gate['name']} is {stock or 'not held'}",
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
        told = told_arguments(EventType.ORDER_SHIPPED, UUID(order_uid), _about(asdict(label)))
        async with session(self._pool) as connection:
            row = await connection.fetchrow(
                _LABEL,
                merchant, order_uid, now, next_poll_at, label.carrier, label.service, label.tracking_code,
                label.tracker_id, label.tracking_url, label.cost, label.currency, *told,
            )  # fmt: skip
            if row is not None:
                return _entry(row)
            await pass_gate(connection, merchant, order_uid, *_LIVE)
            return await _reread(connection, merchant, order_uid)

    async def refuse(self, merchant: str, order_uid: str, reason: str, message: str) -> ShipmentEntry:
        return await self._settle(merchant, order_uid, _LIVE, ShipmentState.REFUSED, reason, message)

    async def cancel(self, merchant: str, order_uid: str) -> ShipmentEntry:
        return await self._settle(merchant, order_uid, (GateState.COMPENSATING,), ShipmentState.CANCELLED)

    async def record_void(self, merchant: str, order_uid: str, void: VoidState) -> ShipmentEntry:
        async with transaction(self._pool) as connection:
            gate = await pass_gate(connection, merchant, order_uid, GateState.COMPENSATING)
            row = await connection.fetchrow(
                "UPDATE shipments SET state = 'Voided', void_state = $3, next_poll_at = NULL "
                "WHERE merchant = $1 AND order_uid = $2 AND state = 'Bought' RETURNING *",
                merchant, order_uid, void.value,
            )  # fmt: skip
            if row is not None:
                data = {"trackingCode": row["tracking_code"], "void": void.value}
                await tell(connection, gate, EventType.SHIPMENT_CANCELLED, data)
            return await _reread(connection, merchant, order_uid)

    async def record_tracking_status(
        self, merchant: str, order_uid: str, tracking_status: TrackingStatus
    ) -> ShipmentEntry:
        async with transaction(self._pool) as connection:
            gate = await pass_gate(connection, merchant, order_uid, *GateState)
            row = await connection.fetchrow(
                "SELECT * FROM shipments WHERE merchant = $1 AND order_uid = $2", merchant, order_uid
            )
            if row["state"] != "Bought" or _ORDER[tracking_status] <= _ORDER[row["tracking_status"]]:
                return _entry(row)
            is_over = tracking_status in (TrackingStatus.DELIVERED, TrackingStatus.RETURNED)
            await connection.execute(
                "UPDATE shipments SET tracking_status = $3, "
                "next_poll_at = CASE WHEN $4 THEN NULL ELSE next_poll_at END "
                "WHERE merchant = $1 AND order_uid = $2",
                merchant, order_uid, tracking_status.value, is_over,
            )  # fmt: skip
            if gate["state"] == GateState.COMPENSATING:
                # The parcel was faster than the wish to undo: goods that travel are goods that left.
                await _commit_what_left(connection, merchant, order_uid)
                if not row["is_shipped"]:
                    await _tell_shipped(connection, gate, row)
            is_delivered = tracking_status is TrackingStatus.DELIVERED
            if gate["state"] != GateState.SEALED or is_delivered:
                await seal_as(connection, gate, Outcome.DELIVERED if is_delivered else Outcome.SHIPPED)
            if is_delivered:
                data = {"trackingCode": row["tracking_code"]}
                await tell(connection, gate, EventType.ORDER_DELIVERED, data)
            return await _reread(connection, merchant, order_uid)

    async def claim_due_for_polling(self, now: datetime, limit: int, lease: float) -> Sequence[ShipmentRef]:
        async with session(self._pool) as connection:
            rows = await connection.fetch(
                "UPDATE shipments SET next_poll_at = $1::timestamptz + $3::interval, "
                "poll_count = poll_count + 1 "
                "WHERE (merchant, order_uid) IN (SELECT merchant, order_uid FROM shipments "
                "  WHERE next_poll_at <= $1 ORDER BY next_poll_at LIMIT $2 FOR UPDATE SKIP LOCKED) "
                "RETURNING *",
                now, limit, timedelta(seconds=lease),
            )  # fmt: skip
        return [_ref(row) for row in rows]

    async def schedule_polls(self, parcels: Sequence[ShipmentRef], at: Sequence[datetime]) -> None:
        async with session(self._pool) as connection:
            await connection.execute(
                "UPDATE shipments s SET next_poll_at = t.at "
                "FROM unnest($1::text[], $2::uuid[], $3::timestamptz[]) "
                "AS t (merchant, order_uid, at) "
                "WHERE s.merchant = t.merchant AND s.order_uid = t.order_uid AND s.next_poll_at IS NOT NULL",
                [parcel.merchant for parcel in parcels], [parcel.order_uid for parcel in parcels], list(at),
            )  # fmt: skip

    async def claim_pickup(self, now: datetime, limit: int, lease: float) -> PickupClaim | None:
        stale = now - timedelta(seconds=lease)
        async with transaction(self._pool) as connection:
            rows = await connection.fetch(
                "UPDATE shipments SET pickup_claimed_at = $1 WHERE pickup IS NULL AND pickup_batch = ("
                "  SELECT pickup_batch FROM shipments WHERE pickup IS NULL AND pickup_id IS NOT NULL "
                "  AND pickup_claimed_at < $2 LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING *",
                now, stale,
            ) or await connection.fetch(
                "UPDATE shipments SET pickup_batch = $4, pickup_claimed_at = $1 "
                "WHERE (merchant, order_uid) IN (SELECT merchant, order_uid FROM shipments "
                "  WHERE state = 'Bought' AND pickup IS NULL AND pickup_id IS NULL "
                "  AND tracking_status = 'PreTransit' "
                "  AND (pickup_claimed_at IS NULL OR pickup_claimed_at < $2) "
                "  LIMIT $3 FOR UPDATE SKIP LOCKED) RETURNING *",
                now, stale, limit, uuid4(),
            )  # fmt: skip
        if not rows:
            return None
        return PickupClaim(str(rows[0]["pickup_batch"]), [_ref(row) for row in rows], rows[0]["pickup_id"])

    async def record_pickup_created(self, batch: str, pickup_id: str) -> bool:
        async with session(self._pool) as connection:
            done = await connection.execute(
                "UPDATE shipments SET pickup_id = $2 WHERE pickup_batch = $1 AND pickup_id IS NULL",
                batch, pickup_id,
            )  # fmt: skip
        return bool(done != "UPDATE 0")

    async def record_pickup_booked(self, batch: str, confirmation: str) -> None:
        async with session(self._pool) as connection:
            await connection.execute(
                "UPDATE shipments SET pickup = $2 WHERE pickup_batch = $1", batch, confirmation
            )

    async def _settle(
        self,
        merchant: str,
        order_uid: str,
        admitted: tuple[GateState, ...],
        state: ShipmentState,
        reason: str | None = None,
        message: str | None = None,
    ) -> ShipmentEntry:
        async with transaction(self._pool) as connection:
            await pass_gate(connection, merchant, order_uid, *admitted)
            await connection.execute(
                "UPDATE shipments SET state = $3, reason = $4, message = $5 "
                "WHERE merchant = $1 AND order_uid = $2 AND state = 'Intended'",
                merchant, order_uid, state.value, reason, message,
            )  # fmt: skip
            return await _reread(connection, merchant, order_uid)


async def _tell_shipped(connection: Connection, gate: Any, row: Any) -> None:
    await connection.execute(
        "UPDATE shipments SET is_shipped = true WHERE merchant = $1 AND order_uid = $2",
        row["merchant"], row["order_uid"],
    )  # fmt: skip
    await tell(connection, gate, EventType.ORDER_SHIPPED, _about(row))


def _about(label: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "carrier": label["carrier"],
        "service": label["service"],
        "trackingCode": label["tracking_code"],
        "trackingUrl": label["tracking_url"],
    }


async def _commit_what_left(connection: Connection, merchant: str, order_uid: str) -> None:
    if await commit_lines(connection, merchant, order_uid):
        return
    # A recount has taken them off the shelf already: only the reservation's state is to be put right.
    await connection.execute(
        "UPDATE reservations SET state = 'Committed' WHERE merchant = $1 AND holder = $2 AND state = 'Lost'",
        merchant, order_uid,
    )  # fmt: skip


async def _reread(connection: Connection, merchant: str, order_uid: str) -> ShipmentEntry:
    row = await connection.fetchrow(
        "SELECT * FROM shipments WHERE merchant = $1 AND order_uid = $2", merchant, order_uid
    )
    if row is None:
        raise GateClosed(f"order {merchant}/{order_uid} has no shipment")
    return _entry(row)


def _entry(row: Any) -> ShipmentEntry:
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


def _ref(row: Any) -> ShipmentRef:
    return ShipmentRef(
        merchant=row["merchant"],
        order_uid=str(row["order_uid"]),
        name=row["name"],
        provider_id=row["provider_id"],
        tracking_code=row["tracking_code"],
        tracking_status=TrackingStatus(row["tracking_status"]),
        poll_count=row["poll_count"],
    )
