"""Write down that somebody paid a refund back outside, because the provider would not."""

import orjson

from orderplane.crds.money import format_minor
from orderplane.ledgers.gate import GateState
from orderplane.ledgers.postgres.gate import pass_gate
from orderplane.ledgers.postgres.payments import finish_refund
from orderplane.ledgers.postgres.session import Pool, transaction


async def settle_refund_by_hand(pool: Pool, merchant: str, order: str, *, reason: str, reference: str) -> str:
    """Settle the failed refund of an order that is being undone; answers the amount, formatted.

    Raises:
        ValueError: there is no such order, or no refund of it has failed.
    """
    async with transaction(pool) as connection:
        row = await connection.fetchrow(
            "SELECT r.*, p.currency, p.name AS child, o.uid FROM orders o "
            "JOIN refunds r ON r.merchant = o.merchant AND r.order_uid = o.uid "
            "JOIN payments p ON p.merchant = o.merchant AND p.order_uid = o.uid "
            "WHERE o.merchant = $1 AND o.name = $2 AND o.state = 'Compensating' AND r.state = 'Failed'",
            merchant, order,
        )  # fmt: skip
        if row is None:
            raise ValueError(
                f"order {merchant}/{order} has no refund that failed, so none can be settled by hand"
            )
        gate = await pass_gate(connection, merchant, str(row["uid"]), GateState.COMPENSATING)
        await connection.execute(
            "UPDATE refunds SET state = 'SettledByHand', reason = $2, reference = $3 WHERE id = $1",
            row["id"], reason, reference,
        )  # fmt: skip
        await finish_refund(connection, gate, row, is_by_hand=True)
        news = {"merchant": merchant, "child": row["child"], "order": order}
        await connection.execute("SELECT pg_notify('ledger', $1)", orjson.dumps(news).decode())
        return format_minor(row["amount"], row["currency"])
