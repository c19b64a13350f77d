"""Logins and their refresh tokens in PostgreSQL.

A refresh token can be used once. If it is used again, either the client or a thief holds a copy, and nobody
can tell which: the whole login is revoked (RFC 9700, 4.14.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from orderplane.gateway.identity.account_changes import announce
from orderplane.gateway.identity.account_lock import lock_account
from orderplane.ledgers.postgres.session import Connection, Pool, transaction

LIFETIME_DAYS = 30


@dataclass(frozen=True, slots=True)
class Login:
    """The login that a refresh token belongs to.

    Args:
        age_seconds: Since it was created, when the password was checked, by PostgreSQL's clock.
    """

    id: UUID
    user_id: str
    scopes: Sequence[str]
    age_seconds: float


class LoginStore:
    """Logins by the SHA-256 of their refresh tokens;

    the tokens themselves are not stored. Raises as `session`.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(
        self, merchant: str, user_id: str, scopes: Sequence[str], token_hash: bytes, *, checked: str
    ) -> Login | None:
        """Store a new login with its first refresh token.

        Args:
            checked: The hash that the password was compared with; None if it is another one by now.
        """
        async with transaction(self._pool) as connection:
            if not await lock_account(connection, merchant, user_id, checked=checked):
                return None
            login: UUID = await connection.fetchval(
                "INSERT INTO logins (merchant, id, user_id, scopes, expires_at) "
                "VALUES ($1, $2, $3, $4, now() + make_interval(days => $5)) RETURNING id",
                merchant, uuid4(), user_id, list(scopes), LIFETIME_DAYS,
            )  # fmt: skip
            await connection.execute(
                "INSERT INTO refresh_tokens (merchant, hash, login) VALUES ($1, $2, $3)",
                merchant, token_hash, login,
            )  # fmt: skip
        return Login(login, user_id, scopes, 0.0)

    async def rotate(self, merchant: str, old_hash: bytes, new_hash: bytes) -> Login | None:
        """Replace a token; None if it is not valid. A token that was used before revokes its login."""
        async with transaction(self._pool) as connection:
            row = await connection.fetchrow(
                "SELECT t.used_at, t.login, l.user_id, l.scopes, "
                "extract(epoch FROM now() - l.created_at)::float8 AS age_seconds, "
                "l.revoked_at IS NULL AND l.expires_at > now() AS is_live "
                "FROM refresh_tokens t JOIN logins l ON l.merchant = t.merchant AND l.id = t.login "
                "WHERE t.merchant = $1 AND t.hash = $2 FOR UPDATE OF t, l",
                merchant, old_hash,
            )  # fmt: skip
            if row is None:
                return None
            if row["used_at"] is not None:
                await _revoke(connection, merchant, row["login"], row["user_id"])
                return None
            if not row["is_live"]:
                return None
            await connection.execute(
                "UPDATE refresh_tokens SET used_at = now() WHERE merchant = $1 AND hash = $2",
                merchant, old_hash,
            )  # fmt: skip
            await connection.execute(
                "INSERT INTO refresh_tokens (merchant, hash, login) VALUES ($1, $2, $3)",
                merchant, new_hash, row["login"],
            )  # fmt: skip
        return Login(row["login"], row["user_id"], row["scopes"], row["age_seconds"])

    async def revoke(self, merchant: str, token_hash: bytes) -> None:
        """Revoke the login of a token; an unknown token is not an error (RFC 7009, 2.2)."""
        async with transaction(self._pool) as connection:
            row = await connection.fetchrow(
                "SELECT l.id, l.user_id FROM refresh_tokens t "
                "JOIN logins l ON l.merchant = t.merchant AND l.id = t.login "
                "WHERE t.merchant = $1 AND t.hash = $2",
                merchant, token_hash,
            )  # fmt: skip
            if row is not None:
                await _revoke(connection, merchant, row["id"], row["user_id"])

    async def revoke_all(self, merchant: str, user_id: str) -> None:
        """Revoke every login of a user. One that is made at the same moment comes before or after it."""
        async with transaction(self._pool) as connection:
            await lock_account(connection, merchant, user_id)
            await revoke_logins(connection, merchant, user_id)


async def revoke_logins(connection: Connection, merchant: str, user_id: str) -> None:
    """Revoke every login of a user, in the caller's transaction, which has locked the account."""
    await connection.execute(
        "UPDATE logins SET revoked_at = now() WHERE merchant = $1 AND user_id = $2 AND revoked_at IS NULL",
        merchant, user_id,
    )  # fmt: skip
    await announce(connection, merchant, user_id)


async def _revoke(connection: Connection, merchant: str, login: UUID, user_id: str) -> None:
    await connection.execute(
        "UPDATE logins SET revoked_at = coalesce(revoked_at, now()) WHERE merchant = $1 AND id = $2",
        merchant, login,
    )  # fmt: skip
    await announce(connection, merchant, user_id)
