"""Logins and their refresh tokens in PostgreSQL.

A refresh token is good once. One that comes a second time was stolen, or its thief came first: nobody can
tell which, so the whole family ends (RFC 9700, 4.14.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

from orderplane.ledgers.postgres.session import Connection, Pool, session, transaction

KEEP_DAYS = 30


@dataclass(frozen=True, slots=True)
class Login:
    """Whose refresh token it was, and what it may be exchanged for."""

    user_id: str
    scopes: Sequence[str]


class LoginStore:
    """Everything by the SHA-256 of a token; the tokens themselves are kept nowhere."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def begin(self, merchant: str, user_id: str, scopes: Sequence[str], token_hash: bytes) -> None:
        """A user has logged in."""
        async with transaction(self._pool) as connection:
            login = await connection.fetchval(
                "INSERT INTO logins (merchant, id, user_id, scopes, expires_at) "
                "VALUES ($1, $2, $3, $4, now() + make_interval(days => $5)) RETURNING id",
                merchant, uuid4(), user_id, list(scopes), KEEP_DAYS,
            )  # fmt: skip
            await connection.execute(
                "INSERT INTO refresh_tokens (merchant, hash, login) VALUES ($1, $2, $3)",
                merchant, token_hash, login,
            )  # fmt: skip

    async def rotate(self, merchant: str, old_hash: bytes, new_hash: bytes) -> Login | None:
        """Exchange a token; None where it is not good any more. One that was used ends its family."""
        async with transaction(self._pool) as connection:
            row = await connection.fetchrow(
                "SELECT t.used_at, t.login, l.user_id, l.scopes, "
                "l.revoked_at IS NULL AND l.expires_at > now() AS is_live "
                "FROM refresh_tokens t JOIN logins l ON l.merchant = t.merchant AND l.id = t.login "
                "WHERE t.merchant = $1 AND t.hash = $2 FOR UPDATE OF t, l",
                merchant, old_hash,
            )  # fmt: skip
            if row is None:
                return None
            if row["used_at"] is not None:
                await _end(connection, merchant, row["login"])
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
        return Login(row["user_id"], row["scopes"])

    async def end(self, merchant: str, token_hash: bytes) -> None:
        """Log out: no token of the family is good any more. An unknown one is no error (RFC 7009, 2.2)."""
        async with transaction(self._pool) as connection:
            login = await connection.fetchval(
                "SELECT login FROM refresh_tokens WHERE merchant = $1 AND hash = $2", merchant, token_hash
            )
            if login is not None:
                await _end(connection, merchant, login)

    async def purge(self, limit: int) -> int:
        """Remove families that ran out a day ago; answers how many."""
        async with session(self._pool) as connection:
            done = await connection.execute(
                "DELETE FROM logins WHERE (merchant, id) IN (SELECT merchant, id FROM logins "
                "WHERE expires_at < now() - interval '1 day' LIMIT $1)",
                limit,
            )
        return int(done.split()[-1])


async def _end(connection: Connection, merchant: str, login: object) -> None:
    await connection.execute(
        "UPDATE logins SET revoked_at = coalesce(revoked_at, now()) WHERE merchant = $1 AND id = $2",
        merchant, login,
    )  # fmt: skip
