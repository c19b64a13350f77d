"""The customers of the demo.

They log in through the public API. Their accounts are made as if they had confirmed address and number.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from argon2 import PasswordHasher

from orderplane.client.accounts import MemoryTokenStore, Password, set_preferences
from orderplane.client.client import Client
from orderplane.client.transport import Transport
from orderplane.dev.demo.products import MERCHANT
from orderplane.gateway.identity.user_store import EmailTaken, UserStore, new_user_id
from orderplane.gateway.principal import Role
from orderplane.ledgers.postgres.session import Pool

COUNT = 12
_PASSWORD = "a password for the demo only"  # noqa: S105
_PREFERENCES = (
    {"email": True, "sms": True}, {"email": True, "sms": False}, {"email": False, "sms": True},
    {"email": False, "sms": False},
)  # fmt: skip
"""Notification preferences, given to the customers in turn."""


@dataclass(frozen=True, slots=True)
class Customer:
    """One customer, whose tokens are kept across connections."""

    credentials: Password
    keep: MemoryTokenStore = field(default_factory=MemoryTokenStore)

    def client(self, transport: Transport) -> Client:
        """A client that acts as this customer."""
        return Client(transport, self.credentials, token_store=self.keep)


async def arrive(transport: Transport, pool: Pool, count: int = COUNT) -> list[Customer]:
    """Create and log in `count` customers. One who has an account already is only logged in.

    Raises:
        ApiProblem: the gateway refused a login.
    """
    password_hash = await asyncio.to_thread(PasswordHasher().hash, _PASSWORD)
    return list(
        await asyncio.gather(
            *(_arrive(transport, pool, number, password_hash) for number in range(1, count + 1))
        )
    )


async def _arrive(transport: Transport, pool: Pool, number: int, password_hash: str) -> Customer:
    customer = Customer(Password(f"customer-{number}@example.test", _PASSWORD))
    with suppress(EmailTaken):
        await UserStore(pool).add(
            MERCHANT, new_user_id(), email=customer.credentials.email, password_hash=password_hash,
            role=Role.CUSTOMER.value, name=f"Customer {number}", phone=f"+31970{number:08d}",
            is_confirmed=True,
        )  # fmt: skip
    client = customer.client(transport)
    await client.login.log_in()
    await set_preferences(client.caller, **_PREFERENCES[number % len(_PREFERENCES)])
    return customer
