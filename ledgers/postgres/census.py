"""Counts of what is open, over all merchants: orders by phase, refunds by state, parcels on their way.

Every count goes through an index of what is open: it does not get slower with what there ever was.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from orderplane.crds.order import OrderPhase
from orderplane.ledgers.postgres.session import Pool, session
from orderplane.ledgers.states import RefundState

UNFINISHED_PHASES = (
    OrderPhase.PENDING,
    OrderPhase.RESERVED,
    OrderPhase.PAID,
    OrderPhase.SHIPPED,
    OrderPhase.COMPENSATING,
)
OPEN_REFUNDS = (RefundState.REQUESTED, RefundState.PENDING, RefundState.FAILED)

_ORDERS = """
SELECT CASE
    WHEN o.state = 'Compensating' THEN 'Compensating'
    WHEN s.state = 'Bought' THEN 'Shipped'
    WHEN p.state = 'Captured' THEN 'Paid'
    WHEN r.state IN ('Held', 'Pinned') THEN 'Reserved'
    ELSE 'Pending' END AS phase,
    count(*) AS number, extract(epoch FROM now() - min(o.opened_at)) AS oldest_seconds
FROM orders o
LEFT JOIN reservations r ON r.merchant = o.merchant AND r.holder = o.uid
LEFT JOIN payments p ON p.merchant = o.merchant AND p.order_uid = o.uid
LEFT JOIN shipments s ON s.merchant = o.merchant AND s.order_uid = o.uid
WHERE o.state <> 'Sealed' GROUP BY phase
"""

# Of orders that are undone, and after the sale.
_REFUNDS = """
SELECT state, count(*) AS number FROM refunds
WHERE state IN ('Requested', 'Pending', 'Failed') GROUP BY state
"""

_PARCELS = "SELECT count(*) FROM shipments WHERE next_poll_at IS NOT NULL"

_AUDIT = "SELECT at, violations FROM audit_runs ORDER BY id DESC LIMIT 1"


@dataclass(frozen=True, slots=True)
class OpenOrders:
    """The orders of one phase: their number, and the age of the oldest."""

    number: int = 0
    oldest_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class AuditRun:
    """An audit that was recorded."""

    at: datetime
    violations: int


@dataclass(frozen=True, slots=True)
class Census:
    """What is open at one moment.

    Args:
        orders: Whose gate is not sealed, by phase; after the first scan of its parcel an order is no longer
            among them.
        refunds: That the customer does not have yet, by state.
        parcels: About which the carrier is still asked.
        audit: The newest audit that was recorded; None before the first.
    """

    orders: Mapping[OrderPhase, OpenOrders]
    refunds: Mapping[RefundState, int]
    parcels: int
    audit: AuditRun | None


async def take_census(pool: Pool) -> Census:
    """Count what is open now. Raises as `session` does."""
    async with session(pool) as connection:
        orders = {row["phase"]: row for row in await connection.fetch(_ORDERS)}
        refunds = {row["state"]: row["number"] for row in await connection.fetch(_REFUNDS)}
        parcels = await connection.fetchval(_PARCELS)
        audit = await connection.fetchrow(_AUDIT)
    return Census(
        orders={
            phase: OpenOrders(row["number"], float(row["oldest_seconds"]))
            if (row := orders.get(phase))
            else OpenOrders()
            for phase in UNFINISHED_PHASES
        },
        refunds={state: refunds.get(state, 0) for state in OPEN_REFUNDS},
        parcels=parcels,
        audit=AuditRun(audit["at"], audit["violations"]) if audit else None,
    )
