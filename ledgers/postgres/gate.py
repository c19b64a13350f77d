"""The order gate in PostgreSQL: every effect of an order locks its row first.

All statements run in READ COMMITTED. A statement that had to wait for a row lock goes on with the newest
version of that row, but sees every other row as it was when the statement began. So a statement that decides
by a row also locks or updates it: PostgreSQL then re-evaluates its conditions on the newest version.

Source: https://www.postgresql.org/docs/current/transaction-iso.html#XACT-READ-COMMITTED
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from orderplane.crds.meta import TRACEPARENT_ANNOTATION
from orderplane.crds.order import Compensation, CompensationStep, Order
from orderplane.events.types import EventType
from orderplane.ledgers.errors import GateClosed
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.postgres.history import append_event, event_arguments
from orderplane.ledgers.postgres.session import Connection, Pool, Row, session, transaction
from orderplane.ledgers.states import (
    GOODS_LEFT,
    GateState,
    Outcome,
    PaymentState,
    ReservationState,
    ShipmentState,
    TrackingStatus,
)

_LOCK = """
SELECT merchant, uid, name, state, outcome, currency, total, traceparent, finished_at FROM orders
WHERE merchant = $1 AND uid = $2 FOR UPDATE
"""

_READ = "SELECT * FROM order_gates WHERE merchant = $1 AND uid = $2"

_READ_UNSEALED = "SELECT * FROM order_gates WHERE state <> 'Sealed' AND merchant = $1 AND name = $2"

_READ_UNSEALED_PAGE = """
SELECT * FROM order_gates WHERE state <> 'Sealed' AND (merchant, uid) > ($1, $2::uuid)
  AND (state <> 'Open' OR archived_version IS NULL)
ORDER BY merchant, uid LIMIT $3
"""

# An order is opened once, with its total; `order.created` is its event number 1.
_OPEN = """
WITH opened AS (
    INSERT INTO orders (merchant, uid, name, traceparent, currency, total, seq, is_archive_due)
    VALUES ($1, $2, $3, $4, $5, $6, 1, true) ON CONFLICT DO NOTHING RETURNING *
)
INSERT INTO history (event_id, merchant, subject, name, type, data, traceparent, partition, seq)
SELECT $7::uuid, merchant, uid, name, $8::text,
    jsonb_build_object('merchant', merchant, 'order', jsonb_build_object('name', name, 'uid', uid))
        || $9::jsonb,
    traceparent, $10::smallint, seq
FROM opened RETURNING seq
"""

# The first reason for the compensation stays. A trigger keeps an order that has left, unless somebody asked.
_COMPENSATE = """
UPDATE orders
SET state = 'Compensating', reason = $3, message = $4, is_cancel = $5, actor = $6, compensating_at = now()
WHERE merchant = $1 AND uid = $2 AND state = 'Open'
"""

_RECORD_RETRY = """
INSERT INTO retries (id, merchant, order_uid, request, actor) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING RETURNING true
"""

_READ_ACTOR = "SELECT actor FROM orders WHERE merchant = $1 AND uid = $2"

# Nothing moves after the seal. An order that is shipped is finished only when it is delivered.
_SEAL = """
UPDATE orders
SET state = 'Sealed', outcome = $3, sealed_at = coalesce(sealed_at, clock_timestamp()),
    finished_at = CASE WHEN $3 = 'Shipped' THEN NULL ELSE now() END
WHERE merchant = $1 AND uid = $2
"""

_NOTHING_TO_ARCHIVE = "UPDATE orders SET is_archive_due = false WHERE merchant = $1 AND uid = $2"

# A refund after the sale is no compensation.
_READ_COMPENSATION = """
SELECT type, data, at FROM history
WHERE subject = $1 AND merchant = $2
  AND type IN ('inventory.released', 'payment.cancelled', 'payment.refunded', 'shipment.cancelled')
  AND NOT (type = 'payment.refunded' AND EXISTS (
      SELECT FROM orders WHERE merchant = $2 AND uid = $1 AND outcome IN ('Shipped', 'Delivered')
  ))
ORDER BY seq
"""


class OrderRow(NamedTuple):
    """The row of an order, which the current transaction has locked."""

    merchant: str
    uid: UUID
    name: str
    state: GateState
    outcome: Outcome | None
    currency: str
    total: int
    traceparent: str | None
    finished_at: datetime | None

    @property
    def is_returned(self) -> bool:
        """As of a `Gate`."""
        return self.outcome is Outcome.SHIPPED and self.finished_at is not None


async def find_and_lock(connection: Connection, merchant: str, uid: str | UUID) -> OrderRow | None:
    """Lock the row of an order until the transaction ends; None where the order was never opened."""
    row = await connection.fetchrow(_LOCK, merchant, uid)
    return order_row(row) if row else None


async def lock_gate(connection: Connection, merchant: str, uid: str | UUID, *states: GateState) -> OrderRow:
    """Lock the row of an order until the transaction ends.

    Args:
        states: Those that admit the effect.

    Raises:
        GateClosed: the row is in another state, or there is none.
    """
    row = await find_and_lock(connection, merchant, uid)
    if row is None:
        raise GateClosed(f"order {merchant}/{uid} was never opened")
    if row.state not in states:
        raise GateClosed(f"order {merchant}/{row.name} is {row.state}, not {' or '.join(states)}")
    return row


async def lock_for_refund(connection: Connection, merchant: str, uid: str | UUID) -> OrderRow:
    """Lock the row of an order whose money may go back: it is being compensated, or its goods have left.

    Raises:
        GateClosed: neither is so.
    """
    order = await lock_gate(connection, merchant, uid, GateState.COMPENSATING, GateState.SEALED)
    if order.state is GateState.SEALED and order.outcome not in GOODS_LEFT:
        raise GateClosed(f"order {merchant}/{order.name} is {order.outcome}")
    return order


async def append_order_event(
    connection: Connection,
    order: OrderRow,
    type_: EventType,
    data: Mapping[str, Any],
    *,
    effect: UUID | None = None,
) -> None:
    """Append an event of an order whose row is locked; `effect` is the order itself unless given."""
    await append_event(
        connection,
        type_=type_,
        effect=effect or order.uid,
        merchant=order.merchant,
        subject=order.uid,
        name=order.name,
        seq=None,
        data={
            "merchant": order.merchant,
            "order": {"name": order.name, "uid": str(order.uid)},
            **data,
        },
        traceparent=order.traceparent,
    )


async def seal_as(connection: Connection, order: OrderRow, outcome: Outcome) -> None:
    """End an order whose row is locked."""
    await connection.execute(_SEAL, order.merchant, order.uid, outcome.value)


class PostgresGateLedger:
    """Implements `ledgers.gate.GateLedger`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def read(self, merchant: str, uid: str) -> Gate | None:
        async with session(self._pool) as connection:
            return await read_gate(connection, merchant, uid)

    async def open(self, order: Order) -> Gate:
        merchant, uid, name = order.metadata.namespace, order.metadata.uid, order.metadata.name
        quote = order.spec.quote
        data = {
            "customer": order.spec.customer,
            "items": [item.model_dump(mode="json") for item in order.spec.items],
            "total": quote.amounts.total,
            "currency": quote.currency,
        }
        async with session(self._pool) as connection:
            is_new = await connection.fetchrow(
                _OPEN,
                merchant, uid, name, order.metadata.annotations.get(TRACEPARENT_ANNOTATION),
                quote.currency, quote.amounts.total,
                *event_arguments(EventType.ORDER_CREATED, UUID(uid), data),
            )  # fmt: skip
            if is_new is not None:
                return Gate(merchant, uid, name, GateState.OPEN, seq=1)
            return await _reread(connection, merchant, uid)

    async def compensate(
        self,
        merchant: str,
        uid: str,
        *,
        reason: str,
        message: str,
        is_cancel: bool,
        actor: str | None = None,
    ) -> Gate:
        async with session(self._pool) as connection:
            return await compensate(
                connection, merchant, uid, reason=reason, message=message, is_cancel=is_cancel, actor=actor
            )

    async def record_retry(self, merchant: str, uid: str, *, request: str, actor: str | None) -> None:
        async with transaction(self._pool) as connection:
            order = await lock_gate(connection, merchant, uid, *GateState)
            id_ = uuid5(order.uid, f"retry/{request}")
            if order.state is not GateState.SEALED and await connection.fetchval(
                _RECORD_RETRY, id_, merchant, order.uid, request, actor
            ):
                data = {"actor": actor} if actor else {}
                await append_order_event(connection, order, EventType.ORDER_RETRIED, data, effect=id_)

    async def seal(self, merchant: str, uid: str, *, is_vanished: bool = False) -> Gate:
        async with transaction(self._pool) as connection:
            order = await lock_gate(connection, merchant, uid, *GateState)
            gate = await _reread(connection, merchant, uid)
            if gate.state is not GateState.COMPENSATING or not gate.is_compensated:
                return gate
            outcome = Outcome.CANCELLED if gate.is_cancel else Outcome.FAILED
            type_ = EventType.ORDER_CANCELLED if gate.is_cancel else EventType.ORDER_FAILED
            data = {"reason": gate.reason, "message": gate.message}
            if gate.is_cancel and (actor := await connection.fetchval(_READ_ACTOR, merchant, uid)):
                data["actor"] = actor
            await seal_as(connection, order, outcome)
            await append_order_event(connection, order, type_, data)
            if is_vanished:
                await connection.execute(_NOTHING_TO_ARCHIVE, merchant, uid)
            return await _reread(connection, merchant, uid)

    async def unsealed(self, merchant: str, name: str) -> tuple[Gate, ...]:
        async with session(self._pool) as connection:
            rows = await connection.fetch(_READ_UNSEALED, merchant, name)
        return tuple(_gate(row) for row in rows)

    async def unsealed_page(self, after: tuple[str, str] | None, limit: int) -> tuple[Gate, ...]:
        merchant, uid = after or ("", str(UUID(int=0)))
        async with session(self._pool) as connection:
            rows = await connection.fetch(_READ_UNSEALED_PAGE, merchant, uid, limit)
        return tuple(_gate(row) for row in rows)

    async def compensation(self, merchant: str, uid: str) -> tuple[Compensation, ...]:
        async with session(self._pool) as connection:
            rows = await connection.fetch(_READ_COMPENSATION, UUID(uid), merchant)
        return tuple(_compensation(row) for row in rows)


async def compensate(
    connection: Connection,
    merchant: str,
    uid: str,
    *,
    reason: str,
    message: str,
    is_cancel: bool,
    actor: str | None,
) -> Gate:
    """As `GateLedger.compensate`."""
    await connection.execute(_COMPENSATE, merchant, uid, reason, message, is_cancel, actor)
    return await _reread(connection, merchant, uid)


async def read_gate(connection: Connection, merchant: str, uid: str) -> Gate | None:
    """The row with its three ledgers; None where the order was never opened."""
    row = await connection.fetchrow(_READ, merchant, uid)
    return _gate(row) if row else None


async def _reread(connection: Connection, merchant: str, uid: str) -> Gate:
    gate = await read_gate(connection, merchant, uid)
    if gate is None:
        raise GateClosed(f"order {merchant}/{uid} was never opened")
    return gate


def order_row(row: Row) -> OrderRow:
    """Of a row of `orders`, what effects need to know."""
    return OrderRow(
        row["merchant"], row["uid"], row["name"], GateState(row["state"]),
        Outcome(row["outcome"]) if row["outcome"] else None, row["currency"], row["total"],
        row["traceparent"], row["finished_at"],
    )  # fmt: skip


def _compensation(row: Row) -> Compensation:
    data = row["data"]
    match row["type"]:
        case EventType.INVENTORY_RELEASED:
            step, reference = CompensationStep.RELEASE_STOCK, data["reservation"]["name"]
        case EventType.PAYMENT_CANCELLED:
            step, reference = CompensationStep.CANCEL_PAYMENT, data["intentId"] or "none"
        case EventType.PAYMENT_REFUNDED:
            step = CompensationStep.REFUND_PAYMENT
            reference = data.get("reference") or data["providerId"] or data["refundId"]
        case _:
            step, reference = CompensationStep.CANCEL_SHIPMENT, data["trackingCode"]
    return Compensation(step=step, reference=reference, at=row["at"])


def _gate(row: Row) -> Gate:
    return Gate(
        merchant=row["merchant"],
        uid=str(row["uid"]),
        name=row["name"],
        state=GateState(row["state"]),
        outcome=Outcome(row["outcome"]) if row["outcome"] else None,
        reason=row["reason"],
        message=row["message"],
        is_cancel=row["is_cancel"],
        reservation=ReservationState(row["reservation"]) if row["reservation"] else None,
        reservation_message=row["reservation_message"],
        payment=PaymentState(row["payment"]) if row["payment"] else None,
        payment_reason=row["payment_reason"],
        payment_message=row["payment_message"],
        shipment=ShipmentState(row["shipment"]) if row["shipment"] else None,
        shipment_reason=row["shipment_reason"],
        shipment_message=row["shipment_message"],
        tracking_status=TrackingStatus(row["tracking_status"] or TrackingStatus.PRE_TRANSIT),
        tracking_code=row["tracking_code"],
        tracking_url=row["tracking_url"],
        carrier=row["carrier"],
        finished_at=row["finished_at"],
        seq=row["seq"],
        archived_version=row["archived_version"],
    )
