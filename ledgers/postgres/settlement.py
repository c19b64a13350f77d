"""What a person has settled outside of the providers: a refund that failed, a label that is not taken back, a
parcel that came back."""

import orjson

from orderplane.crds.money import format_minor
from orderplane.ledgers.errors import NothingToSettle
from orderplane.ledgers.payments import why_not_settled
from orderplane.ledgers.postgres.gate import OrderRow, find_and_lock, lock_gate
from orderplane.ledgers.postgres.history import session_actor
from orderplane.ledgers.postgres.payments import finish_refund
from orderplane.ledgers.postgres.refunds import end_return
from orderplane.ledgers.postgres.session import Connection, Pool, Row, transaction
from orderplane.ledgers.postgres.shipments import read_shipment, record_void
from orderplane.ledgers.states import (
    LABEL_ALIVE,
    GateState,
    PaymentState,
    RefundState,
    ShipmentState,
    TrackingStatus,
    VoidState,
)

# Of several orders of a name, at most one is not sealed.
_FIND_ORDER = """
SELECT uid FROM orders WHERE merchant = $1 AND name = $2
ORDER BY state = 'Sealed', opened_at DESC LIMIT 1
"""

# Of several refunds, the first that has failed.
_READ_REFUND = """
SELECT p.state AS payment, p.name, p.currency, r.id, r.state AS refund, r.amount FROM payments p
LEFT JOIN refunds r ON r.merchant = p.merchant AND r.order_uid = p.order_uid
WHERE p.merchant = $1 AND p.order_uid = $2
ORDER BY r.state IS DISTINCT FROM 'Failed', CASE r.state WHEN 'Failed' THEN r.created_at END,
    r.created_at DESC
LIMIT 1
"""

_SETTLE_REFUND = """
UPDATE refunds SET state = 'SettledByHand', reason = $2, reference = $3 WHERE id = $1 RETURNING *
"""

_FIND_RETURNED = """
SELECT s.order_uid, s.name FROM orders o JOIN shipments s ON s.merchant = o.merchant AND s.order_uid = o.uid
WHERE o.merchant = $1 AND o.name = $2 AND o.outcome = 'Shipped' AND o.finished_at IS NULL
  AND s.tracking_status = 'Returned'
ORDER BY o.opened_at DESC LIMIT 1
"""

_FIND_REFUSED_VOID = """
SELECT s.order_uid, s.name, s.tracking_code
FROM orders o JOIN shipments s ON s.merchant = o.merchant AND s.order_uid = o.uid
WHERE o.merchant = $1 AND o.name = $2
  AND (s.state = 'Stray' OR s.state = 'Bought' AND s.void_state = 'Rejected' AND o.state = 'Compensating')
ORDER BY o.opened_at DESC LIMIT 1
"""

# The operator listens on this channel; the payload names the resource to reconcile.
_NOTIFY = "SELECT pg_notify('ledger', $1)"


async def settle_by_hand(
    pool: Pool, merchant: str, order: str, *, reason: str, reference: str, actor: str | None = None
) -> str:
    """Record what a person settled of an order; answers what that was, as part of a sentence.

    Args:
        actor: Who did, as in `crds.actors`; None: the role of the database session.

    Raises:
        NothingToSettle: nothing of this order waits for a person, or its parcel has left.
    """
    # The label comes first: nothing is refunded while it is valid.
    code = await settle_void_by_hand(pool, merchant, order, reason=reason, reference=reference, actor=actor)
    if code is not None:
        return f"label {code} noted as not used"
    try:
        amount = await settle_refund_by_hand(
            pool, merchant, order, reason=reason, reference=reference, actor=actor
        )
    except NothingToSettle:
        code = await settle_return_by_hand(pool, merchant, order, reference=reference, actor=actor)
        if code is None:
            raise
        return f"return of parcel {code} noted as settled"
    return f"{amount} noted as paid back by hand"


async def settle_refund_by_hand(
    pool: Pool, merchant: str, order: str, *, reason: str, reference: str, actor: str | None = None
) -> str:
    """Record that a person paid a failed refund back outside of the provider; returns the amount, formatted.

    Raises:
        NothingToSettle: there is no such order, or no refund of it has failed.
    """
    async with transaction(pool) as connection:
        locked = await _lock(connection, merchant, order)
        found = await connection.fetchrow(_READ_REFUND, merchant, locked.uid) if locked else None
        why_not = _why_not_settled(locked, found)
        if locked is None or found is None or why_not is not None:
            raise NothingToSettle(f"No refund of order {merchant}/{order} can be settled by hand: {why_not}.")
        refund = await connection.fetchrow(_SETTLE_REFUND, found["id"], reason, reference)
        assert refund is not None, "it has failed, and its order's row is locked"
        await finish_refund(connection, locked, refund, actor=actor or await session_actor(connection))
        notification = {"merchant": merchant, "child": found["name"], "order": order}
        await connection.execute(_NOTIFY, orjson.dumps(notification).decode())
        return format_minor(found["amount"], found["currency"])


async def settle_return_by_hand(
    pool: Pool, merchant: str, order: str, *, reference: str, actor: str | None = None
) -> str | None:
    """Record that a person has settled, without a refund, what becomes of a parcel that came back.

    Returns its tracking code; None where no order of that name has such a parcel.
    """
    async with transaction(pool) as connection:
        found = await connection.fetchrow(_FIND_RETURNED, merchant, order)
        if found is None:
            return None
        locked = await lock_gate(connection, merchant, found["order_uid"], GateState.SEALED)
        by_hand = {"reference": reference, "actor": actor or await session_actor(connection)}
        code = await end_return(connection, locked, by_hand=by_hand)
        notification = {"merchant": merchant, "child": found["name"], "order": order}
        await connection.execute(_NOTIFY, orjson.dumps(notification).decode())
        return code


async def settle_void_by_hand(
    pool: Pool, merchant: str, order: str, *, reason: str, reference: str, actor: str | None = None
) -> str | None:
    """Record that a person has made sure that a label is not used, which the carrier does not take back.

    Returns its tracking code; None where no order of that name waits for such a label.

    Raises:
        NothingToSettle: its parcel has left.
    """
    async with transaction(pool) as connection:
        found = await connection.fetchrow(_FIND_REFUSED_VOID, merchant, order)
        if found is None:
            return None
        locked = await lock_gate(connection, merchant, found["order_uid"], *GateState)
        entry = await read_shipment(connection, merchant, found["order_uid"])
        if entry.state not in LABEL_ALIVE:
            return None
        if entry.state is ShipmentState.BOUGHT and entry.tracking_status is not TrackingStatus.PRE_TRANSIT:
            raise NothingToSettle(
                f"The parcel of order {merchant}/{order} has left: it is too late to cancel it."
            )
        by_hand = {"reference": reference, "actor": actor or await session_actor(connection)}
        await record_void(
            connection, locked, VoidState.SETTLED_BY_HAND, note=f"{reference}: {reason}", by_hand=by_hand
        )
        notification = {"merchant": merchant, "child": found["name"], "order": order}
        await connection.execute(_NOTIFY, orjson.dumps(notification).decode())
        return str(found["tracking_code"])


async def _lock(connection: Connection, merchant: str, order: str) -> OrderRow | None:
    uid = await connection.fetchval(_FIND_ORDER, merchant, order)
    return await find_and_lock(connection, merchant, uid) if uid else None


def _why_not_settled(order: OrderRow | None, found: Row | None) -> str | None:
    return why_not_settled(
        order.state if order else None,
        PaymentState(found["payment"]) if found else None,
        RefundState(found["refund"]) if found and found["refund"] else None,
    )
