"""The payment ledger in PostgreSQL."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

from orderplane.crds.reasons import Reason
from orderplane.events.types import EventType
from orderplane.ledgers.errors import GateClosed, Refused, Transient
from orderplane.ledgers.payments import (
    PaymentEntry,
    ProviderRefundState,
    RefundEntry,
    Withdrawal,
    amounts_after,
    new_withdrawals,
)
from orderplane.ledgers.postgres.gate import OrderRow, append_order_event, lock_for_refund, lock_gate
from orderplane.ledgers.postgres.history import event_arguments
from orderplane.ledgers.postgres.session import Connection, Pool, Row, session, transaction
from orderplane.ledgers.postgres.stock import refuse_while_label_possible
from orderplane.ledgers.postgres.withdrawals import read_withdrawals, record_withdrawal
from orderplane.ledgers.states import EVER_CAPTURED, RESERVING, GateState, PaymentState, RefundState

_FIND_ORDER = """
SELECT order_uid FROM payments WHERE merchant = $1 AND name = $2 ORDER BY created_at DESC LIMIT 1
"""

_READ = """
SELECT p.*, clock_timestamp() - p.confirm_begun_at AS confirm_age
FROM payments p WHERE p.merchant = $1 AND p.order_uid = $2
"""

_READ_REFUNDS = "SELECT * FROM refunds WHERE merchant = $1 AND order_uid = $2 ORDER BY created_at, id"

_READ_RESERVATION_STATE = "SELECT state FROM reservations WHERE merchant = $1 AND holder = $2"

# A payment is begun for exactly the order's total, and only while its stock is held. Then the stock is
# pinned, so that it cannot expire under the customer who is paying.
_INTEND = """
WITH gate AS (
    SELECT * FROM orders WHERE merchant = $1 AND uid = $2 AND state = 'Open' FOR UPDATE
), pinned AS (
    UPDATE reservations r SET state = 'Pinned' FROM gate
    WHERE gate.total = $4 AND gate.currency = $5
      AND r.merchant = gate.merchant AND r.holder = gate.uid AND r.state IN ('Held', 'Pinned')
    RETURNING r.merchant, r.holder
)
INSERT INTO payments (merchant, order_uid, name, amount, currency, method)
SELECT merchant, holder, $3, $4, $5, $6 FROM pinned ON CONFLICT DO NOTHING
RETURNING *, NULL::interval AS confirm_age
"""

_NEXT_CREATE_ATTEMPT = """
UPDATE payments SET create_attempt = $3 + 1
WHERE merchant = $1 AND order_uid = $2 AND create_attempt = $3 AND intent_id IS NULL
"""

# Money may be taken from here on: a confirm is written down before it is sent, for one intent, each attempt
# once.
_BEGIN_CONFIRM = """
WITH gate AS (
    SELECT * FROM orders WHERE merchant = $1 AND uid = $2 AND state = 'Open' FOR UPDATE
)
UPDATE payments p
SET intent_id = $3, confirm_attempt = $4, confirm_begun_by = $5, confirm_begun_at = clock_timestamp()
FROM gate
WHERE p.merchant = gate.merchant AND p.order_uid = gate.uid AND p.state = 'Intended'
  AND coalesce(p.intent_id, $3) = $3 AND p.confirm_attempt < $4
RETURNING p.*, interval '0' AS confirm_age
"""

_RECORD_INTENT = """
UPDATE payments SET intent_id = $3
WHERE merchant = $1 AND order_uid = $2 AND state = 'Intended' AND intent_id IS NULL
"""

# Money that was taken is recorded whether the order is open or compensating, also after a decline: the
# provider does not ask the gate.
_CAPTURE = """
WITH gate AS (
    SELECT * FROM orders WHERE merchant = $1 AND uid = $2 AND state IN ('Open', 'Compensating') FOR UPDATE
), captured AS (
    UPDATE payments p SET state = 'Captured', captured = $3 FROM gate
    WHERE p.merchant = gate.merchant AND p.order_uid = gate.uid AND p.state IN ('Intended', 'Declined')
    RETURNING p.*, clock_timestamp() - p.confirm_begun_at AS confirm_age
), numbered AS (
    UPDATE orders o SET seq = o.seq + 1 FROM gate, captured
    WHERE o.merchant = gate.merchant AND o.uid = gate.uid RETURNING o.*
), event AS (
    INSERT INTO history (event_id, merchant, subject, name, type, data, traceparent, partition, seq)
    SELECT $4::uuid, numbered.merchant, uid, numbered.name, $5::text,
        jsonb_build_object('merchant', numbered.merchant, 'order',
            jsonb_build_object('name', numbered.name, 'uid', uid))
            || $6::jsonb || jsonb_build_object('intentId', captured.intent_id, 'currency', captured.currency),
        traceparent, $7::smallint, seq
    FROM numbered, captured RETURNING seq
)
SELECT captured.* FROM captured, (SELECT count(*) FROM event) AS event
"""

_DECLINE = """
UPDATE payments SET state = 'Declined', reason = $3, message = $4
WHERE merchant = $1 AND order_uid = $2 AND state = 'Intended' RETURNING true
"""

# Only a payment that took no money can be cancelled.
_CANCEL = """
UPDATE payments SET state = 'Cancelled'
WHERE merchant = $1 AND order_uid = $2 AND state IN ('Intended', 'Declined')
  AND intent_id IS NOT DISTINCT FROM $3
RETURNING intent_id
"""

# A refund gives back all that was captured.
_REQUEST_REFUND = "INSERT INTO refunds (id, merchant, order_uid, amount) VALUES ($1, $2, $3, $4)"

# The failure of an attempt that another operator has given up since is nothing new.
_RECORD_REFUND = """
UPDATE refunds SET state = $3, provider_id = $4, reason = $5
WHERE merchant = $1 AND id = $2 AND state IN ('Requested', 'Pending', 'Failed')
  AND ($3 <> 'Failed' OR attempt = $6)
RETURNING *
"""

_NEXT_REFUND_ATTEMPT = """
UPDATE refunds SET attempt = attempt + 1, state = 'Requested', provider_id = NULL
WHERE merchant = $1 AND id = $2 AND attempt = $3 AND state IN ('Requested', 'Failed')
"""

# Another amount needs another idempotency key.
_REFUND_WHAT_IS_LEFT = """
UPDATE refunds SET amount = $3, attempt = attempt + 1
WHERE merchant = $1 AND id = $2 AND state IN ('Requested', 'Failed') AND amount <> $3
"""

_NEED_NO_REFUND = """
UPDATE refunds SET state = 'NotNeeded' WHERE merchant = $1 AND id = $2 AND state IN ('Requested', 'Failed')
"""

# A payment is refunded once all of its money is back with the customer.
_SET_REFUNDED = "UPDATE payments SET state = 'Refunded' WHERE merchant = $1 AND order_uid = $2"

_LIVE = (GateState.OPEN, GateState.COMPENSATING)


class PostgresPaymentLedger:
    """Implements `ledgers.payments.PaymentLedger`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def uid_of(self, merchant: str, name: str) -> str | None:
        async with session(self._pool) as connection:
            uid = await connection.fetchval(_FIND_ORDER, merchant, name)
        return str(uid) if uid else None

    async def read(self, merchant: str, order_uid: str) -> PaymentEntry | None:
        async with session(self._pool) as connection:
            return await find_payment(connection, merchant, order_uid)

    async def intend(
        self, merchant: str, order_uid: str, *, name: str, amount: int, currency: str, method: str
    ) -> PaymentEntry:
        async with session(self._pool) as connection:
            row = await connection.fetchrow(_INTEND, merchant, order_uid, name, amount, currency, method)
            if row is not None:
                return _entry(row)
            order = await lock_gate(connection, merchant, order_uid, GateState.OPEN)
            if (amount, currency) != (order.total, order.currency):
                raise Refused(
                    Reason.AMOUNT_MISMATCH,
                    f"Payment {merchant}/{name} asks for another amount than its order's total; "
                    "nothing was charged.",
                )
            if await connection.fetchval(_READ_RESERVATION_STATE, merchant, order_uid) not in RESERVING:
                raise Transient(Reason.STOCK_NOT_HELD, f"no stock is held for order {merchant}/{order.name}")
            return await read_payment(connection, merchant, order_uid)

    async def next_create_attempt(self, merchant: str, order_uid: str, attempt: int) -> PaymentEntry:
        async with transaction(self._pool) as connection:
            await lock_gate(connection, merchant, order_uid, GateState.OPEN)
            await connection.execute(_NEXT_CREATE_ATTEMPT, merchant, order_uid, attempt)
            return await read_payment(connection, merchant, order_uid)

    async def begin_confirm(
        self, merchant: str, order_uid: str, intent_id: str, attempt: int, *, operator: str
    ) -> PaymentEntry:
        async with session(self._pool) as connection:
            row = await connection.fetchrow(_BEGIN_CONFIRM, merchant, order_uid, intent_id, attempt, operator)
            if row is None:
                raise GateClosed(
                    f"confirm {attempt} of order {merchant}/{order_uid} is not admitted any more"
                )
            return _entry(row)

    async def record_intent(self, merchant: str, order_uid: str, intent_id: str) -> PaymentEntry:
        async with transaction(self._pool) as connection:
            await lock_gate(connection, merchant, order_uid, *_LIVE)
            await connection.execute(_RECORD_INTENT, merchant, order_uid, intent_id)
            return await read_payment(connection, merchant, order_uid)

    async def capture(self, merchant: str, order_uid: str, received: int) -> PaymentEntry:
        event = event_arguments(EventType.PAYMENT_SUCCESS, UUID(order_uid), {"amount": received})
        async with session(self._pool) as connection:
            row = await connection.fetchrow(_CAPTURE, merchant, order_uid, received, *event)
            if row is not None:
                return _entry(row)
            await lock_gate(connection, merchant, order_uid, *_LIVE)
            return await read_payment(connection, merchant, order_uid)

    async def decline(self, merchant: str, order_uid: str, reason: str, message: str) -> PaymentEntry:
        async with transaction(self._pool) as connection:
            order = await lock_gate(connection, merchant, order_uid, *_LIVE)
            if await connection.fetchval(_DECLINE, merchant, order_uid, reason, message):
                await append_order_event(
                    connection, order, EventType.PAYMENT_FAILED, {"reason": reason, "message": message}
                )
            return await read_payment(connection, merchant, order_uid)

    async def cancel(self, merchant: str, order_uid: str, *, intent_id: str | None) -> PaymentEntry:
        async with transaction(self._pool) as connection:
            order = await lock_gate(connection, merchant, order_uid, GateState.COMPENSATING)
            row = await connection.fetchrow(_CANCEL, merchant, order_uid, intent_id)
            if row is not None:
                await append_order_event(
                    connection, order, EventType.PAYMENT_CANCELLED, {"intentId": row["intent_id"]}
                )
            return await read_payment(connection, merchant, order_uid)

    async def request_refund(self, merchant: str, order_uid: str) -> PaymentEntry:
        async with transaction(self._pool) as connection:
            order = await lock_gate(connection, merchant, order_uid, GateState.COMPENSATING)
            await refuse_while_label_possible(connection, order)
            entry = await read_payment(connection, merchant, order_uid)
            if entry.state is not PaymentState.CAPTURED or entry.refunds:
                return entry
            if entry.captured == 0:
                await connection.execute(_SET_REFUNDED, merchant, order_uid)
            else:
                refund_id = uuid5(order.uid, "refund/1")
                await connection.execute(_REQUEST_REFUND, refund_id, merchant, order_uid, entry.captured)
            return await read_payment(connection, merchant, order_uid)

    async def record_withdrawals(
        self, merchant: str, order_uid: str, found: Sequence[Withdrawal]
    ) -> PaymentEntry:
        async with transaction(self._pool) as connection:
            order = await lock_for_refund(connection, merchant, order_uid)
            entry = await read_payment(connection, merchant, order_uid)
            new = new_withdrawals(entry, found) if entry.not_made else ()
            if not new:
                return entry
            for withdrawal in new:
                await record_withdrawal(connection, order, entry, withdrawal)
            for refund_id, amount in amounts_after(entry, new).items():
                if amount:
                    await connection.execute(_REFUND_WHAT_IS_LEFT, merchant, refund_id, amount)
                else:
                    await connection.execute(_NEED_NO_REFUND, merchant, refund_id)
            return await _settled(connection, merchant, order_uid)

    async def record_refund(
        self,
        merchant: str,
        order_uid: str,
        refund_id: str,
        *,
        attempt: int,
        provider_id: str | None,
        state: ProviderRefundState,
        reason: str | None,
    ) -> PaymentEntry:
        async with transaction(self._pool) as connection:
            order = await lock_for_refund(connection, merchant, order_uid)
            row = await connection.fetchrow(
                _RECORD_REFUND, merchant, refund_id, state.value, provider_id, reason, attempt
            )
            if row is not None and state is ProviderRefundState.SUCCEEDED:
                await finish_refund(connection, order, row)
            return await read_payment(connection, merchant, order_uid)

    async def next_refund_attempt(
        self, merchant: str, order_uid: str, refund_id: str, attempt: int
    ) -> PaymentEntry:
        async with transaction(self._pool) as connection:
            await lock_for_refund(connection, merchant, order_uid)
            await connection.execute(_NEXT_REFUND_ATTEMPT, merchant, refund_id, attempt)
            return await read_payment(connection, merchant, order_uid)


async def finish_refund(
    connection: Connection, order: OrderRow, refund: Row, *, actor: str | None = None
) -> None:
    """The money is back: append `payment.refunded`. The order's row is locked by the transaction.

    Args:
        actor: Who settled it by hand.
    """
    entry = await _settled(connection, order.merchant, order.uid)
    data: dict[str, Any] = {
        "refundId": str(refund["id"]),
        "providerId": refund["provider_id"],
        "amount": refund["amount"],
        "currency": entry.currency,
        "settledByHand": refund["state"] == RefundState.SETTLED_BY_HAND,
    }
    if actor is not None:
        data |= {"reference": refund["reference"], "actor": actor}
    await append_order_event(connection, order, EventType.PAYMENT_REFUNDED, data, effect=refund["id"])


async def _settled(connection: Connection, merchant: str, order_uid: str | UUID) -> PaymentEntry:
    """The entry, which is refunded where nothing of its money is left."""
    entry = await read_payment(connection, merchant, order_uid)
    if not entry.is_back:
        return entry
    await connection.execute(_SET_REFUNDED, merchant, order_uid)
    return replace(entry, state=PaymentState.REFUNDED)


async def find_payment(connection: Connection, merchant: str, order_uid: str | UUID) -> PaymentEntry | None:
    """The entry of an order; None where no payment was ever begun."""
    row = await connection.fetchrow(_READ, merchant, order_uid)
    if row is None:
        return None
    # Only what was captured can have refunds, and only what has a refund can have withdrawals: all other
    # reads are spared these queries.
    refunds = (
        await connection.fetch(_READ_REFUNDS, merchant, order_uid) if row["state"] in EVER_CAPTURED else []
    )
    withdrawals = await read_withdrawals(connection, merchant, order_uid) if refunds else ()
    return _entry(row, refunds, withdrawals)


async def read_payment(connection: Connection, merchant: str, order_uid: str | UUID) -> PaymentEntry:
    """The entry of an order.

    Raises:
        GateClosed: no payment was ever begun.
    """
    entry = await find_payment(connection, merchant, order_uid)
    if entry is None:
        raise GateClosed(f"order {merchant}/{order_uid} has no payment")
    return entry


def _entry(row: Row, refunds: Sequence[Row] = (), withdrawals: tuple[Withdrawal, ...] = ()) -> PaymentEntry:
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
        refunds=tuple(refund_entry(refund) for refund in refunds),
        withdrawals=withdrawals,
        confirm_begun_by=row["confirm_begun_by"],
        confirm_age=row["confirm_age"],
    )


def refund_entry(row: Row) -> RefundEntry:
    """Of a row of `refunds`."""
    return RefundEntry(
        id=str(row["id"]),
        amount=row["amount"],
        state=RefundState(row["state"]),
        provider_id=row["provider_id"],
        attempt=row["attempt"],
        reason=row["reason"],
    )
