"""Webhook endpoints in PostgreSQL, as merchants register them, and the log of their deliveries.

Deliveries are added by a trigger of the history; `workers.deliverer.store` sends them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

import orjson

from orderplane.events.envelope import HistoryRow, to_document
from orderplane.ledgers.postgres.session import Connection, Pool, Row, session, transaction
from orderplane.ledgers.webhook_endpoints import (
    MOST_ENDPOINTS,
    TEST_TYPE,
    DeliveryAttempt,
    DeliveryState,
    DisabledReason,
    EndpointDetails,
    EventDelivery,
    WebhookEndpoint,
    test_document,
)

MOST_REPLAYED = 10_000
"""Deliveries that one request has sent again."""

# The trigger that adds deliveries holds this lock, shared, until its event is committed.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('webhook endpoints ' || $1, 0))"

_LIST = "SELECT * FROM webhook_endpoints WHERE merchant = $1 AND deleted_at IS NULL ORDER BY created_at, id"
_FIND = "SELECT * FROM webhook_endpoints WHERE merchant = $1 AND id = $2 AND deleted_at IS NULL"
_COUNT = "SELECT count(*) FROM webhook_endpoints WHERE merchant = $1 AND deleted_at IS NULL"
_ADD = """
INSERT INTO webhook_endpoints (merchant, id, url, description, event_types, secret, actor, disabled_at,
                               disabled_reason)
VALUES ($1, $2, $3, $4, $5, $6, $7, CASE WHEN NOT $8 THEN now() END, CASE WHEN NOT $8 THEN 'ByShop' END)
RETURNING *
"""
# Under the lock of subscriptions: each event since subscribed_at has its delivery.
_CHANGE = """
UPDATE webhook_endpoints SET url = $3, description = $4,
    subscribed_at = CASE WHEN event_types = $5 THEN subscribed_at ELSE clock_timestamp() END,
    event_types = $5,
    disabled_at = CASE WHEN NOT $6 THEN coalesce(disabled_at, now()) END,
    disabled_reason = CASE WHEN NOT $6 THEN coalesce(disabled_reason, 'ByShop') END,
    failing_since = CASE WHEN $6 AND disabled_at IS NOT NULL THEN NULL ELSE failing_since END,
    version = version + 1, updated_at = now()
WHERE merchant = $1 AND id = $2 RETURNING *
"""
_DELETE = """
UPDATE webhook_endpoints SET deleted_at = now(), secret = '', previous_secret = NULL,
    previous_secret_until = NULL
WHERE merchant = $1 AND id = $2 AND deleted_at IS NULL
"""
_ROTATE = """
UPDATE webhook_endpoints SET previous_secret = secret, secret = $3,
    previous_secret_until = now() + make_interval(secs => $4), version = version + 1, updated_at = now()
WHERE merchant = $1 AND id = $2 AND deleted_at IS NULL RETURNING *
"""
_ADD_TEST = """
INSERT INTO event_deliveries (merchant, endpoint_id, event_id, type, is_test, created_at)
VALUES ($1, $2, $3, $4, true, now())
"""
_DELIVERIES = """
SELECT d.*, h.name, h.seq FROM event_deliveries d LEFT JOIN history h ON h.event_id = d.event_id
WHERE d.endpoint_id = $2 AND d.merchant = $1
  AND ($3::text IS NULL OR d.state = $3) AND ($4::text IS NULL OR d.type = $4)
  AND ($5::text IS NULL OR d.event_id IN (
      SELECT e.event_id FROM history e JOIN orders o ON o.uid = e.subject AND o.merchant = e.merchant
      WHERE o.merchant = $1 AND o.name = $5))
  AND ($6::timestamptz IS NULL OR (d.created_at, d.event_id) < ($6, $7::uuid))
ORDER BY d.created_at DESC, d.event_id DESC LIMIT $8
"""
_DELIVERY = """
SELECT d.*, h.name, h.seq, h.subject, h.data::text AS data, h.traceparent, h.at
FROM event_deliveries d LEFT JOIN history h ON h.event_id = d.event_id
WHERE d.merchant = $1 AND d.endpoint_id = $2 AND d.event_id = $3
"""
_LOG = """
SELECT * FROM delivery_attempts WHERE merchant = $1 AND endpoint_id = $2 AND event_id = $3
ORDER BY attempt DESC LIMIT 100
"""
# An attempt that is under way goes on: its result is not written any more.
_REPLAY = """
UPDATE event_deliveries d SET state = 'Waiting', reason = 'Replayed', ended_at = NULL, first_tried_at = NULL,
    claimed_until = NULL, due_at = now()
FROM (
    SELECT merchant, endpoint_id, event_id FROM event_deliveries
    WHERE endpoint_id = $2 AND merchant = $1 AND NOT is_test
      AND created_at >= $3 AND created_at < $4 AND state = ANY ($5::text[])
    ORDER BY created_at, event_id LIMIT $6 FOR UPDATE
) AS chosen
WHERE d.merchant = chosen.merchant AND d.endpoint_id = chosen.endpoint_id AND d.event_id = chosen.event_id
"""
_REPLAY_ONE = """
UPDATE event_deliveries SET state = 'Waiting', reason = 'Replayed', ended_at = NULL, first_tried_at = NULL,
    claimed_until = NULL, due_at = now()
WHERE merchant = $1 AND endpoint_id = $2 AND event_id = $3 AND state <> 'Waiting'
"""


class TooManyEndpoints(Exception):  # noqa: N818
    """The merchant has as many as there may be."""


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """The secret of an endpoint as it is stored, encrypted."""

    secret: str
    previous_until: datetime | None


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries of an endpoint are listed; None: all."""

    state: DeliveryState | None = None
    type: str | None = None
    order: str | None = None


class WebhookEndpointStore:
    """Reads `webhook_endpoints` and their deliveries. Raises `Transient` as `session` does."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def list(self, merchant: str) -> Sequence[WebhookEndpoint]:
        """All of a merchant, the oldest first."""
        async with session(self._pool) as connection:
            return [_endpoint(row) for row in await connection.fetch(_LIST, merchant)]

    async def find(self, merchant: str, id_: str) -> WebhookEndpoint | None:
        """One of a merchant."""
        async with session(self._pool) as connection:
            row = await connection.fetchrow(_FIND, merchant, id_)
        return _endpoint(row) if row else None

    async def secret(self, merchant: str, id_: str) -> StoredSecret | None:
        """The secret of one."""
        async with session(self._pool) as connection:
            row = await connection.fetchrow(_FIND, merchant, id_)
        return StoredSecret(row["secret"], row["previous_secret_until"]) if row else None

    async def change(
        self, merchant: str, id_: str, edit: Callable[[WebhookEndpoint], EndpointDetails]
    ) -> WebhookEndpoint | None:
        """Set what `edit` makes of it. An exception of `edit` passes through, and nothing is changed."""
        async with transaction(self._pool) as connection:
            await connection.execute(_LOCK, merchant)
            row = await connection.fetchrow(_FIND, merchant, id_)
            if row is None:
                return None
            before = _endpoint(row)
            details = edit(before)
            if details == details_of(before):
                return before
            changed = await connection.fetchrow(
                _CHANGE, merchant, id_, details.url, details.description, list(details.event_types),
                details.is_enabled,
            )  # fmt: skip
        assert changed is not None, "it is locked by its subscription"
        return _endpoint(changed)

    async def delete(self, merchant: str, id_: str) -> bool:
        """Delete one, with its secret; False if there is none. Its log stays for a while."""
        async with transaction(self._pool) as connection:
            await connection.execute(_LOCK, merchant)
            return bool(await connection.execute(_DELETE, merchant, id_) == "UPDATE 1")

    async def deliveries(
        self,
        merchant: str,
        id_: str,
        which: DeliveryFilter,
        *,
        before: tuple[datetime, UUID] | None,
        limit: int,
    ) -> Sequence[EventDelivery]:
        """Deliveries of an endpoint, the newest event first, without bodies and logs.

        Args:
            before: Only those of events before this one.
        """
        async with session(self._pool) as connection:
            rows = await connection.fetch(
                _DELIVERIES, merchant, id_, which.state, which.type, which.order,
                *(before or (None, None)), limit,
            )  # fmt: skip
        return [_delivery(row) for row in rows]

    async def delivery(self, merchant: str, id_: str, event_id: UUID) -> EventDelivery | None:
        """One delivery, with its body and its log."""
        async with session(self._pool) as connection:
            return await find_delivery(connection, merchant, id_, event_id)


async def add_endpoint(
    connection: Connection, merchant: str, id_: str, details: EndpointDetails, *, secret: str, actor: str
) -> WebhookEndpoint:
    """Add an endpoint in the caller's transaction.

    Args:
        secret: Encrypted.

    Raises:
        TooManyEndpoints: see there.
    """
    await connection.execute(_LOCK, merchant)
    if await connection.fetchval(_COUNT, merchant) >= MOST_ENDPOINTS:
        raise TooManyEndpoints
    row = await connection.fetchrow(
        _ADD, merchant, id_, details.url, details.description, list(details.event_types), secret, actor,
        details.is_enabled,
    )  # fmt: skip
    assert row is not None, "it was inserted"
    return _endpoint(row)


async def rotate_secret(
    connection: Connection, merchant: str, id_: str, *, secret: str, overlap_seconds: float
) -> WebhookEndpoint | None:
    """Give an endpoint another secret in the caller's transaction; None where there is no such endpoint.

    Args:
        secret: Encrypted.
        overlap_seconds: For how long requests are signed by the one before, too.
    """
    row = await connection.fetchrow(_ROTATE, merchant, id_, secret, float(overlap_seconds))
    return _endpoint(row) if row else None


async def find_endpoint(connection: Connection, merchant: str, id_: str) -> WebhookEndpoint | None:
    """`WebhookEndpointStore.find` in the caller's transaction."""
    row = await connection.fetchrow(_FIND, merchant, id_)
    return _endpoint(row) if row else None


async def find_delivery(
    connection: Connection, merchant: str, id_: str, event_id: UUID
) -> EventDelivery | None:
    """`WebhookEndpointStore.delivery` in the caller's transaction."""
    row = await connection.fetchrow(_DELIVERY, merchant, id_, event_id)
    if row is None:
        return None
    log = await connection.fetch(_LOG, merchant, id_, event_id)
    return _delivery(row, body_of(row), tuple(_attempt(each) for each in log))


async def add_test(connection: Connection, merchant: str, id_: str) -> UUID:
    """Have an endpoint tested, in the caller's transaction; returns the id of the event."""
    event_id = uuid4()
    await connection.execute(_ADD_TEST, merchant, id_, event_id, TEST_TYPE)
    return event_id


async def replay(
    connection: Connection,
    merchant: str,
    id_: str,
    *,
    since: datetime,
    until: datetime,
    states: Sequence[DeliveryState],
) -> int:
    """Have deliveries of the events from `since` to before `until` sent again, the oldest first.

    Returns:
        How many; `MOST_REPLAYED` at most.
    """
    done: str = await connection.execute(
        _REPLAY, merchant, id_, since, until, [state.value for state in states], MOST_REPLAYED
    )
    return int(done.rpartition(" ")[2])


async def replay_one(connection: Connection, merchant: str, id_: str, event_id: UUID) -> None:
    """Have one delivery sent again; one that waits is left alone."""
    await connection.execute(_REPLAY_ONE, merchant, id_, event_id)


def details_of(endpoint: WebhookEndpoint) -> EndpointDetails:
    """What a person has set of it."""
    return EndpointDetails(
        endpoint.url, endpoint.description, endpoint.event_types, is_enabled=endpoint.disabled_at is None
    )


def body_of(row: Row) -> bytes:
    """The body of the requests of a delivery, made of its row and of the columns of its event."""
    if row["is_test"]:
        return orjson.dumps(
            test_document(row["merchant"], row["endpoint_id"], row["event_id"], row["created_at"])
        )
    event: HistoryRow = {
        "event_id": row["event_id"],
        "merchant": row["merchant"],
        "subject": row["subject"],
        "name": row["name"],
        "seq": row["seq"],
        "type": row["type"],
        "data": row["data"],
        "traceparent": row["traceparent"],
        "at": row["at"],
    }
    return to_document(event)


def _endpoint(row: Row) -> WebhookEndpoint:
    return WebhookEndpoint(
        merchant=row["merchant"],
        id=row["id"],
        url=row["url"],
        description=row["description"],
        event_types=tuple(row["event_types"]),
        version=row["version"],
        disabled_at=row["disabled_at"],
        disabled_reason=DisabledReason(row["disabled_reason"]) if row["disabled_reason"] else None,
        failing_since=row["failing_since"],
        previous_secret_until=row["previous_secret_until"],
        actor=row["actor"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _delivery(row: Row, body: bytes = b"", log: tuple[DeliveryAttempt, ...] = ()) -> EventDelivery:
    return EventDelivery(
        endpoint=row["endpoint_id"],
        event_id=row["event_id"],
        type=row["type"],
        subject=row["name"],
        sequence=row["seq"],
        state=DeliveryState(row["state"]),
        reason=row["reason"],
        attempts=row["attempt"],
        created_at=row["created_at"],
        due_at=row["due_at"],
        ended_at=row["ended_at"],
        body=body,
        log=log,
    )


def _attempt(row: Row) -> DeliveryAttempt:
    return DeliveryAttempt(
        attempt=row["attempt"],
        at=row["at"],
        url=row["url"],
        status=row["status"],
        reason=row["reason"],
        latency_seconds=row["latency_seconds"],
        answer=row["answer"],
    )
