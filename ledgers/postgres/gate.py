"""The gate in PostgreSQL, and the fence that every other ledger puts in front of its effects."""

from typing import Any
from uuid import UUID

from orderplane.crds.meta import TRACEPARENT_ANNOTATION
from orderplane.crds.order import Compensation, CompensationStep, Order
from orderplane.events.types import EventType
from orderplane.ledgers.errors import GateClosed
from orderplane.ledgers.gate import (
    Gate,
    GateState,
    Outcome,
    PaymentState,
    ReservationState,
    ShipmentState,
    TrackingStatus,
)
from orderplane.ledgers.postgres.history import insert_told, record, told_arguments
from orderplane.ledgers.postgres.session import Connection, Pool, session, transaction

_SELECT = """
SELECT o.*,
       r.state AS reservation, r.message AS reservation_message,
       p.state AS payment, p.reason AS payment_reason, p.message AS payment_message,
       s.state AS shipment, s.reason AS shipment_reason, s.message AS shipment_message,
       s.tracking_status, s.tracking_code, s.tracking_url, s.carrier
FROM orders o
LEFT JOIN reservations r ON r.merchant = o.merchant AND r.holder = o.uid
LEFT JOIN payments p ON p.merchant = o.merchant AND p.order_uid = o.uid
LEFT JOIN shipments s ON s.merchant = o.merchant AND s.order_uid = o.uid
"""
_READ = _SELECT + "WHERE o.merchant = $1 AND o.uid = $2"
_READ_UNSEALED = _SELECT + "WHERE o.state <> 'Sealed' "

_OPEN = f"""
WITH told AS (
    INSERT INTO orders (merchant, uid, name, traceparent, currency, total, seq)
    VALUES ($1, $2, $3, $4, $5, $6, 1) ON CONFLICT DO NOTHING RETURNING *
)
{insert_told(7)}
"""  # noqa: S608

_COMPENSATION = """
SELECT type, data, at FROM history
WHERE subject = $1 AND merchant = $2
  AND type IN ('inventory.released', 'payment.cancelled', 'payment.refunded', 'shipment.cancelled')
ORDER BY seq
"""


def gate_of(uid: str, *states: GateState) -> str:
    """The part of a statement that locks an order's row, `gate`, where it admits the effect.

    A statement that had to wait for the lock sees other rows as they were before. So it locks or changes
    every row that it decides by: PostgreSQL then looks at the newest version of each.

    Source: https://www.postgresql.org/docs/current/transaction-iso.html#XACT-READ-COMMITTED

    Args:
        uid: The argument with the order's uid; $1 is the merchant.
    """
    admitted = ", ".join(f"'{state}'" for state in states)
    return (
        f"gate AS (SELECT * FROM orders WHERE merchant = $1 AND uid = {uid} AND state IN ({admitted}) "  # noqa: S608
        "FOR UPDATE)"
    )


def told_of(effect: str) -> str:
    """The part of a statement that numbers an event, `told`, where the part `effect` has a row."""
    return (
        "told AS (UPDATE orders o SET seq = o.seq + 1 "  # noqa: S608
        f"FROM gate, {effect} WHERE o.merchant = gate.merchant AND o.uid = gate.uid RETURNING o.*)"
    )


async def pass_gate(connection: Connection, merchant: str, uid: str, *states: GateState) -> Any:
    """Lock the order's row until the transaction ends, and see that it admits the effect.

    Raises:
        GateClosed: the row is in another state, or there is none.
    """
    row = await connection.fetchrow(
        "SELECT * FROM orders WHERE merchant = $1 AND uid = $2 FOR UPDATE", merchant, uid
    )
    if row is None:
        raise GateClosed(f"order {merchant}/{uid} was never opened")
    if row["state"] not in states:
        raise GateClosed(f"order {merchant}/{row['name']} is {row['state']}, not {' or '.join(states)}")
    return row


async def tell(
    connection: Connection, row: Any, type_: EventType, data: dict[str, Any], *, effect: UUID | None = None
) -> None:
    """Record an event of an order whose row is locked here; `effect` is the order itself unless given."""
    await record(
        connection,
        type_=type_,
        effect=effect or row["uid"],
        merchant=row["merchant"],
        subject=row["uid"],
        name=row["name"],
        seq=None,
        data={
            "merchant": row["merchant"],
            "order": {"name": row["name"], "uid": str(row["uid"])},
            **data,
        },
        traceparent=row["traceparent"],
    )


async def seal_as(connection: Connection, row: Any, outcome: Outcome) -> None:
    """Nothing moves after this; `row` is locked by this transaction."""
    await connection.execute(
        "UPDATE orders SET state = 'Sealed', outcome = $3, "
        "sealed_at = coalesce(sealed_at, clock_timestamp()), "
        "finished_at = CASE WHEN $3 = 'Shipped' THEN NULL ELSE now() END "
        "WHERE merchant = $1 AND uid = $2",
        row["merchant"], row["uid"], outcome.value,
    )  # fmt: skip


class PostgresGateLedger:
    """Implements `ledgers.gate.GateLedger`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def read(self, merchant: str, uid: str) -> Gate | None:
        async with session(self._pool) as connection:
            row = await connection.fetchrow(_READ, merchant, uid)
        return _gate(row) if row else None

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
                *told_arguments(EventType.ORDER_CREATED, UUID(uid), data),
            )  # fmt: skip
        if is_new is not None:
            return Gate(merchant, uid, name, GateState.OPEN)
        gate = await self.read(merchant, uid)
        assert gate is not None
        return gate

    async def compensate(
        self, merchant: str, uid: str, *, reason: str, message: str, is_cancel: bool
    ) -> Gate:
        async with session(self._pool) as connection:
            await connection.execute(
                "UPDATE orders SET state = 'Compensating', reason = $3, message = $4, is_cancel = $5, "
                "compensating_at = now() WHERE merchant = $1 AND uid = $2 AND state = 'Open'",
                merchant, uid, reason, message, is_cancel,
            )  # fmt: skip
        gate = await self.read(merchant, uid)
        if gate is None:
            raise GateClosed(f"order {merchant}/{uid} was never opened")
        return gate

    async def seal(self, merchant: str, uid: str) -> Gate:
        async with transaction(self._pool) as connection:
            locked = await connection.fetchrow(
                "SELECT * FROM orders WHERE merchant = $1 AND uid = $2 FOR UPDATE", merchant, uid
            )
            gate = _gate(await connection.fetchrow(_READ, merchant, uid))
            if gate.state is not GateState.COMPENSATING or not gate.is_compensated:
                return gate
            outcome = Outcome.CANCELLED if gate.is_cancel else Outcome.FAILED
            type_ = EventType.ORDER_CANCELLED if gate.is_cancel else EventType.ORDER_FAILED
            await seal_as(connection, locked, outcome)
            await tell(connection, locked, type_, {"reason": gate.reason, "message": gate.message})
            return _gate(await connection.fetchrow(_READ, merchant, uid))

    async def unsealed(self, merchant: str, name: str) -> tuple[Gate, ...]:
        return await self._fetch(_READ_UNSEALED + "AND o.merchant = $1 AND o.name = $2", merchant, name)

    async def unsealed_page(self, after: tuple[str, str] | None, limit: int) -> tuple[Gate, ...]:
        merchant, uid = after or ("", "00000000-0000-0000-0000-000000000000")
        return await self._fetch(
            _READ_UNSEALED + "AND (o.merchant, o.uid) > ($1, $2::uuid) ORDER BY o.merchant, o.uid LIMIT $3",
            merchant, uid, limit,
        )  # fmt: skip

    async def _fetch(self, query: str, *arguments: object) -> tuple[Gate, ...]:
        async with session(self._pool) as connection:
            rows = await connection.fetch(query, *arguments)
        return tuple(_gate(row) for row in rows)

    async def compensation(self, merchant: str, uid: str) -> tuple[Compensation, ...]:
        async with session(self._pool) as connection:
            rows = await connection.fetch(_COMPENSATION, UUID(uid), merchant)
        return tuple(_compensation(row) for row in rows)


def _compensation(row: Any) -> Compensation:
    data = row["data"]
    match row["type"]:
        case "inventory.released":
            return Compensation(
                step=CompensationStep.RELEASE_STOCK, reference=data["reservation"]["name"], at=row["at"]
            )
        case "payment.cancelled":
            return Compensation(
                step=CompensationStep.CANCEL_PAYMENT, reference=data["intentId"] or "none", at=row["at"]
            )
        case "payment.refunded":
            return Compensation(
                step=CompensationStep.REFUND_PAYMENT,
                reference=data["providerId"] or data["refundId"],
                at=row["at"],
            )
        case _:
            return Compensation(
                step=CompensationStep.CANCEL_SHIPMENT, reference=data["trackingCode"], at=row["at"]
            )


def _gate(row: Any) -> Gate:
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
        tracking_status=TrackingStatus(row["tracking_status"] or "PreTransit"),
        tracking_code=row["tracking_code"],
        tracking_url=row["tracking_url"],
        carrier=row["carrier"],
        finished_at=row["finished_at"],
    )
