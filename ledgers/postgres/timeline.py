"""What happened to one order, and under which names the providers know it."""

from dataclasses import dataclass
from datetime import datetime

from orderplane.events.types import EventType
from orderplane.ledgers.postgres.session import Pool, session

_REFERENCES = """
SELECT o.compensating_at, p.intent_id, s.provider_id AS shipment_id, s.carrier, s.tracking_code,
    ARRAY(
        SELECT provider_id FROM refunds
        WHERE merchant = o.merchant AND order_uid = o.uid AND provider_id IS NOT NULL
        ORDER BY created_at, id
    ) AS refund_ids
FROM orders o
LEFT JOIN payments p ON p.merchant = o.merchant AND p.order_uid = o.uid
LEFT JOIN shipments s ON s.merchant = o.merchant AND s.order_uid = o.uid
WHERE o.merchant = $1 AND o.uid = $2
"""
_EVENTS = """
SELECT seq, type, at, data ->> 'reason' AS reason FROM history
WHERE merchant = $1 AND subject = $2 ORDER BY seq
"""


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """One event as it was told; `reason` where it has one."""

    seq: int
    type: EventType
    at: datetime
    reason: str | None


@dataclass(frozen=True, slots=True)
class Timeline:
    """One order's events, by number, and what belongs to it elsewhere.

    Args:
        compensating_at: When it was decided that it is undone.
        intent_id: The payment at the payment provider.
        refund_ids: The refunds there, oldest first.
        shipment_id: The shipment at the carrier's.
    """

    events: tuple[TimelineEvent, ...]
    compensating_at: datetime | None
    intent_id: str | None
    refund_ids: tuple[str, ...]
    shipment_id: str | None
    carrier: str | None
    tracking_code: str | None


class PostgresTimelineReader:
    """Reads the history and the three ledgers. Raises `Transient` as `session` does."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def read(self, merchant: str, uid: str) -> Timeline | None:
        """The timeline of one order; None where nothing has happened to it yet."""
        async with session(self._pool) as connection:
            row = await connection.fetchrow(_REFERENCES, merchant, uid)
            events = await connection.fetch(_EVENTS, merchant, uid) if row else []
        if row is None:
            return None
        return Timeline(
            events=tuple(
                TimelineEvent(event["seq"], EventType(event["type"]), event["at"], event["reason"])
                for event in events
            ),
            compensating_at=row["compensating_at"],
            intent_id=row["intent_id"],
            refund_ids=tuple(row["refund_ids"]),
            shipment_id=row["shipment_id"],
            carrier=row["carrier"],
            tracking_code=row["tracking_code"],
        )
