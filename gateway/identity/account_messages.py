"""Messages about accounts in PostgreSQL: ask the notifier to send one, and check the secret that came back.

A request that comes from outside only adds a row; whether there is an account for it is looked up when it is
sent. So neither its answer nor its time tells which addresses have accounts.
"""

import hashlib
import hmac
from dataclasses import dataclass
from uuid import UUID, uuid4

from orderplane.events.account_messages import (
    MAX_GUESSES,
    AccountMessageKind,
    hash_secret,
    parse_link_token,
)
from orderplane.events.notifications import Channel
from orderplane.ledgers.postgres.session import Connection, Pool, Row, session

_CHANNEL_OF = {
    AccountMessageKind.NEW_PHONE: Channel.SMS,
    AccountMessageKind.PHONE_CHANGED: Channel.SMS,
}
"""The others are mails."""

# Counted before the secret is compared, so that guesses at the same moment count, too.
_GUESS = """
UPDATE account_messages SET guesses = guesses + 1
WHERE id = $1 AND kind = $2 AND used_at IS NULL AND expires_at > now() AND guesses < $3
RETURNING merchant, user_id, address, secret_hashes
"""
_NEWEST = """
SELECT id FROM account_messages
WHERE merchant = $1 AND user_id = $2 AND kind = $3 AND address IS NOT NULL
ORDER BY created_at DESC LIMIT 1
"""
# Not `now()`, when the transaction began: it may have waited for one that has let this message expire.
_USE = """
UPDATE account_messages SET used_at = now()
WHERE id = $1 AND used_at IS NULL AND expires_at > clock_timestamp()
"""


@dataclass(frozen=True, slots=True)
class Proof:
    """A message whose secret came back: who sent it has read what was sent to `address`.

    Args:
        user_id: The account that it is about; None for a registration.
    """

    message: UUID
    merchant: str
    user_id: str | None
    address: str


async def add_message(
    connection: Connection, merchant: str, kind: AccountMessageKind, address: str, user_id: str | None = None
) -> UUID:
    """Ask the notifier to send a message, once the transaction is committed; returns its id."""
    message = uuid4()
    await connection.execute(
        "INSERT INTO account_messages (id, merchant, channel, kind, user_id, address, recipient) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7)",
        message, merchant, _CHANNEL_OF.get(kind, Channel.EMAIL).value, kind.value, user_id, address,
        recipient_hash(address),
    )  # fmt: skip
    return message


def recipient_hash(address: str) -> bytes:
    """What is stored beside an address, to count the messages to it."""
    return hashlib.sha256(address.encode()).digest()


async def use(connection: Connection, proof: Proof) -> bool:
    """Use a proof up, in the transaction of its effect; False if it was used or has expired meanwhile."""
    return bool(await connection.execute(_USE, proof.message) == "UPDATE 1")


async def withdraw(connection: Connection, merchant: str, user_id: str, *kinds: AccountMessageKind) -> None:
    """Let the links and codes of a user expire."""
    await connection.execute(
        "UPDATE account_messages SET expires_at = now() WHERE merchant = $1 AND user_id = $2 "
        "AND kind = ANY($3::text[]) AND used_at IS NULL AND expires_at > now() AND address IS NOT NULL",
        merchant, user_id, [kind.value for kind in kinds],
    )  # fmt: skip


async def erase(connection: Connection, merchant: str, user_id: str, email: str) -> None:
    """Erase the personal data in the messages about a user; those that wait are not sent any more."""
    await connection.execute(
        "UPDATE account_messages SET address = NULL, recipient = NULL, secret_hashes = '{}', "
        "state = CASE state WHEN 'Waiting' THEN 'Skipped' ELSE state END, "
        "reason = CASE state WHEN 'Waiting' THEN 'NoAccount' ELSE reason END, "
        "ended_at = coalesce(ended_at, now()) "
        "WHERE merchant = $1 AND (user_id = $2 OR recipient = $3) AND address IS NOT NULL",
        merchant, user_id, recipient_hash(email),
    )  # fmt: skip


class AccountMessages:
    """Checks the secrets that came back. Raises as `session`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def open_link(self, kind: AccountMessageKind, token: str) -> Proof | None:
        """The proof in a link's token; None if it is wrong, used, expired, or was tried too often."""
        parsed = parse_link_token(token)
        return await self._open(parsed[0], kind, parsed[1]) if parsed else None

    async def open_code(
        self, kind: AccountMessageKind, merchant: str, user_id: str, code: str
    ) -> Proof | None:
        """As `open_link`, for the newest code that was sent to a user."""
        async with session(self._pool) as connection:
            newest: UUID | None = await connection.fetchval(_NEWEST, merchant, user_id, kind.value)
        return await self._open(newest, kind, code) if newest else None

    async def _open(self, message: UUID, kind: AccountMessageKind, secret: str) -> Proof | None:
        async with session(self._pool) as connection:
            row: Row | None = await connection.fetchrow(_GUESS, message, kind.value, MAX_GUESSES)
        given = hash_secret(message, secret)
        if row is None or not any(hmac.compare_digest(given, known) for known in row["secret_hashes"]):
            return None
        return Proof(message, row["merchant"], row["user_id"], row["address"])
