"""An account is locked before it is changed, and looked at again: it may have changed since it was read.

Every transaction locks the user first, then an address, then logins and messages. So no two wait for each
other.
"""

from orderplane.ledgers.postgres.session import Connection


async def lock_account(
    connection: Connection,
    merchant: str,
    user_id: str,
    *,
    checked: str | None = None,
    login: str | None = None,
) -> bool:
    """Lock a user until the transaction ends; False if they are deleted.

    Args:
        checked: The hash that a password was compared with; False if the user has another password by now.
        login: The id of the login that asks; False if it has ended.
    """
    password_hash = await connection.fetchval(
        # As strong as an UPDATE: rows that refer to the user can be added meanwhile.
        "SELECT password_hash FROM users WHERE merchant = $1 AND id = $2 AND deleted_at IS NULL "
        "FOR NO KEY UPDATE",
        merchant, user_id,
    )  # fmt: skip
    if password_hash is None or (checked is not None and checked != password_hash):
        return False
    if login is None:
        return True
    # A statement of its own: that of the lock has a snapshot from before it waited.
    is_live: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM logins "
        "WHERE merchant = $1 AND id = $2 AND user_id = $3 AND revoked_at IS NULL)",
        merchant, login, user_id,
    )  # fmt: skip
    return is_live


async def lock_address(connection: Connection, merchant: str, address: str) -> None:
    """Let two who want the same address, or one who leaves it, come one after the other.

    The unique index would refuse the second one, too; but PostgreSQL would write the address into its log.
    """
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"{merchant} {address}")
