"""Deliveries in PostgreSQL, from a claim to their end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from orderplane.events.account_messages import AccountMessageKind
from orderplane.ledgers.postgres.session import Pool, Row, session, transaction
from orderplane.ledgers.postgres.webhook_endpoints import body_of
from orderplane.ledgers.webhook_endpoints import DisabledReason
from orderplane.workers.deliverer.plan import Claimed, Delivered, Key, Outcome, Parked, Retry

PARK_BATCH = 500

# A look into the index for each endpoint, however many deliveries wait.
_DUE = """
SELECT merchant, id FROM webhook_endpoints e
WHERE deleted_at IS NULL AND EXISTS (
    SELECT FROM event_deliveries d
    WHERE d.endpoint_id = e.id AND d.merchant = e.merchant AND d.state = 'Waiting' AND d.due_at <= now()
      AND (d.claimed_until IS NULL OR d.claimed_until <= now())
      AND (e.disabled_at IS NULL OR d.is_test))
"""
_CLAIM = """
WITH chosen AS (
    SELECT d.merchant, d.endpoint_id, d.event_id
    FROM unnest($1::text[], $2::text[], $3::int[]) AS place (merchant, endpoint_id, number)
    JOIN webhook_endpoints e ON e.merchant = place.merchant AND e.id = place.endpoint_id
    CROSS JOIN LATERAL (
        SELECT merchant, endpoint_id, event_id FROM event_deliveries w
        WHERE w.endpoint_id = e.id AND w.merchant = e.merchant AND w.state = 'Waiting' AND w.due_at <= now()
          AND (w.claimed_until IS NULL OR w.claimed_until <= now())
          AND (e.disabled_at IS NULL OR w.is_test)
        ORDER BY w.due_at LIMIT place.number FOR UPDATE SKIP LOCKED
    ) AS d
), claimed AS (
    UPDATE event_deliveries d
    SET attempt = attempt + 1, claimed_until = now() + $4, first_tried_at = coalesce(first_tried_at, now())
    FROM chosen
    WHERE d.merchant = chosen.merchant AND d.endpoint_id = chosen.endpoint_id
      AND d.event_id = chosen.event_id
    RETURNING d.*
)
SELECT c.*, clock_timestamp() - c.first_tried_at AS tried_for, e.url, e.secret,
    CASE WHEN e.previous_secret_until > now() THEN e.previous_secret END AS previous_secret,
    h.subject, h.name, h.seq, h.data::text AS data, h.traceparent, h.at
FROM claimed c
JOIN webhook_endpoints e ON e.merchant = c.merchant AND e.id = c.endpoint_id
LEFT JOIN history h ON h.event_id = c.event_id
"""
# A result is written only by the attempt that has the claim: not after a later attempt has begun, nor after a
# replay. The attempt was made in any case. Successes and failures alternate rarely, so most of the time the
# endpoint's row is only read.
_RECORD = """
WITH logged AS (
    INSERT INTO delivery_attempts (merchant, endpoint_id, event_id, attempt, at, url, status, reason,
                                   latency_seconds, answer)
    SELECT merchant, endpoint_id, event_id, $4, $5, $6, $7, $8, $9, $10 FROM event_deliveries
    WHERE merchant = $1 AND endpoint_id = $2 AND event_id = $3
    ON CONFLICT DO NOTHING
), ended AS (
    UPDATE event_deliveries SET state = $11, reason = $12, claimed_until = NULL,
        due_at = now() + $13, ended_at = CASE WHEN $11 <> 'Waiting' THEN clock_timestamp() END
    WHERE merchant = $1 AND endpoint_id = $2 AND event_id = $3 AND attempt = $4 AND state = 'Waiting'
      AND claimed_until IS NOT NULL
), endpoint AS (
    UPDATE webhook_endpoints SET failing_since = CASE WHEN $8::text IS NOT NULL THEN clock_timestamp() END
    WHERE merchant = $1 AND id = $2 AND (failing_since IS NULL) = ($8 IS NOT NULL)
)
SELECT clock_timestamp() - failing_since FROM webhook_endpoints WHERE merchant = $1 AND id = $2
"""
_DISABLE = """
UPDATE webhook_endpoints SET disabled_at = clock_timestamp(), disabled_reason = $3
WHERE merchant = $1 AND id = $2 AND disabled_at IS NULL AND deleted_at IS NULL RETURNING true
"""
# The staff whose address is confirmed; the notifier sends it.
_TELL = """
INSERT INTO account_messages (id, merchant, channel, kind, user_id, address, recipient, about)
SELECT gen_random_uuid(), merchant, 'email', $3, id, email, sha256(convert_to(email, 'UTF8')), $2
FROM users
WHERE merchant = $1 AND role IN ('merchant', 'admin') AND deleted_at IS NULL
  AND email_confirmed_at IS NOT NULL
"""
_PARK = """
UPDATE event_deliveries d SET state = 'Parked', claimed_until = NULL, ended_at = clock_timestamp(),
    reason = CASE WHEN chosen.is_deleted THEN 'EndpointDeleted' ELSE 'EndpointDisabled' END
FROM (
    SELECT w.merchant, w.endpoint_id, w.event_id, e.deleted_at IS NOT NULL AS is_deleted
    FROM webhook_endpoints e JOIN event_deliveries w ON w.endpoint_id = e.id AND w.merchant = e.merchant
    WHERE w.state = 'Waiting'
      AND (e.deleted_at IS NOT NULL OR (e.disabled_at IS NOT NULL AND NOT w.is_test))
    LIMIT $1 FOR UPDATE OF w SKIP LOCKED
) AS chosen
WHERE d.merchant = chosen.merchant AND d.endpoint_id = chosen.endpoint_id AND d.event_id = chosen.event_id
"""
# What waits for an endpoint that takes nothing, or for a pause, is not late.
_COUNTS = """
SELECT (SELECT count(*) FROM event_deliveries WHERE state = 'Waiting') AS waiting,
    coalesce((
        SELECT extract(epoch FROM clock_timestamp() - min(oldest.due_at))
        FROM webhook_endpoints e CROSS JOIN LATERAL (
            SELECT d.due_at FROM event_deliveries d
            WHERE d.endpoint_id = e.id AND d.merchant = e.merchant AND d.state = 'Waiting'
            ORDER BY d.due_at LIMIT 1
        ) AS oldest
        WHERE e.disabled_at IS NULL AND e.deleted_at IS NULL AND e.failing_since IS NULL
          AND oldest.due_at <= clock_timestamp()
    ), 0)::float8 AS age,
    count(*) FILTER (WHERE failing_since IS NOT NULL AND disabled_at IS NULL) AS failing,
    count(*) FILTER (WHERE disabled_reason IN ('Failing', 'Gone')) AS disabled
FROM webhook_endpoints WHERE deleted_at IS NULL
"""
_SECRETS = "SELECT merchant, id, secret, previous_secret FROM webhook_endpoints WHERE deleted_at IS NULL"
_RENEW = """
UPDATE webhook_endpoints SET secret = $4, previous_secret = $6
WHERE merchant = $1 AND id = $2 AND secret = $3 AND previous_secret IS NOT DISTINCT FROM $5
"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request and its answer, for the log."""

    at: datetime
    status: int | None
    reason: str | None
    seconds: float
    answer: str


@dataclass(frozen=True, slots=True)
class Counts:
    """Deliveries that wait, the age of the oldest that could be sent, and endpoints that take nothing."""

    waiting: int
    oldest_seconds: float
    failing: int
    disabled: int


class DeliveryStore:
    """The rows of deliveries. Every method raises Transient if the database cannot be reached."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def due(self) -> list[Key]:
        """Endpoints with deliveries that are due."""
        async with session(self._pool) as connection:
            return [(row["merchant"], row["id"]) for row in await connection.fetch(_DUE)]

    async def claim(self, places: Mapping[Key, int], lease: timedelta) -> list[Claimed]:
        """Claim deliveries that are due, so many of each endpoint; nobody else can claim them meanwhile."""
        keys = list(places)
        async with session(self._pool) as connection:
            rows = await connection.fetch(
                _CLAIM, [merchant for merchant, _ in keys], [id_ for _, id_ in keys],
                [places[key] for key in keys], lease,
            )  # fmt: skip
        return [_claimed(row) for row in rows]

    async def record(self, delivery: Claimed, attempt: Attempt, outcome: Outcome) -> timedelta | None:
        """Write down what came of an attempt.

        Returns:
            For how long the endpoint has taken nothing; None if it takes what it gets.
        """
        async with session(self._pool) as connection:
            failing_for = await connection.fetchval(
                _RECORD, delivery.merchant, delivery.endpoint, delivery.event_id, delivery.attempt,
                attempt.at, delivery.url, attempt.status, attempt.reason, attempt.seconds, attempt.answer,
                *_ended(outcome),
            )  # fmt: skip
        return cast("timedelta | None", failing_for)

    async def disable(self, key: Key, reason: DisabledReason) -> bool:
        """Send nothing to an endpoint any more, and have its merchant's staff told, once."""
        async with transaction(self._pool) as connection:
            if not await connection.fetchval(_DISABLE, *key, reason.value):
                return False
            await connection.execute(_TELL, *key, AccountMessageKind.ENDPOINT_DISABLED.value)
        return True

    async def park(self) -> int:
        """Park what waits for endpoints that are disabled or deleted; `PARK_BATCH` at most."""
        async with session(self._pool) as connection:
            done: str = await connection.execute(_PARK, PARK_BATCH)
        return int(done.rpartition(" ")[2])

    async def counts(self) -> Counts:
        """How much waits."""
        async with session(self._pool) as connection:
            row: Any = await connection.fetchrow(_COUNTS)
        return Counts(row["waiting"], max(0.0, row["age"]), row["failing"], row["disabled"])

    async def secrets(self) -> Sequence[tuple[Key, str, str | None]]:
        """All secrets, encrypted: of each endpoint the present one and the one before."""
        async with session(self._pool) as connection:
            rows = await connection.fetch(_SECRETS)
        return [((row["merchant"], row["id"]), row["secret"], row["previous_secret"]) for row in rows]

    async def renew(self, key: Key, before: tuple[str, str | None], after: tuple[str, str | None]) -> None:
        """Store secrets that were encrypted anew, unless they have changed meanwhile."""
        async with session(self._pool) as connection:
            await connection.execute(_RENEW, *key, before[0], after[0], before[1], after[1])


def _ended(outcome: Outcome) -> tuple[str, str | None, timedelta]:
    match outcome:
        case Delivered():
            return "Delivered", None, timedelta()
        case Parked(reason):
            return "Parked", reason, timedelta()
        case Retry(reason, pause):
            return "Waiting", reason, pause


def _claimed(row: Row) -> Claimed:
    return Claimed(
        merchant=row["merchant"],
        endpoint=row["endpoint_id"],
        event_id=row["event_id"],
        type=row["type"],
        is_test=row["is_test"],
        attempt=row["attempt"],
        tried_for=row["tried_for"],
        created_at=row["created_at"],
        url=row["url"],
        secret=row["secret"],
        previous_secret=row["previous_secret"],
        body=body_of(row),
    )
