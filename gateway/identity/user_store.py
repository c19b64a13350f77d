"""Users and services in PostgreSQL."""

import base64
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orderplane.gateway.identity.account_changes import announce
from orderplane.gateway.identity.account_lock import lock_account, lock_address
from orderplane.gateway.identity.account_messages import erase
from orderplane.gateway.identity.login_store import revoke_logins
from orderplane.ledgers.postgres.session import Pool, act_as, session, transaction


class EmailTaken(Exception):  # noqa: N818
    """Another user of this merchant has this e-mail address."""


@dataclass(frozen=True, slots=True)
class User:
    """A user of one merchant.

    Args:
        phone: Confirmed by the user.
        unconfirmed_email, unconfirmed_phone: Take the place of the others once they are confirmed.
        preferences: Through which channels they get notifications.
    """

    id: str
    email: str
    is_email_confirmed: bool
    name: str
    phone: str | None
    unconfirmed_email: str | None
    unconfirmed_phone: str | None
    role: str
    preferences: dict[str, bool]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Client:
    """A service of one merchant."""

    id: str
    name: str
    created_at: datetime


class UserStore:
    """Users, and services (clients) that call on their own behalf. Raises as `session`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(
        self,
        merchant: str,
        user_id: str,
        *,
        email: str,
        password_hash: str,
        role: str,
        name: str = "",
        phone: str | None = None,
        is_confirmed: bool = False,
        actor: str | None = None,
    ) -> User:
        """Create a user.

        Args:
            is_confirmed: The user is known to read what is sent to the address. Nothing is sent to another.

        Raises:
            EmailTaken: another user has the address.
        """
        async with transaction(self._pool) as connection:
            await act_as(connection, actor)
            # ON CONFLICT instead of an error: PostgreSQL would write the e-mail address into its log.
            row = await connection.fetchrow(
                "INSERT INTO users "
                "(merchant, id, email, password_hash, role, name, phone, email_confirmed_at) "
                "VALUES ($1, $2, $3, $4, $5, $6, $7, CASE WHEN $8 THEN now() END) "
                "ON CONFLICT DO NOTHING RETURNING *",
                merchant, user_id, email.lower(), password_hash, role, name, phone, is_confirmed,
            )  # fmt: skip
        if row is None:
            raise EmailTaken(merchant)
        return _user(row)

    async def find(self, merchant: str, user_id: str) -> User | None:
        """A user who is not deleted."""
        async with session(self._pool) as connection:
            row = await connection.fetchrow(
                "SELECT * FROM users "
                "WHERE merchant = $1 AND id = $2 AND deleted_at IS NULL",
                merchant, user_id,
            )  # fmt: skip
        return _user(row) if row else None

    async def page(self, merchant: str, *, after: str, limit: int) -> list[User]:
        """The next users by id, after the given one."""
        async with session(self._pool) as connection:
            rows = await connection.fetch(
                "SELECT * FROM users "
                "WHERE merchant = $1 AND id > $2 AND deleted_at IS NULL ORDER BY id LIMIT $3",
                merchant, after, limit,
            )  # fmt: skip
        return [_user(row) for row in rows]

    async def credentials(self, merchant: str, email: str) -> tuple[User, str] | None:
        """The user with an e-mail address, and the hash of their password."""
        async with session(self._pool) as connection:
            row = await connection.fetchrow(
                "SELECT * FROM users "
                "WHERE merchant = $1 AND email = $2 AND deleted_at IS NULL",
                merchant, email.lower(),
            )  # fmt: skip
        return (_user(row), row["password_hash"]) if row else None

    async def password_hash(self, merchant: str, user_id: str) -> str | None:
        """The hash of a user's password."""
        async with session(self._pool) as connection:
            found: str | None = await connection.fetchval(
                "SELECT password_hash FROM users WHERE merchant = $1 AND id = $2 AND deleted_at IS NULL",
                merchant, user_id,
            )  # fmt: skip
        return found

    async def change(self, merchant: str, user_id: str, changes: dict[str, Any]) -> User | None:
        """Set `name` and single `preferences`, and remove the number if `phone` is null.

        Members that are not in `changes` stay.
        """
        async with session(self._pool) as connection:
            row = await connection.fetchrow(
                "UPDATE users SET updated_at = now(), "
                "name = CASE WHEN $3 ? 'name' THEN $3 ->> 'name' ELSE name END, "
                "phone = CASE WHEN $3 -> 'phone' = 'null' THEN NULL ELSE phone END, "
                "unconfirmed_phone = CASE WHEN $3 ? 'phone' THEN NULL ELSE unconfirmed_phone END, "
                "preferences = preferences || coalesce($3 -> 'preferences', '{}') "
                "WHERE merchant = $1 AND id = $2 AND deleted_at IS NULL RETURNING *",
                merchant, user_id, changes,
            )  # fmt: skip
        return _user(row) if row else None

    async def rehash_password(self, merchant: str, user_id: str, password_hash: str, *, checked: str) -> None:
        """Store another hash of the same password.

        Args:
            checked: The hash that the password was compared with; nothing is stored if it is another by now.
        """
        async with session(self._pool) as connection:
            await connection.execute(
                "UPDATE users SET password_hash = $3 "
                "WHERE merchant = $1 AND id = $2 AND password_hash = $4 AND deleted_at IS NULL",
                merchant, user_id, password_hash, checked,
            )  # fmt: skip

    async def delete(
        self, merchant: str, user_id: str, *, login: str | None = None, actor: str | None = None
    ) -> bool:
        """Erase the personal data of a user and revoke their logins; False if there was none.

        The row stays, because orders refer to it; nothing in it identifies a person.

        Args:
            login: The login of the user that asks; False if it has ended.
        """
        async with transaction(self._pool) as connection:
            await act_as(connection, actor)
            if not await lock_account(connection, merchant, user_id, login=login):
                return False
            email = await connection.fetchval(
                "SELECT email FROM users WHERE merchant = $1 AND id = $2", merchant, user_id
            )
            await lock_address(connection, merchant, email)
            await connection.execute(
                "UPDATE users SET deleted_at = now(), updated_at = now(), "
                "email = id || '@deleted.invalid', name = '', "
                "email_confirmed_at = NULL, unconfirmed_email = NULL, "
                "phone = NULL, unconfirmed_phone = NULL, "
                "password_hash = '', preferences = '{\"email\": false, \"sms\": false}' "
                "WHERE merchant = $1 AND id = $2",
                merchant, user_id,
            )  # fmt: skip
            await connection.execute(
                "DELETE FROM known_addresses WHERE merchant = $1 AND user_id = $2", merchant, user_id
            )
            await erase(connection, merchant, user_id, email)
            await revoke_logins(connection, merchant, user_id)
        return True

    async def role_of(self, merchant: str, name: str, login: str | None = None) -> str | None:
        """The role of a user or service; None if it is deleted or revoked.

        Args:
            login: Also None if this login of the user has ended.
        """
        async with session(self._pool) as connection:
            found: str | None = await connection.fetchval(
                "SELECT role FROM users WHERE merchant = $1 AND id = $2 AND deleted_at IS NULL "
                "AND ($3::uuid IS NULL OR EXISTS (SELECT FROM logins "
                "WHERE merchant = $1 AND id = $3 AND user_id = $2 AND revoked_at IS NULL)) "
                "UNION ALL SELECT 'service' FROM clients "
                "WHERE merchant = $1 AND id = $2 AND revoked_at IS NULL LIMIT 1",
                merchant, name, login,
            )  # fmt: skip
        return found

    async def recently_changed(self) -> list[tuple[str, str]]:
        """Users and services changed in the last 15 s:

        `updated_at` is older than the commit that shows it.
        """
        async with session(self._pool) as connection:
            rows = await connection.fetch(
                "SELECT merchant, id FROM users WHERE updated_at > now() - interval '15 s' "
                "UNION SELECT merchant, user_id FROM logins WHERE revoked_at > now() - interval '15 s' "
                "UNION SELECT merchant, id FROM clients WHERE revoked_at > now() - interval '15 s'"
            )
        return [(row["merchant"], row["id"]) for row in rows]

    async def add_client(
        self, merchant: str, client_id: str, *, name: str, secret_hash: bytes, actor: str | None = None
    ) -> Client:
        """Create a service."""
        async with transaction(self._pool) as connection:
            await act_as(connection, actor)
            row = await connection.fetchrow(
                "INSERT INTO clients (merchant, id, name, secret_hash) VALUES ($1, $2, $3, $4) RETURNING *",
                merchant, client_id, name, secret_hash,
            )  # fmt: skip
        assert row is not None, "an INSERT without a conflict has a row"
        return _client(row)

    async def clients(self, merchant: str, *, after: str, limit: int) -> list[Client]:
        """The next services by id, after the given one; revoked ones are left out."""
        async with session(self._pool) as connection:
            rows = await connection.fetch(
                "SELECT * FROM clients "
                "WHERE merchant = $1 AND id > $2 AND revoked_at IS NULL ORDER BY id LIMIT $3",
                merchant, after, limit,
            )  # fmt: skip
        return [_client(row) for row in rows]

    async def revoke_client(self, merchant: str, client_id: str, *, actor: str) -> bool:
        """End a service's access, tokens that it has too; False if there is none."""
        async with transaction(self._pool) as connection:
            await act_as(connection, actor)
            done = await connection.fetchval(
                "UPDATE clients SET revoked_at = now() "
                "WHERE merchant = $1 AND id = $2 AND revoked_at IS NULL RETURNING true",
                merchant, client_id,
            )  # fmt: skip
            if done:
                await announce(connection, merchant, client_id)
        return bool(done)

    async def client_secret(self, merchant: str, client_id: str) -> bytes | None:
        """The hash of a service's secret."""
        async with session(self._pool) as connection:
            found: bytes | None = await connection.fetchval(
                "SELECT secret_hash FROM clients WHERE merchant = $1 AND id = $2 AND revoked_at IS NULL",
                merchant, client_id,
            )  # fmt: skip
        return found


def _user(row: Any) -> User:
    return User(
        id=row["id"],
        email=row["email"],
        is_email_confirmed=row["email_confirmed_at"] is not None,
        name=row["name"],
        phone=row["phone"],
        unconfirmed_email=row["unconfirmed_email"],
        unconfirmed_phone=row["unconfirmed_phone"],
        role=row["role"],
        preferences=row["preferences"],
        created_at=row["created_at"],
    )


def _client(row: Any) -> Client:
    return Client(row["id"], row["name"], row["created_at"])


def new_user_id() -> str:
    """`u-` and 16 characters, 80 random bits."""
    return f"u-{_random_suffix()}"


def new_client_id() -> str:
    """`c-` and 16 characters."""
    return f"c-{_random_suffix()}"


def _random_suffix() -> str:
    return base64.b32encode(secrets.token_bytes(10)).decode().lower()
