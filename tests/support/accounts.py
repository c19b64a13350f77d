"""Links and codes, as if their messages had arrived."""

from orderplane.events.account_messages import AccountMessageKind, hash_secret, link_token, new_secret
from orderplane.ledgers.postgres.session import Pool


async def secret_to(pool: Pool, address: str, kind: AccountMessageKind) -> str:
    """The link token or code in the newest message of a kind to an address; it need not have been sent."""
    secret = new_secret(kind)
    assert secret is not None
    message = await pool.fetchval(
        "SELECT id FROM account_messages WHERE address = $1 AND kind = $2 ORDER BY created_at DESC LIMIT 1",
        address, kind.value,
    )  # fmt: skip
    assert message is not None, f"no {kind} message to this address was asked for"
    await pool.execute(
        "UPDATE account_messages SET secret_hashes = array_append(secret_hashes, $2), "
        "user_id = coalesce(user_id, (SELECT id FROM users WHERE merchant = account_messages.merchant "
        "AND email = address AND deleted_at IS NULL)) WHERE id = $1",
        message, hash_secret(message, secret),
    )  # fmt: skip
    return secret if kind is AccountMessageKind.NEW_PHONE else link_token(message, secret)
