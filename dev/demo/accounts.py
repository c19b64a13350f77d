"""The first accounts of the demo merchant: an administrator, and a service of the shop."""

import secrets

from orderplane.cli.documents import Document
from orderplane.dev.demo.products import MERCHANT
from orderplane.gateway.identity.grants import new_secret
from orderplane.gateway.identity.passwords import Passwords
from orderplane.gateway.identity.user_store import EmailTaken, UserStore, new_client_id, new_user_id
from orderplane.gateway.principal import Role
from orderplane.ledgers.postgres.session import Pool

ADMINISTRATOR = "admin@shop.example"


class Accounts(Document):
    """What is shown once. `adminPassword` is null where the administrator was there before."""

    admin: str
    admin_password: str | None
    client_id: str
    client_secret: str


async def add_accounts(pool: Pool) -> Accounts:
    """Add an administrator with a random password, and a service with credentials of its own."""
    password = secrets.token_urlsafe(12)
    is_new = await add_administrator(pool, password)
    client_id, (secret, secret_hash) = new_client_id(), new_secret()
    await UserStore(pool).add_client(MERCHANT, client_id, name="shop", secret_hash=secret_hash)
    return Accounts(
        admin=ADMINISTRATOR,
        admin_password=password if is_new else None,
        client_id=client_id,
        client_secret=secret,
    )


async def add_administrator(pool: Pool, password: str) -> bool:
    """Add `ADMINISTRATOR`; False if there is one already, who keeps the password."""
    async with Passwords() as passwords:
        password_hash = await passwords.hash(password)
    try:
        await UserStore(pool).add(
            MERCHANT, new_user_id(), email=ADMINISTRATOR, password_hash=password_hash,
            role=Role.ADMIN.value, is_confirmed=True,
        )  # fmt: skip
    except EmailTaken:
        return False
    return True
