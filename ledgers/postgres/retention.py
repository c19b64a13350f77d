"""Rows that are not needed any more, and how they are deleted. docs/retention.md lists every table.

A batch is one short transaction. An advisory lock in it lets one replica purge at a time; it ends with the
transaction, so nobody has to give it back.
"""

from dataclasses import dataclass

import asyncpg

from orderplane.ledgers.postgres.session import Pool, session, transaction

LOCK = 0x6F70_0003
"""Key of the advisory lock."""

_LOCK = "SELECT pg_try_advisory_xact_lock($1)"


@dataclass(frozen=True, slots=True)
class Rule:
    """Which rows of one table may go.

    Args:
        purge: Deletes the oldest of them, or erases what is personal in them; at most $1.
        overdue: Seconds since the oldest of them could have been deleted; null where there is none.
    """

    table: str
    purge: str
    overdue: str


# A request that was not answered for a day is not finished any more. Its manifest has an address.
_ERASE_MANIFESTS = """
UPDATE idempotency SET manifest = NULL WHERE (merchant, principal, key_hash) IN (
    SELECT merchant, principal, key_hash FROM idempotency
    WHERE manifest IS NOT NULL AND created_at < now() - interval '1 day' AND claimed_until <= now()
    ORDER BY created_at LIMIT $1
)
"""

# An idempotency key is kept for 30 days at least; the key of an order also until a day after its order is
# sealed.
_PURGE_KEYS = """
DELETE FROM idempotency WHERE (merchant, principal, key_hash) IN (
    SELECT merchant, principal, key_hash FROM idempotency i
    WHERE created_at < now() - interval '30 days' AND NOT EXISTS (
        SELECT FROM orders o
        WHERE i.kind = 'Order' AND o.merchant = i.merchant AND o.name = i.name
          AND (o.sealed_at IS NULL OR o.sealed_at > now() - interval '1 day')
    )
    ORDER BY created_at LIMIT $1
)
"""
_OVERDUE_KEY = """
SELECT greatest((
    SELECT extract(epoch FROM now() - interval '1 day' - created_at) FROM idempotency
    WHERE manifest IS NOT NULL AND created_at < now() - interval '1 day' AND claimed_until <= now()
    ORDER BY created_at LIMIT 1
), (
    SELECT extract(epoch FROM now() - interval '30 days' - created_at) FROM idempotency i
    WHERE created_at < now() - interval '30 days' AND NOT EXISTS (
        SELECT FROM orders o
        WHERE i.kind = 'Order' AND o.merchant = i.merchant AND o.name = i.name
          AND (o.sealed_at IS NULL OR o.sealed_at > now() - interval '1 day')
    )
    ORDER BY created_at LIMIT 1
))
"""

# A login is kept until a day after its end: then none of its tokens is accepted any more, by any clock. Its
# refresh tokens go before it; with it, any number of them would go in one statement.
_PURGE_REFRESH = """
DELETE FROM refresh_tokens WHERE (merchant, hash) IN (
    SELECT t.merchant, t.hash FROM logins l
    JOIN refresh_tokens t ON t.login = l.id AND t.merchant = l.merchant
    WHERE least(l.expires_at, l.revoked_at) < now() - interval '1 day' LIMIT $1
)
"""
_OVERDUE_REFRESH = """
SELECT extract(epoch FROM now() - interval '1 day' - least(l.expires_at, l.revoked_at)) FROM logins l
WHERE least(l.expires_at, l.revoked_at) < now() - interval '1 day'
  AND EXISTS (SELECT FROM refresh_tokens t WHERE t.login = l.id AND t.merchant = l.merchant)
ORDER BY least(l.expires_at, l.revoked_at) LIMIT 1
"""
_PURGE_LOGINS = """
DELETE FROM logins WHERE (merchant, id) IN (
    SELECT merchant, id FROM logins l
    WHERE least(l.expires_at, l.revoked_at) < now() - interval '1 day'
      AND NOT EXISTS (SELECT FROM refresh_tokens t WHERE t.login = l.id AND t.merchant = l.merchant)
    ORDER BY least(l.expires_at, l.revoked_at) LIMIT $1
)
"""
_OVERDUE_LOGIN = """
SELECT extract(epoch FROM now() - interval '1 day' - least(l.expires_at, l.revoked_at)) FROM logins l
WHERE least(l.expires_at, l.revoked_at) < now() - interval '1 day'
ORDER BY least(l.expires_at, l.revoked_at) LIMIT 1
"""

# A message that may have been sent stays, without anything that identifies a person: the audit compares it
# with what the providers have sent. Nothing else is left of a message a day after it expired.
_PURGE_MESSAGES = """
DELETE FROM account_messages WHERE id IN (
    SELECT id FROM account_messages
    WHERE address IS NOT NULL AND expires_at < now() - interval '1 day'
      AND state IN ('Skipped', 'Dead') AND unknown_attempts = 0
    ORDER BY expires_at LIMIT $1
)
"""
_ERASE_MESSAGES = """
WITH old AS (
    SELECT id FROM account_messages WHERE address IS NOT NULL AND expires_at < now() - interval '1 day'
    ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM registrations r USING old WHERE r.message = old.id
)
UPDATE account_messages m SET address = NULL, recipient = NULL, secret_hashes = '{}',
    state = CASE state WHEN 'Waiting' THEN 'Dead' ELSE state END,
    reason = CASE state WHEN 'Waiting' THEN 'GivenUp' ELSE reason END,
    ended_at = coalesce(ended_at, now())
FROM old WHERE m.id = old.id
"""
_OVERDUE_MESSAGE = """
SELECT extract(epoch FROM now() - interval '1 day' - expires_at) FROM account_messages
WHERE address IS NOT NULL AND expires_at < now() - interval '1 day' ORDER BY expires_at LIMIT 1
"""
_PURGE_KNOWN = """
DELETE FROM known_addresses WHERE (merchant, user_id, hash) IN (
    SELECT merchant, user_id, hash FROM known_addresses WHERE expires_at < now() ORDER BY expires_at LIMIT $1
)
"""
_OVERDUE_KNOWN = """
SELECT extract(epoch FROM now() - expires_at) FROM known_addresses
WHERE expires_at < now() ORDER BY expires_at LIMIT 1
"""

# The log of an attempt goes with its delivery, and an endpoint that is deleted with the last of them.
_PURGE_DELIVERIES = """
DELETE FROM event_deliveries WHERE (merchant, endpoint_id, event_id) IN (
    SELECT merchant, endpoint_id, event_id FROM event_deliveries
    WHERE state <> 'Waiting' AND ended_at < now() - interval '30 days' ORDER BY ended_at LIMIT $1
)
"""
_OVERDUE_DELIVERY = """
SELECT extract(epoch FROM now() - interval '30 days' - ended_at) FROM event_deliveries
WHERE state <> 'Waiting' AND ended_at < now() - interval '30 days' ORDER BY ended_at LIMIT 1
"""
_PURGE_ENDPOINTS = """
DELETE FROM webhook_endpoints WHERE (merchant, id) IN (
    SELECT merchant, id FROM webhook_endpoints e
    WHERE deleted_at < now() - interval '1 day' AND NOT EXISTS (
        SELECT FROM event_deliveries d WHERE d.endpoint_id = e.id AND d.merchant = e.merchant)
    ORDER BY deleted_at LIMIT $1
)
"""
_OVERDUE_ENDPOINT = """
SELECT extract(epoch FROM now() - interval '1 day' - deleted_at) FROM webhook_endpoints e
WHERE deleted_at < now() - interval '1 day' AND NOT EXISTS (
    SELECT FROM event_deliveries d WHERE d.endpoint_id = e.id AND d.merchant = e.merchant)
ORDER BY deleted_at LIMIT 1
"""

RULES = (
    Rule("idempotency", _ERASE_MANIFESTS, _OVERDUE_KEY),
    Rule("idempotency", _PURGE_KEYS, _OVERDUE_KEY),
    Rule("refresh_tokens", _PURGE_REFRESH, _OVERDUE_REFRESH),
    Rule("logins", _PURGE_LOGINS, _OVERDUE_LOGIN),
    Rule("account_messages", _PURGE_MESSAGES, _OVERDUE_MESSAGE),
    Rule("account_messages", _ERASE_MESSAGES, _OVERDUE_MESSAGE),
    Rule("known_addresses", _PURGE_KNOWN, _OVERDUE_KNOWN),
    Rule("event_deliveries", _PURGE_DELIVERIES, _OVERDUE_DELIVERY),
    Rule("webhook_endpoints", _PURGE_ENDPOINTS, _OVERDUE_ENDPOINT),
)


MONTHS_AHEAD = 3
"""Partitions of the archive are made so long before they are needed."""


class PostgresRetention:
    """Deletes what the rules name. Raises as `session` does."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def purge(self, rule: Rule, limit: int) -> int | None:
        """Delete at most `limit` rows; returns how many, None where another replica is purging."""
        async with transaction(self._pool) as connection:
            if not await connection.fetchval(_LOCK, LOCK):
                return None
            tag = await connection.execute(rule.purge, limit)
        return int(tag.rpartition(" ")[2])

    async def turn_partitions(self, archive_months: int) -> int:
        """Make the partitions of the archive that will be needed, and drop those that ended so many months
        ago, none with 0; returns how many were dropped."""
        try:
            async with transaction(self._pool) as connection:
                await connection.execute("SET LOCAL lock_timeout = '2s'")
                await connection.fetchval("SELECT make_archive_partitions($1)", MONTHS_AHEAD)
                if not archive_months:
                    return 0
                return int(await connection.fetchval("SELECT drop_archive_partitions($1)", archive_months))
        except asyncpg.LockNotAvailableError:
            # Somebody reads the archive for long, such as an audit: the next time, then.
            return 0

    async def overdue_seconds(self, rule: Rule) -> float:
        """How long the oldest row that may go has been waiting for it; 0 where there is none."""
        async with session(self._pool) as connection:
            return float(await connection.fetchval(rule.overdue) or 0)
