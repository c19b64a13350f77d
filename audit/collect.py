"""Read everything that the audit compares."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from orderplane.adapters.kafka.topics import read_all
from orderplane.adapters.kubernetes.client import ApiClient, Json
from orderplane.audit.snapshot import Message, Row, Snapshot
from orderplane.controllers.payment.ports import PaymentProvider
from orderplane.controllers.shipment.ports import Carrier
from orderplane.crds.meta import Kind
from orderplane.events.notifications import Channel
from orderplane.ledgers.postgres.session import Pool, session
from orderplane.workers.notifier.channels import Outgoing

T = TypeVar("T")

TABLES = (
    "orders", "stock", "reservations", "reservation_lines", "stock_movements", "payments", "refunds",
    "shipments", "history", "idempotency", "notifications", "users",
)  # fmt: skip
_COLUMNS = {"users": "merchant, id, preferences, updated_at, deleted_at"}
"""Of the others everything; of people not who they are."""


async def collect(
    api: ApiClient,
    pool: Pool,
    payment_provider: PaymentProvider,
    carrier: Carrier,
    kafka: str,
    channels: Mapping[Channel, Outgoing],
) -> Snapshot:
    """Take a snapshot. The systems are read one after another, so what is in flight may look torn.

    Args:
        kafka: Bootstrap servers; empty leaves the topics out.
        channels: Those that can be looked into: a mail server, say, cannot.

    Raises:
        ApiError, Transient, Unclear, KafkaError: one of the systems cannot be read.
    """
    taken_at = datetime.now(UTC)
    tables = await read_tables(pool)
    resources = {kind: await _resources(api, kind) for kind in Kind}
    intents, refunds, parcels = await asyncio.gather(
        _all(payment_provider.intents()), _all(payment_provider.refunds()), _all(carrier.shipments())
    )
    outgoing = {channel: await _all(there.references()) for channel, there in channels.items()}
    messages = [_message(record) async for record in read_all(kafka)] if kafka else None
    return Snapshot(taken_at, tables, resources, intents, refunds, parcels, messages, outgoing)


async def read_tables(pool: Pool) -> dict[str, list[Row]]:
    """All rows of all ledgers, as they stood at one moment."""
    async with (
        session(pool) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        return {
            table: [
                dict(row)
                for row in await connection.fetch(
                    f"SELECT {_COLUMNS.get(table, '*')} FROM {table}",  # noqa: S608
                    timeout=60,
                )
            ]
            for table in TABLES
        }


async def _resources(api: ApiClient, kind: Kind) -> list[Json]:
    found: list[Json] = []
    token: str | None = None
    while True:
        page = await api.list_page(kind, continue_token=token)
        found += page.items
        token = page.continue_token
        if token is None:
            return found


async def _all(items: AsyncIterator[T]) -> list[T]:
    return [item async for item in items]


def _message(record: Any) -> Message:
    # Anybody may have written it: what cannot be read is told as it is, and judged.
    headers = {name: (value or b"").decode(errors="replace") for name, value in record.headers}
    sequence = headers.get("ce_sequence", "")
    return Message(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key=(record.key or b"").decode(errors="replace"),
        event_id=headers.get("ce_id", ""),
        sequence=int(sequence) if sequence.isdecimal() else 0,
        appended_at=record.timestamp,
        value=record.value or b"",
    )
