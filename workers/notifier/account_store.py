"""Messages about accounts in PostgreSQL, from a claim to their end."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypedDict, cast
from uuid import UUID

from orderplane.events.account_messages import VALID_FOR, AccountMessageKind, hash_secret, new_secret
from orderplane.events.notifications import Channel
from orderplane.ledgers.postgres.session import Pool, session, transaction
from orderplane.workers.notifier.account_plan import AccountMessage
from orderplane.workers.notifier.plan import Final

# Who registers names the merchant. One without products is none: its name would be a stranger's words.
# A reset is about the account that the address has now. A customer's is its owner's, whoever made it. One of
# the staff has rights, and the admin who made it may have mistyped the address: it has to be confirmed first.
_CLAIM = """
WITH due AS (
    SELECT id FROM account_messages
    WHERE state = 'Waiting' AND channel = $1 AND due_at <= now()
      AND (claimed_until IS NULL OR claimed_until <= now())
    ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE account_messages m
    SET attempt = attempt + 1, unknown_attempts = unknown_attempts + 1, claimed_until = now() + $3
    FROM due WHERE m.id = due.id RETURNING m.*
)
SELECT c.id, c.merchant, c.channel, c.kind, c.address, c.attempt, c.unknown_attempts, c.created_at, c.about,
       coalesce(c.user_id, holder.id) AS user_id, holder.id IS NOT NULL AS is_address_known,
       CASE c.kind
           WHEN 'Registration' THEN EXISTS (SELECT FROM products WHERE merchant = c.merchant)
           WHEN 'PasswordReset' THEN coalesce(
               holder.role = 'customer' OR holder.email_confirmed_at IS NOT NULL, false)
           WHEN 'NewEmail' THEN coalesce(own.unconfirmed_email = c.address, false)
               OR coalesce(own.email = c.address AND own.email_confirmed_at IS NULL, false)
           WHEN 'NewPhone' THEN coalesce(own.unconfirmed_phone = c.address, false)
           ELSE own.id IS NOT NULL
       END AS is_wanted,
       earlier.in_hour, earlier.in_day
FROM claimed c
LEFT JOIN users own ON own.merchant = c.merchant AND own.id = c.user_id AND own.deleted_at IS NULL
LEFT JOIN users holder
    ON holder.merchant = c.merchant AND holder.email = c.address AND holder.deleted_at IS NULL
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE e.created_at > c.created_at - interval '1 hour') AS in_hour,
           count(*) AS in_day
    FROM account_messages e
    WHERE e.recipient = c.recipient AND e.kind = c.kind AND e.state <> 'Skipped'
      AND e.created_at > c.created_at - interval '1 day' AND (e.created_at, e.id) < (c.created_at, c.id)
) AS earlier
"""
_ARM = """
UPDATE account_messages m
SET secret_hashes = array_append(m.secret_hashes, armed.hash), expires_at = now() + armed.valid_for,
    user_id = armed.user_id
FROM unnest($1::uuid[], $2::bytea[], $3::interval[], $4::text[]) AS armed (id, hash, valid_for, user_id)
WHERE m.id = armed.id
"""
# A result is written only by the attempt that has the claim.
_FINISH = """
UPDATE account_messages SET state = $3, reason = $4, provider_id = $5,
    secret_hashes = CASE WHEN $3 = 'Sent' THEN secret_hashes ELSE '{}' END,
    unknown_attempts = unknown_attempts - 1, claimed_until = NULL, ended_at = clock_timestamp()
WHERE id = $1 AND attempt = $2 AND state = 'Waiting'
"""
# Nothing was sent, so the secret of this attempt is good for nothing.
_RETRY_LATER = """
UPDATE account_messages SET reason = $3, unknown_attempts = unknown_attempts - 1, claimed_until = NULL,
    due_at = now() + $4, secret_hashes = array_remove(secret_hashes, $5)
WHERE id = $1 AND attempt = $2 AND state = 'Waiting'
"""
_KEEP_UNKNOWN = """
UPDATE account_messages SET reason = $3 WHERE id = $1 AND attempt = $2 AND state = 'Waiting'
"""


class _ClaimedRow(TypedDict):
    """What `_CLAIM` selects."""

    id: UUID
    merchant: str
    channel: str
    kind: str
    address: str
    attempt: int
    unknown_attempts: int
    created_at: datetime
    about: str | None
    user_id: str | None
    is_address_known: bool
    is_wanted: bool
    in_hour: int
    in_day: int


class AccountMessageStore:
    """Implements `dispatcher.Queue`. Every method raises Transient if the database cannot be reached."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def claim(self, channel: Channel, limit: int, lease: timedelta) -> list[AccountMessage]:
        """Claim messages that are due, and give each a new secret; those of earlier attempts stay valid."""
        async with transaction(self._pool) as connection:
            rows = cast("Sequence[_ClaimedRow]", await connection.fetch(_CLAIM, channel.value, limit, lease))
            claimed = [(_message(row), row["user_id"]) for row in rows]
            armed = [
                (message.id, hash_secret(message.id, message.secret), VALID_FOR[message.kind], user_id)
                for message, user_id in claimed
                if message.secret is not None
            ]
            if armed:
                await connection.execute(_ARM, *(list(column) for column in zip(*armed, strict=True)))
        return [message for message, _ in claimed]

    async def finish(self, message: AccountMessage, final: Final) -> bool:
        """Write down how a message ended; False if a later attempt has begun."""
        async with session(self._pool) as connection:
            done = await connection.execute(
                _FINISH, message.id, message.attempt, final.state.value, final.reason, final.provider_id
            )
        return bool(done != "UPDATE 0")

    async def retry_later(self, message: AccountMessage, reason: str, pause: timedelta) -> None:
        """Write down that nothing was sent, and when the next attempt is due."""
        spent = hash_secret(message.id, message.secret) if message.secret else None
        async with session(self._pool) as connection:
            await connection.execute(_RETRY_LATER, message.id, message.attempt, reason, pause, spent)

    async def keep_unknown(self, message: AccountMessage, reason: str) -> None:
        """Write down why it is not known whether it was sent; it stays claimed, as after a crash."""
        async with session(self._pool) as connection:
            await connection.execute(_KEEP_UNKNOWN, message.id, message.attempt, reason)


def _message(row: _ClaimedRow) -> AccountMessage:
    kind = AccountMessageKind(row["kind"])
    return AccountMessage(
        id=row["id"],
        merchant=row["merchant"],
        channel=Channel(row["channel"]),
        kind=kind,
        recipient=row["address"],
        secret=new_secret(kind),
        attempt=row["attempt"],
        # Without this attempt, which was counted when it was claimed.
        unknown_attempts=row["unknown_attempts"] - 1,
        requested_at=row["created_at"],
        about=row["about"],
        is_wanted=row["is_wanted"],
        is_address_known=row["is_address_known"],
        earlier_in_hour=row["in_hour"],
        earlier_in_day=row["in_day"],
    )
