"""Write what happened next to the effect itself, in the same transaction."""

from typing import Any
from uuid import UUID

from orderplane.adapters.postgres.pool import Connection
from orderplane.events.types import EventType, event_id, lane_of

CHANNEL = "outbox"
"""Whoever relays events LISTENs here; the payload is the lane."""


async def record(
    connection: Connection,
    *,
    type_: EventType,
    effect: UUID,
    merchant: str,
    subject: UUID,
    name: str,
    seq: int,
    data: dict[str, Any],
    traceparent: str | None,
) -> None:
    """Add one history row; it is also the outbox row until the relay has published it.

    Raises:
        asyncpg.UniqueViolationError: this effect was told before: the caller's fence is broken.
    """
    lane = lane_of(subject)
    await connection.execute(
        "INSERT INTO history (event_id, merchant, subject, name, seq, type, data, traceparent, lane) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        event_id(effect, type_), merchant, subject, name, seq, type_.value, data, traceparent, lane,
    )  # fmt: skip
    await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, str(lane))
