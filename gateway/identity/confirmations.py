"""What takes effect once its owner has confirmed an address: accounts, passwords, addresses and numbers."""

from uuid import UUID

from orderplane.events.account_messages import AccountMessageKind as Kind
from orderplane.gateway.identity.account_lock import lock_account, lock_address
from orderplane.gateway.identity.account_messages import Proof, add_message, use, withdraw
from orderplane.gateway.identity.login_store import revoke_logins
from orderplane.ledgers.postgres.session import Connection, Pool, session, transaction

_USER_WITH_ADDRESS = """
INSERT INTO users (merchant, id, email, email_confirmed_at, role, password_hash, name, unconfirmed_phone)
VALUES ($1, $2, $3, now(), 'customer', $4, $5, $6) ON CONFLICT DO NOTHING RETURNING id
"""
# Whoever reads the mailbox owns the account, and does not share it with others who have named the address.
_RESET = """
UPDATE users
SET password_hash = $4, email_confirmed_at = coalesce(email_confirmed_at, now()), updated_at = now()
WHERE merchant = $1 AND id = $2 AND email = $3 AND deleted_at IS NULL RETURNING id
"""
_NEW_EMAIL = """
UPDATE users u SET email = $3, email_confirmed_at = now(), unconfirmed_email = NULL, updated_at = now()
FROM users old
WHERE u.merchant = $1 AND u.id = $2 AND u.deleted_at IS NULL AND old.merchant = u.merchant AND old.id = u.id
  AND (old.unconfirmed_email = $3 OR (old.email = $3 AND old.email_confirmed_at IS NULL))
  AND NOT EXISTS (SELECT FROM users other WHERE other.merchant = $1 AND other.email = $3
                  AND other.id <> $2 AND other.deleted_at IS NULL)
RETURNING CASE WHEN old.email_confirmed_at IS NOT NULL AND old.email <> $3 THEN old.email END AS replaced
"""
_NEW_PHONE = """
UPDATE users u SET phone = $3, unconfirmed_phone = NULL, updated_at = now()
FROM users old
WHERE u.merchant = $1 AND u.id = $2 AND u.deleted_at IS NULL AND old.merchant = u.merchant AND old.id = u.id
  AND old.unconfirmed_phone = $3
RETURNING CASE WHEN old.phone <> $3 THEN old.phone END AS replaced
"""


class Confirmations:
    """Raises as `session`. A method that takes a proof uses it up."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def register(
        self, merchant: str, email: str, *, password_hash: str, name: str, phone: str | None
    ) -> None:
        """Store a registration, and have its address asked. Others for the same address do not matter."""
        async with transaction(self._pool) as connection:
            message = await add_message(connection, merchant, Kind.REGISTRATION, email)
            await connection.execute(
                "INSERT INTO registrations (message, password_hash, name, phone) VALUES ($1, $2, $3, $4)",
                message, password_hash, name, phone,
            )  # fmt: skip

    async def registered_password(self, message: UUID) -> str | None:
        """The hash of the password that a registration was made with."""
        async with session(self._pool) as connection:
            found: str | None = await connection.fetchval(
                "SELECT password_hash FROM registrations WHERE message = $1", message
            )
        return found

    async def create_account(self, proof: Proof, user_id: str) -> bool:
        """Create the account of a registration; False if its address has one by now."""
        async with transaction(self._pool) as connection:
            await lock_address(connection, proof.merchant, proof.address)
            row = await connection.fetchrow(
                "DELETE FROM registrations WHERE message = $1 RETURNING password_hash, name, phone",
                proof.message,
            )
            if row is None or not await use(connection, proof):
                return False
            made = await connection.fetchval(
                _USER_WITH_ADDRESS,
                proof.merchant, user_id, proof.address, row["password_hash"], row["name"], row["phone"],
            )  # fmt: skip
            if made is not None and row["phone"] is not None:
                await add_message(connection, proof.merchant, Kind.NEW_PHONE, row["phone"], user_id)
        return made is not None

    async def request_reset(self, merchant: str, email: str) -> None:
        """Have a link sent by which the owner of an address can set a new password, if it has an account."""
        async with session(self._pool) as connection:
            await add_message(connection, merchant, Kind.PASSWORD_RESET, email)

    async def reset_password(self, proof: Proof, password_hash: str) -> bool:
        """Set a new password, and end all logins; False if the account has another address by now."""
        async with transaction(self._pool) as connection:
            if not await _begin(connection, proof):
                return False
            found = await connection.fetchval(
                _RESET, proof.merchant, proof.user_id, proof.address, password_hash
            )
            if found is not None:
                await _password_changed(connection, proof.merchant, found)
        return found is not None

    async def change_password(self, merchant: str, user_id: str, password_hash: str, *, checked: str) -> bool:
        """Set a new password, and end all logins.

        Args:
            checked: The hash that the old password was compared with; False if it is another one by now.
        """
        async with transaction(self._pool) as connection:
            if not await lock_account(connection, merchant, user_id, checked=checked):
                return False
            await connection.execute(
                "UPDATE users SET password_hash = $3, updated_at = now() WHERE merchant = $1 AND id = $2",
                merchant, user_id, password_hash,
            )  # fmt: skip
            await _password_changed(connection, merchant, user_id)
        return True

    async def propose_email(self, merchant: str, user_id: str, email: str, *, checked: str) -> bool:
        """Have an address asked whether it belongs to a user; it takes the place of theirs when confirmed.

        Args:
            checked: The hash that the password was compared with; False if it is another one by now.
        """
        async with transaction(self._pool) as connection:
            if not await lock_account(connection, merchant, user_id, checked=checked):
                return False
            await connection.execute(
                "UPDATE users SET unconfirmed_email = nullif($3, email), updated_at = now() "
                "WHERE merchant = $1 AND id = $2",
                merchant, user_id, email,
            )  # fmt: skip
            await withdraw(connection, merchant, user_id, Kind.NEW_EMAIL)
            await add_message(connection, merchant, Kind.NEW_EMAIL, email, user_id)
        return True

    async def confirm_email(self, proof: Proof, login: str | None) -> bool:
        """Give a user their new address, and tell the old one.

        False if the address has an account by now, or if the login that asks has ended.
        """
        return await self._replace(proof, login, _NEW_EMAIL, Kind.EMAIL_CHANGED)

    async def propose_phone(self, merchant: str, user_id: str, phone: str) -> None:
        """Have a code sent to a number; it takes the place of the user's when confirmed.

        Nothing is sent for a user who is deleted.
        """
        async with transaction(self._pool) as connection:
            if not await lock_account(connection, merchant, user_id):
                return
            await connection.execute(
                "UPDATE users SET unconfirmed_phone = $3, updated_at = now() "
                "WHERE merchant = $1 AND id = $2",
                merchant, user_id, phone,
            )  # fmt: skip
            await withdraw(connection, merchant, user_id, Kind.NEW_PHONE)
            await add_message(connection, merchant, Kind.NEW_PHONE, phone, user_id)

    async def confirm_phone(self, proof: Proof, login: str | None) -> bool:
        """Give a user their new number, and tell the old one.

        False if they have named another one since, or if the login that asks has ended.
        """
        return await self._replace(proof, login, _NEW_PHONE, Kind.PHONE_CHANGED)

    async def _replace(self, proof: Proof, login: str | None, statement: str, notice: Kind) -> bool:
        async with transaction(self._pool) as connection:
            if not await _begin(connection, proof, login):
                return False
            row = await connection.fetchrow(statement, proof.merchant, proof.user_id, proof.address)
            if row is not None and row["replaced"] is not None:
                await add_message(connection, proof.merchant, notice, row["replaced"], proof.user_id)
        return row is not None


async def _password_changed(connection: Connection, merchant: str, user_id: str) -> None:
    await revoke_logins(connection, merchant, user_id)
    await withdraw(connection, merchant, user_id, Kind.PASSWORD_RESET)
    email = await connection.fetchval(
        "SELECT email FROM users WHERE merchant = $1 AND id = $2 AND email_confirmed_at IS NOT NULL "
        "AND deleted_at IS NULL",
        merchant, user_id,
    )  # fmt: skip
    if email is not None:
        await add_message(connection, merchant, Kind.PASSWORD_CHANGED, email, user_id)


async def _begin(connection: Connection, proof: Proof, login: str | None = None) -> bool:
    """Lock the account of a proof and its address, and use the proof up."""
    if proof.user_id is None:
        return False
    if not await lock_account(connection, proof.merchant, proof.user_id, login=login):
        return False
    await lock_address(connection, proof.merchant, proof.address)
    return await use(connection, proof)
