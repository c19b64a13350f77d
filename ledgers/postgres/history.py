"""The history of orders and reservations: events are appended in the transaction of their effect.

A history row is also the outbox row until the relay has published it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from orderplane.crds.actors import ActorKind, actor_of
from orderplane.events.types import EventType, event_id, outbox_partition_of
from orderplane.ledgers.postgres.session import Connection, Pool, session

# An event whose number the caller gives.
_APPEND = """
INSERT INTO history (event_id, merchant, subject, name, type, data, traceparent, partition, seq)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""

# An event of an order: the order's row gives the next number, without gaps, because its lock is held until
# commit.
_APPEND_TO_ORDER = """
WITH numbered AS (
    UPDATE orders SET seq = seq + 1 WHERE merchant = $2 AND uid = $3 RETURNING seq
)
INSERT INTO history (event_id, merchant, subject, name, type, data, traceparent, partition, seq)
SELECT $1, $2, $3, $4, $5, $6, $7, $8::smallint, numbered.seq FROM numbered
"""

# What an order has at the providers, for people who ask there.
_REFERENCES = """
SELECT o.compensating_at, p.intent_id, s.provider_id AS shipment_id, s.carrier, s.tracking_code,
    ARRAY(
        SELECT coalesce(reference, provider_id) FROM refunds
        WHERE merchant = o.merchant AND order_uid = o.uid AND coalesce(reference, provider_id) IS NOT NULL
        ORDER BY created_at, id
    ) AS refund_ids
FROM orders o
LEFT JOIN payments p ON p.merchant = o.merchant AND p.order_uid = o.uid
LEFT JOIN shipments s ON s.merchant = o.merchant AND s.order_uid = o.uid
WHERE o.merchant = $1 AND o.uid = $2
"""

_EVENTS = """
SELECT seq, type, at, data ->> 'reason' AS reason, data ->> 'actor' AS actor FROM history
WHERE merchant = $1 AND subject = $2 ORDER BY seq
"""


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """One event of an order's history; `reason` and `actor` where its data has them."""

    seq: int
    type: EventType
    at: datetime
    reason: str | None
    actor: str | None


@dataclass(frozen=True, slots=True)
class Timeline:
    """One order's events, by number, and its references at the providers.

    Args:
        compensating_at: When it was decided to compensate the order.
        intent_id: The payment intent at the payment provider.
        refund_ids: The refunds there, oldest first; of one that a person paid, where it can be looked up.
        shipment_id: The shipment at the carrier.
    """

    events: tuple[TimelineEvent, ...]
    compensating_at: datetime | None
    intent_id: str | None
    refund_ids: tuple[str, ...]
    shipment_id: str | None
    carrier: str | None
    tracking_code: str | None


async def append_event(
    connection: Connection,
    *,
    type_: EventType,
    effect: UUID,
    merchant: str,
    subject: UUID,
    name: str,
    seq: int | None,
    data: Mapping[str, Any],
    traceparent: str | None,
) -> None:
    """Append one event.

    Args:
        effect: The row whose change the event reports: the event's id is derived from it and from the type.
        seq: The event's number; None takes the next one of the order `subject`.

    Raises:
        asyncpg.UniqueViolationError: this effect has an event already, so it was applied twice.
    """
    row = (
        event_id(effect, type_), merchant, subject, name, type_.value, data, traceparent,
        outbox_partition_of(subject),
    )  # fmt: skip
    if seq is None:
        await connection.execute(_APPEND_TO_ORDER, *row)
    else:
        await connection.execute(_APPEND, *row, seq)


def event_arguments(
    type_: EventType, order_uid: UUID, data: Mapping[str, Any]
) -> tuple[UUID, str, Mapping[str, Any], int]:
    """The arguments of a statement that appends an event of an order together with its effect.

    They are the event's id, its type, its data but for `merchant` and `order`, and the outbox partition.
    """
    return event_id(order_uid, type_), type_.value, data, outbox_partition_of(order_uid)


async def session_actor(connection: Connection) -> str:
    """Whoever works in this session, as in `crds.actors`: nothing but its role is proved."""
    return actor_of(ActorKind.DATABASE, await connection.fetchval("SELECT session_user"))


class PostgresTimelineReader:
    """Reads the history and the three ledgers. Raises `Transient` as `session` does."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def read(self, merchant: str, uid: str) -> Timeline | None:
        """The timeline of one order; None where its gate was never opened."""
        async with session(self._pool) as connection:
            row = await connection.fetchrow(_REFERENCES, merchant, uid)
            events = await connection.fetch(_EVENTS, merchant, uid) if row else []
        if row is None:
            return None
        return Timeline(
            events=tuple(
                TimelineEvent(
                    event["seq"], EventType(event["type"]), event["at"], event["reason"], event["actor"]
                )
                for event in events
            ),
            compensating_at=row["compensating_at"],
            intent_id=row["intent_id"],
            refund_ids=tuple(row["refund_ids"]),
            shipment_id=row["shipment_id"],
            carrier=row["carrier"],
            tracking_code=row["tracking_code"],
        )
