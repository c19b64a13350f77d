"""Refunds after the sale, in PostgreSQL."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid5

import orjson

from orderplane.events.types import EventType
from orderplane.ledgers.payments import PaymentEntry
from orderplane.ledgers.postgres.gate import OrderRow, append_order_event, lock_gate
from orderplane.ledgers.postgres.payments import find_payment, read_payment, refund_entry
from orderplane.ledgers.postgres.session import Connection, Pool, Row, session, transaction
from orderplane.ledgers.postgres.stock import read_lines
from orderplane.ledgers.refunds import Decision, NewRefund, RefundRequest, decide, is_return_settled
from orderplane.ledgers.states import GateState, TrackingStatus

_READ = """
SELECT q.name, q.reason AS wanted_for, q.amount AS wanted, q.lines, q.is_restocked, q.refusal, q.message,
    q.created_at, r.id, r.amount, r.state, r.provider_id, r.attempt, r.reason
FROM refund_requests q LEFT JOIN refunds r ON r.id = q.refund_id
WHERE q.merchant = $1 AND q.order_uid = $2 ORDER BY q.created_at, q.name
"""

_INSERT_REFUND = "INSERT INTO refunds (id, merchant, order_uid, amount) VALUES ($1, $2, $3, $4)"

_INSERT_REQUEST = """
INSERT INTO refund_requests
    (merchant, order_uid, name, reason, amount, lines, is_restocked, refund_id, refusal, message)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""

# Pieces that went out are on hand again. The reservation stays as it is: the order was sold.
_RESTOCK = """
WITH line AS MATERIALIZED (
    SELECT s.merchant, s.sku, s.on_hand, l.quantity
    FROM unnest($3::text[], $4::bigint[]) AS l (sku, quantity)
    JOIN stock s ON s.merchant = $1 AND s.sku = l.sku
    ORDER BY s.sku FOR UPDATE OF s
), moved AS (
    UPDATE stock s SET on_hand = line.on_hand + line.quantity
    FROM line WHERE s.merchant = line.merchant AND s.sku = line.sku
)
INSERT INTO stock_movements (merchant, sku, on_hand_delta, reserved_delta, kind, holder, note, actor)
SELECT merchant, sku, quantity, 0, 'Return', $2, $5, $6 FROM line
"""

_FIND_UNSETTLED = """
SELECT DISTINCT p.merchant, p.name FROM refunds r
JOIN payments p ON p.merchant = r.merchant AND p.order_uid = r.order_uid
JOIN orders o ON o.merchant = r.merchant AND o.uid = r.order_uid
WHERE r.state IN ('Requested', 'Pending', 'Failed') AND o.state = 'Sealed'
LIMIT $1
"""

_READ_TRACKING = "SELECT tracking_status FROM shipments WHERE merchant = $1 AND order_uid = $2"

# A parcel came back, and that is settled: nobody asks the carrier about it any more.
_END_RETURN = """
WITH ended AS (
    UPDATE orders o SET finished_at = now() FROM shipments s
    WHERE o.merchant = $1 AND o.uid = $2 AND o.outcome = 'Shipped' AND o.finished_at IS NULL
      AND s.merchant = o.merchant AND s.order_uid = o.uid AND s.tracking_status = 'Returned'
    RETURNING o.merchant, o.uid
)
UPDATE shipments s SET next_poll_at = NULL
FROM ended WHERE s.merchant = ended.merchant AND s.order_uid = ended.uid RETURNING s.tracking_code
"""

_READ_PAYMENT_NAME = "SELECT name FROM payments WHERE merchant = $1 AND order_uid = $2"

# The operator listens on this channel; the payload names the resource to reconcile.
_NOTIFY = "SELECT pg_notify('ledger', $1)"


class PostgresRefundLedger:
    """Implements `ledgers.refunds.RefundLedger`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def request(self, merchant: str, order_uid: str, new: NewRefund) -> RefundRequest:
        async with transaction(self._pool) as connection:
            return await request_refund(connection, merchant, order_uid, new)

    async def of_order(self, merchant: str, order_uid: str) -> tuple[RefundRequest, ...]:
        async with session(self._pool) as connection:
            return await _read(connection, merchant, order_uid)

    async def unsettled(self, limit: int) -> Sequence[tuple[str, str]]:
        async with session(self._pool) as connection:
            rows = await connection.fetch(_FIND_UNSETTLED, limit)
        return [(row["merchant"], row["name"]) for row in rows]


async def request_refund(
    connection: Connection, merchant: str, order_uid: str, new: NewRefund
) -> RefundRequest:
    """`RefundLedger.request` in the caller's transaction."""
    order = await lock_gate(connection, merchant, order_uid, GateState.SEALED)
    before = await _read(connection, merchant, order_uid)
    known = next((request for request in before if request.name == new.name), None)
    if known is not None:
        return known
    payment = await find_payment(connection, merchant, order_uid)
    ordered = await read_lines(connection, merchant, order_uid)
    decision = decide(new, order.outcome, payment, ordered, before)
    refund_id = None
    if decision.refusal is None:
        assert payment is not None, "else it is not admitted"
        refund_id = uuid5(order.uid, f"refund/{new.name}")
        await connection.execute(_INSERT_REFUND, refund_id, merchant, order_uid, decision.amount)
        await append_order_event(
            connection, order, EventType.REFUND_REQUESTED, _event_data(new, decision, payment, refund_id),
            effect=refund_id,
        )  # fmt: skip
        if new.is_restocked and decision.lines:
            note = f"refund {new.name}: {new.reason}"
            skus, quantities = list(decision.lines), list(decision.lines.values())
            await connection.execute(_RESTOCK, merchant, order_uid, skus, quantities, note, new.actor)
        await _notify(connection, order)
    await connection.execute(
        _INSERT_REQUEST,
        merchant, order_uid, new.name, new.reason, decision.amount, decision.lines, new.is_restocked,
        refund_id, decision.refusal, decision.message,
    )  # fmt: skip
    await end_settled_return(connection, order)
    return next(made for made in await _read(connection, merchant, order_uid) if made.name == new.name)


async def end_settled_return(connection: Connection, order: OrderRow) -> None:
    """End an order, whose row is locked, if its parcel came back and refunds have settled that."""
    tracking = await connection.fetchval(_READ_TRACKING, order.merchant, order.uid)
    if tracking != TrackingStatus.RETURNED:
        return
    requests = await _read(connection, order.merchant, order.uid)
    payment = await read_payment(connection, order.merchant, order.uid)
    ordered = await read_lines(connection, order.merchant, order.uid)
    if is_return_settled(TrackingStatus(tracking), payment, ordered, requests):
        await end_return(connection, order)


async def end_return(
    connection: Connection, order: OrderRow, *, by_hand: Mapping[str, str] | None = None
) -> str | None:
    """End an order, whose row is locked, as one whose parcel came back, once; returns the tracking code.

    Args:
        by_hand: Where a person settled it without a refund: `reference` and `actor`.
    """
    code: str | None = await connection.fetchval(_END_RETURN, order.merchant, order.uid)
    if code is not None:
        data = {"trackingCode": code, "settledByHand": by_hand is not None, **(by_hand or {})}
        await append_order_event(connection, order, EventType.ORDER_RETURNED, data)
    return code


async def _notify(connection: Connection, order: OrderRow) -> None:
    child = await connection.fetchval(_READ_PAYMENT_NAME, order.merchant, order.uid)
    notification = {"merchant": order.merchant, "child": child, "order": order.name}
    await connection.execute(_NOTIFY, orjson.dumps(notification).decode())


async def _read(connection: Connection, merchant: str, order_uid: str | UUID) -> tuple[RefundRequest, ...]:
    rows = await connection.fetch(_READ, merchant, order_uid)
    return tuple(_request(row) for row in rows)


def _event_data(
    new: NewRefund, decision: Decision, payment: PaymentEntry, refund_id: object
) -> dict[str, Any]:
    data = {
        "refundId": str(refund_id),
        "name": new.name,
        "reason": new.reason,
        "amount": decision.amount,
        "currency": payment.currency,
        "items": [{"sku": sku, "quantity": quantity} for sku, quantity in sorted(decision.lines.items())],
        "restocked": new.is_restocked,
    }
    return data if new.actor is None else data | {"actor": new.actor}


def _request(row: Row) -> RefundRequest:
    return RefundRequest(
        name=row["name"],
        reason=row["wanted_for"],
        amount=row["wanted"],
        lines=row["lines"],
        is_restocked=row["is_restocked"],
        refusal=row["refusal"],
        message=row["message"],
        refund=refund_entry(row) if row["id"] else None,
        created_at=row["created_at"],
    )
