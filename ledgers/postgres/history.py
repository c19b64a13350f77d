"""Write what happened next to the effect itself, in the same transaction."""

from typing import Any
from uuid import UUID

from orderplane.events.types import EventType, event_id, outbox_partition_of
from orderplane.ledgers.postgres.session import Connection

_COLUMNS = "event_id, merchant, subject, name, type, data, traceparent, partition, seq"

_TELL = f"INSERT INTO history ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"  # noqa: S608

_TELL_OF_ORDER = f"""
WITH told AS (UPDATE orders SET seq = seq + 1 WHERE merchant = $2 AND uid = $3 RETURNING seq)
INSERT INTO history ({_COLUMNS}) SELECT $1, $2, $3, $4, $5, $6, $7, $8::smallint, told.seq FROM told
"""  # noqa: S608


def insert_told(first: int, more: str = "'{}'") -> str:
    """The part of a statement that adds the history row of `told`, an order's row after its number has risen.

    Args:
        first: `told_arguments` begin at this argument of the statement.
        more: What else the statement has to say of the event, as jsonb.
    """
    return f"""
    INSERT INTO history ({_COLUMNS})
    SELECT ${first}::uuid, merchant, uid, name, ${first + 1}::text,
        jsonb_build_object('merchant', merchant, 'order', jsonb_build_object('name', name, 'uid', uid))
            || ${first + 2}::jsonb || {more},
        traceparent, ${first + 3}::smallint, seq
    FROM told RETURNING seq
    """  # noqa: S608


def told_arguments(type_: EventType, effect: UUID, data: dict[str, Any]) -> tuple[Any, ...]:
    """What `insert_told` takes, for an event of the order `effect`."""
    return event_id(effect, type_), type_.value, data, outbox_partition_of(effect)


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
    row = (
        event_id(effect, type_), merchant, subject, name, type_.value, data, traceparent,
        outbox_partition_of(subject),
    )  # fmt: skip
    if seq is None:
        await connection.execute(_TELL_OF_ORDER, *row)
    else:
        await connection.execute(_TELL, *row, seq)
