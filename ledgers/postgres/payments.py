"""The payment ledger in PostgreSQL."""

from typing import Any
from uuid import UUID, uuid5

from orderplane.crds.reasons import Reason
from orderplane.events.types import EventType
from orderplane.ledgers.errors import GateClosed, Refused, Transient
from orderplane.ledgers.gate import GateState, PaymentState, ShipmentState
from orderplane.ledgers.payments import PaymentEntry, ProviderRefundState, RefundEntry, RefundState
from orderplane.ledgers.postgres.gate import gate_of, pass_gate, tell, told_of
from orderplane.ledgers.postgres.history import insert_told, told_arguments
from orderplane.ledgers.postgres.session import Connection, Pool, session, transaction

_LIVE = (GateState.OPEN, GateState.COMPENSATING)

_INTEND = f"""
WITH {gate_of("$2", GateState.OPEN)}, pinned AS (
    UPDATE reservations r SET state = 'Pinned' FROM gate
    WHERE gate.total = $4 AND gate.currency = $5
      AND r.merchant = gate.merchant AND r.holder = gate.uid AND r.state IN ('Held', 'Pinned')
    RETURNING r.merchant, r.holder
)
INSERT INTO payments (merchant, order_uid, name, amount, currency, method)
SELECT merchant, holder, $3, $4, $5, $6 FROM pinned ON CONFLICT DO NOTHING RETURNING *
"""  # noqa: S608

_BEGIN_CONFIRM = f"""
WITH {gate_of("$2", GateState.OPEN)}
UPDATE payments p SET intent_id = $3, confirm_attempt = $4 FROM gate
WHERE p.merchant = gate.merchant AND p.order_uid = gate.uid AND p.state = 'Intended'
  AND coalesce(p.intent_id, $3) = $3 AND p.confirm_attempt < $4
RETURNING p.*
"""  # noqa: S608

_PAID = "(SELECT jsonb_build_object('intentId', intent_id, 'currency', currency) FROM paid)"
_CAPTURE = f"""
WITH {gate_of("$2", *_LIVE)}, paid AS (
    UPDATE payments p SET state = 'Captured', captured = $3 FROM gate
    WHERE p.merchant = gate.merchant AND p.order_uid = gate.uid AND p.state IN ('Intended', 'Declined')
    RETURNING p.*
), {told_of("paid")}, written AS ({insert_told(4, _PAID)})
SELECT paid.* FROM paid, (SELECT count(*) FROM written) AS written
"""  # noqa: S608


class PostgresPaymentLedger:
    """Implements `controllers.payment.ledger.PaymentLedger`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def uid_of(self, merchant: str, name: str) -> str | None:
        async with session(self._pool) as connection:
            uid = await connection.fetchval(
                "SELECT order_uid FROM payments WHERE merchant = $1 AND name = $2 "
                "ORDER BY created_at DESC LIMIT 1",
                merchant, name,
            )  # fmt: skip
        return str(uid) if uid else None

    async def read(self, merchant: str, order_uid: str) -> PaymentEntry | None:
        async with session(self._pool) as connection:
            return await _read(connection, merchant, order_uid)

    async def intend(
        self, merchant: str, order_uid: str, *, name: str, amount: int, currency: str, method: str
    ) -> PaymentEntry:
        async with session(self._pool) as connection:
            row = await connection.fetchrow(_INTEND, merchant, order_uid, name, amount, currency, method)
            if row is not None:
                return _entry(row, [])
            gate = await pass_gate(connection, merchant, order_uid, GateState.OPEN)
            if (amount, currency) != (gate["total"], gate["currency"]):
                raise Refused(
                    Reason.AMOUNT_MISMATCH,
                    f"Payment {merchant}/{name} asks for another amount than its order's total; "
                    "nothing was charged.",
                )
            stock = await connection.fetchval(
                "SELECT state FROM reservations WHERE merchant = $1 AND holder = $2", merchant, order_uid
            )
            if stock not in ("Held", "Pinned"):
                raise Transient(
                    Reason.STOCK_NOT_HELD, f"no stock is held for order {merchant}/{gate['name']}"
                )
            return await _reread(connection, merchant, order_uid)

    async def next_create_attempt(self, merchant: str, order_uid: str, attempt: int) -> PaymentEntry:
        async with transaction(self._pool) as connection:
            await pass_gate(connection, merchant, order_uid, GateState.OPEN)
            await connection.execute(
                "UPDATE payments SET create_attempt = $3 + 1 "
                "WHERE merchant = $1 AND order_uid = $2 AND create_attempt = $3 AND intent_id IS NULL",
                merchant, order_uid, attempt,
            )  # fmt: skip
            return await _reread(connection, merchant, order_uid)

    async def begin_confirm(
        self, merchant: str, order_uid: str, intent_id: str, attempt: int
    ) -> PaymentEntry:
        async with session(self._pool) as connection:
            row = await connection.fetchrow(_BEGIN_CONFIRM, merchant, order_uid, intent_id, attempt)
            if row is None:
                raise GateClosed(
                    f"confirm {attempt} of order {merchant}/{order_uid} is not admitted any more"
                )
            return _entry(row, [])

    async def record_intent(self, merchant: str, order_uid: str, intent_id: str) -> PaymentEntry:
        async with transaction(self._pool) as connection:
            await pass_gate(connection, merchant, order_uid, *_LIVE)
            await connection.execute(
                "UPDATE payments SET intent_id = $3 "
                "WHERE merchant = $1 AND order_uid = $2 AND state = 'Intended' AND intent_id IS NULL",
                merchant, order_uid, intent_id,
            )  # fmt: skip
            return await _reread(connection, merchant, order_uid)

    async def capture(self, merchant: str, order_uid: str, received: int) -> PaymentEntry:
        told = told_arguments(EventType.PAYMENT_SUCCESS, UUID(order_uid), {"amount": received})
        async with session(self._pool) as connection:
            row = await connection.fetchrow(_CAPTURE, merchant, order_uid, received, *told)
            if row is not None:
                return _entry(row, [])
            await pass_gate(connection, merchant, order_uid, *_LIVE)
            return await _reread(connection, merchant, order_uid)

    async def decline(self, merchant: str, order_uid: str, reason: str, message: str) -> PaymentEntry:
        async with transaction(self._pool) as connection:
            gate = await pass_gate(connection, merchant, order_uid, *_LIVE)
            row = await connection.fetchrow(
                "UPDATE payments SET state = 'Declined', reason = $3, message = $4 "
                "WHERE merchant = $1 AND order_uid = $2 AND state = 'Intended' RETURNING *",
                merchant, order_uid, reason, message,
            )  # fmt: skip
            if row is not None:
                await tell(connection, gate, EventType.PAYMENT_FAILED, {"reason": reason, "message": message})
            return await _reread(connection, merchant, order_uid)

    async def cancel(self, merchant: str, order_uid: str) -> PaymentEntry:
        async with transaction(self._pool) as connection:
            gate = await pass_gate(connection, merchant, order_uid, GateState.COMPENSATING)
            row = await connection.fetchrow(
                "UPDATE payments SET state = 'Cancelled' "
                "WHERE merchant = $1 AND order_uid = $2 AND state IN ('Intended', 'Declined') RETURNING *",
                merchant, order_uid,
            )  # fmt: skip
            if row is not None:
                await tell(connection, gate, EventType.PAYMENT_CANCELLED, {"intentId": row["intent_id"]})
            return await _reread(connection, merchant, order_uid)

    async def request_refund(self, merchant: str, order_uid: str) -> PaymentEntry:
        async with transaction(self._pool) as connection:
            gate = await pass_gate(connection, merchant, order_uid, GateState.COMPENSATING)
            parcel = await connection.fetchval(
                "SELECT state FROM shipments WHERE merchant = $1 AND order_uid = $2", merchant, order_uid
            )
            if parcel in (ShipmentState.INTENDED, ShipmentState.BOUGHT):
                raise GateClosed(f"order {merchant}/{gate['name']} has a shipment that is {parcel}")
            entry = await _reread(connection, merchant, order_uid)
            if entry.state is not PaymentState.CAPTURED or entry.refunds:
                return entry
            if entry.captured == 0:
                await connection.execute(
                    "UPDATE payments SET state = 'Refunded' WHERE merchant = $1 AND order_uid = $2",
                    merchant, order_uid,
                )  # fmt: skip
            else:
                await connection.execute(
                    "INSERT INTO refunds (id, merchant, order_uid, amount) VALUES ($1, $2, $3, $4)",
                    uuid5(UUID(order_uid), "refund/1"), merchant, order_uid, entry.captured,
                )  # fmt: skip
            return await _reread(connection, merchant, order_uid)

    async def record_refund(
        self,
        merchant: str,
        order_uid: str,
        refund_id: str,
        *,
        provider_id: str,
        state: ProviderRefundState,
        reason: str | None,
    ) -> PaymentEntry:
        async with transaction(self._pool) as connection:
            gate = await pass_gate(connection, merchant, order_uid, GateState.COMPENSATING)
            row = await connection.fetchrow(
                "UPDATE refunds SET state = $3, provider_id = $4, reason = $5 "
                "WHERE merchant = $1 AND id = $2 AND state IN ('Requested', 'Pending', 'Failed') RETURNING *",
                merchant, refund_id, state.value, provider_id, reason,
            )  # fmt: skip
            if row is not None and state is ProviderRefundState.SUCCEEDED:
                await finish_refund(connection, gate, row, is_by_hand=False)
            return await _reread(connection, merchant, order_uid)

    async def next_refund_attempt(self, merchant: str, order_uid: str, refund_id: str) -> PaymentEntry:
        async with transaction(self._pool) as connection:
            await pass_gate(connection, merchant, order_uid, GateState.COMPENSATING)
            await connection.execute(
                "UPDATE refunds SET attempt = attempt + 1, state = 'Requested', provider_id = NULL "
                "WHERE merchant = $1 AND id = $2 AND state IN ('Requested', 'Failed')",
                merchant, refund_id,
            )  # fmt: skip
            return await _reread(connection, merchant, order_uid)


async def finish_refund(connection: Connection, gate: Any, refund: Any, *, is_by_hand: bool) -> None:
    """The money is back: note it and tell `payment.refunded`; the gate row is locked by this transaction."""
    currency = await connection.fetchval(
        "UPDATE payments SET state = 'Refunded' WHERE merchant = $1 AND order_uid = $2 RETURNING currency",
        refund["merchant"], refund["order_uid"],
    )  # fmt: skip
    data = {
        "refundId": str(refund["id"]),
        "providerId": refund["provider_id"],
        "amount": refund["amount"],
        "currency": currency,
        "settledByHand": is_by_hand,
    }
    await tell(connection, gate, EventType.PAYMENT_REFUNDED, data, effect=refund["id"])


async def _read(connection: Connection, merchant: str, order_uid: str) -> PaymentEntry | None:
    row = await connection.fetchrow(
        "SELECT * FROM payments WHERE merchant = $1 AND order_uid = $2", merchant, order_uid
    )
    return await _with_refunds(connection, row) if row is not None else None


async def _with_refunds(connection: Connection, row: Any) -> PaymentEntry:
    # Only what was captured can have refunds: most reads are spared the second query.
    refunds = (
        await connection.fetch(
            "SELECT * FROM refunds WHERE merchant = $1 AND order_uid = $2 ORDER BY created_at, id",
            row["merchant"], row["order_uid"],
        )
        if row["state"] in ("Captured", "Refunded")
        else []
    )  # fmt: skip
    return _entry(row, refunds)


def _entry(row: Any, refunds: list[Any]) -> PaymentEntry:
    return PaymentEntry(
        order_uid=str(row["order_uid"]),
        amount=row["amount"],
        currency=row["currency"],
        method=row["method"],
        state=PaymentState(row["state"]),
        intent_id=row["intent_id"],
        create_attempt=row["create_attempt"],
        confirm_attempt=row["confirm_attempt"],
        captured=row["captured"],
        reason=row["reason"],
        message=row["message"],
        refunds=tuple(
            RefundEntry(
                id=str(refund["id"]),
                amount=refund["amount"],
                state=RefundState(refund["state"]),
                provider_id=refund["provider_id"],
                attempt=refund["attempt"],
                reason=refund["reason"],
            )
            for refund in refunds
        ),
    )


async def _reread(connection: Connection, merchant: str, order_uid: str) -> PaymentEntry:
    entry = await _read(connection, merchant, order_uid)
    if entry is None:
        raise GateClosed(f"order {merchant}/{order_uid} has no payment")
    return entry
