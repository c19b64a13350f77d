"""Money that left a payment without us, in PostgreSQL. The caller has locked the order's row."""

from typing import Any
from uuid import UUID, uuid5

from orderplane.events.types import EventType
from orderplane.ledgers.payments import PaymentEntry, Withdrawal, WithdrawalKind
from orderplane.ledgers.postgres.gate import OrderRow, append_order_event
from orderplane.ledgers.postgres.session import Connection

_READ = "SELECT * FROM withdrawals WHERE merchant = $1 AND order_uid = $2 ORDER BY created_at"

_INSERT = """
INSERT INTO withdrawals (id, merchant, order_uid, provider_id, kind, amount) VALUES ($1, $2, $3, $4, $5, $6)
"""


async def read_withdrawals(
    connection: Connection, merchant: str, order_uid: str | UUID
) -> tuple[Withdrawal, ...]:
    """Those of an order, the oldest first."""
    rows = await connection.fetch(_READ, merchant, order_uid)
    return tuple(Withdrawal(row["provider_id"], WithdrawalKind(row["kind"]), row["amount"]) for row in rows)


async def record_withdrawal(
    connection: Connection, order: OrderRow, entry: PaymentEntry, withdrawal: Withdrawal
) -> None:
    """Insert one with its event."""
    id_ = uuid5(order.uid, f"withdrawal/{withdrawal.provider_id}")
    await connection.execute(
        _INSERT,
        id_, order.merchant, order.uid, withdrawal.provider_id, withdrawal.kind.value, withdrawal.amount,
    )  # fmt: skip
    data: dict[str, Any] = {
        "intentId": entry.intent_id,
        "providerId": withdrawal.provider_id,
        "kind": withdrawal.kind.value,
        "amount": withdrawal.amount,
        "currency": entry.currency,
    }
    await append_order_event(connection, order, EventType.PAYMENT_WITHDRAWN, data, effect=id_)
