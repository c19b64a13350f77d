"""Read everything that the audit compares."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

from orderplane.adapters.kafka.topics import read_all
from orderplane.adapters.kubernetes.client import ApiClient, Json
from orderplane.audit.snapshot import Message, Snapshot, Tables
from orderplane.controllers.payment.ports import PaymentProvider
from orderplane.controllers.shipment.ports import Carrier
from orderplane.crds.meta import Kind
from orderplane.events.notifications import Channel
from orderplane.ledgers.postgres.session import Pool, session
from orderplane.workers.notifier.channels import Outgoing

T = TypeVar("T")

# The columns of the rows in `audit.snapshot`. Of users nothing is read that identifies a person.
STATEMENTS: Mapping[str, str] = {
    "orders": "SELECT merchant, uid, name, state, outcome, seq, currency, total, sealed_at, finished_at, "
    "archived_version IS NOT NULL AS is_archived, "
    "is_archive_due FROM orders",
    # A partition that retention has dropped is missed by nobody.
    "archived_orders": "SELECT o.merchant, o.uid, o.name, a.phase, o.is_archive_outdated AS is_outdated, "
    "o.outcome FROM orders o "
    "LEFT JOIN archived_orders a ON (a.merchant, a.uid, a.rested_at) = (o.merchant, o.uid, o.archived_at) "
    "WHERE o.archived_version IS NOT NULL AND (a.uid IS NOT NULL OR "
    "to_regclass('archived_orders_' || to_char(o.archived_at AT TIME ZONE 'UTC', 'YYYY_MM')) IS NOT NULL)",
    "stock": "SELECT merchant, sku, opening, on_hand, reserved FROM stock",
    "reservations": "SELECT merchant, holder, order_uid, name, state, expires_at FROM reservations",
    "reservation_lines": "SELECT merchant, holder, sku, quantity FROM reservation_lines",
    "stock_movements": "SELECT merchant, sku, on_hand_delta, reserved_delta, kind, holder, note, at "
    "FROM stock_movements",
    "payments": "SELECT merchant, order_uid, name, amount, currency, state, intent_id, captured, reason "
    "FROM payments",
    "refunds": "SELECT id, order_uid, amount, state, provider_id FROM refunds",
    "retries": "SELECT id, order_uid FROM retries",
    "refund_requests": "SELECT merchant, order_uid, name, amount, lines, is_restocked, refund_id "
    "FROM refund_requests",
    "withdrawals": "SELECT id, order_uid, provider_id, kind, amount FROM withdrawals",
    "shipments": "SELECT merchant, order_uid, name, state, provider_id, tracking_code, void_state, "
    "is_shipped "
    "FROM shipments",
    "history": "SELECT event_id, merchant, subject, name, seq, type, data, at, published_at FROM history",
    "idempotency": "SELECT merchant, kind, name, status FROM idempotency",
    "notifications": "SELECT merchant, event_id, channel, order_uid, seq, type, customer, state, reason, "
    "unknown_attempts, is_forced, ended_at FROM notifications",
    "users": "SELECT merchant, id, preferences, email_confirmed_at IS NOT NULL AS is_email_confirmed, "
    "phone IS NOT NULL AS has_phone, updated_at, deleted_at FROM users",
    "account_messages": "SELECT id, channel, kind, state, unknown_attempts FROM account_messages",
    "webhook_endpoints": "SELECT merchant, id, event_types, subscribed_at, deleted_at FROM webhook_endpoints",
    "event_deliveries": "SELECT merchant, endpoint_id, event_id, is_test, state, EXISTS ("
    "SELECT FROM delivery_attempts a WHERE a.merchant = d.merchant AND a.endpoint_id = d.endpoint_id "
    "AND a.event_id = d.event_id AND a.status BETWEEN 200 AND 299) AS was_taken FROM event_deliveries d",
}


async def collect(
    api: ApiClient,
    pool: Pool,
    payment_provider: PaymentProvider,
    carrier: Carrier,
    kafka: str,
    channels: Mapping[Channel, Outgoing],
) -> Snapshot:
    """Take a snapshot. The systems are read one after another, so what is under way may look inconsistent.

    Args:
        kafka: Bootstrap servers; empty leaves the topics out.
        channels: Those whose messages can be listed; a mail server cannot.

    Raises:
        ApiError, Transient, Unclear, KafkaError: one of the systems cannot be read.
    """
    taken_at = datetime.now(UTC)
    tables = await read_tables(pool)
    resources = {kind: await _resources(api, kind) for kind in Kind}
    intents, refunds, disputes, parcels = await asyncio.gather(
        _all(payment_provider.intents()),
        _all(payment_provider.refunds()),
        _all(payment_provider.disputes()),
        _all(carrier.shipments()),
    )
    outgoing = {channel: await _all(there.references()) for channel, there in channels.items()}
    messages = [_message(record) async for record in read_all(kafka)] if kafka else None
    return Snapshot(taken_at, tables, resources, intents, refunds, disputes, parcels, messages, outgoing)


async def read_tables(pool: Pool) -> Tables:
    """The rows of all ledgers, as they were at one moment."""
    async with (
        session(pool) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        rows = {
            table: [dict(row) for row in await connection.fetch(statement, timeout=60)]
            for table, statement in STATEMENTS.items()
        }
    return cast("Tables", rows)


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
    # Anybody may have written it: what cannot be parsed is kept as it is, and judged.
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
