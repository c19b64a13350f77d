"""Write what happened next to the effect itself, in the same transaction."""

from typing import Any
from uuid import UUID

from orderplane.adapters.postgres.pool import Connection
from orderplane.events.types import EventType, event_id, lane_of

CHANNEL = "outbox"
"""Whoever relays events LISTENs here; the payload is the lane."""


_INSERT = "INSERT INTO history (event_id, merchant, subject, name, type, data, traceparent, lane, seq) "
_NOTIFY = f" RETURNING pg_notify('{CHANNEL}', lane::text)"

_TELL = f"{_INSERT} VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) {_NOTIFY}"

TELL_OF = f"{_INSERT} SELECT $1, $2, $3, $4, $5, $6, $7, $8::smallint, told.seq FROM told {_NOTIFY}"
"""The end of a statement that begins with `told`, the order's row as it is after its number has risen."""

_TELL_OF_ORDER = f"""
WITH told AS (UPDATE orders SET seq = seq + 1 WHERE merchant = $2 AND uid = $3 RETURNING seq)
{TELL_OF}
"""  # noqa: S608


def history_row(
    *,
    type_: EventType,
    effect: UUID,
    merchant: str,
    subject: UUID,
    name: str,
    data: dict[str, Any],
    traceparent: str | None,
) -> tuple[Any, ...]:
    """What `TELL_OF` takes as its first eight arguments."""
    return (
        event_id(effect, type_), merchant, subject, name, type_.value, data, traceparent, lane_of(subject),
    )  # fmt: skip


async def record(
    connection: Connection,
    *,
    type_: EventType,
    effect: UUID,
    merchant: str,
    subject: UUID,
    name: str,
    seq: int | None,
    data: dict[str, Any],
    traceparent: str | None,
) -> None:
    """Add one history row; it is also the outbox row until the relay has published it.

    Args:
        seq: The event's number; None takes the next of the order's gate row.

    Raises:
        asyncpg.UniqueViolationError: this effect was told before: the caller's fence is broken.
    """
    row = history_row(
        type_=type_, effect=effect, merchant=merchant, subject=subject, name=name, data=data,
        traceparent=traceparent,
    )  # fmt: skip
    if seq is None:
        await connection.execute(_TELL_OF_ORDER, *row)
    else:
        await connection.execute(_TELL, *row, seq)
